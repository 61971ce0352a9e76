//! A pod with `hostUsers: false`: its users are others outside, and rules mean those inside.

use crate::support::{
    lab::{BOTH, CONFIG, Owner, on_node},
    landings::{inbound, outbound, profile, verified},
    pods::given_with,
};

/// Where the pod's user 0 is outside.
const FIRST: u32 = 200_000;

#[test]
fn users_of_the_user_namespace_of_the_pod_count_with_every_backend() {
    let inside = |uid, gid| Owner {
        uid: FIRST + uid,
        gid: FIRST + gid,
    };
    for (backend, variant) in [
        ("Nftables", "nft"),
        ("Iptables", "nft"),
        ("Iptables", "legacy"),
    ] {
        on_node(|node| {
            node.install_iptables(&[variant]);
            profile(node, &format!("{{backend: {backend}}}"));
            let args = given_with(
                node,
                "defaults",
                &[],
                &[
                    ("ISTIO_DUAL_STACK", "true"),
                    ("ISTIO_META_DNS_CAPTURE", "true"),
                ],
            );
            let lab = node.pod_in(node.new_netns_of_users("pod", FIRST), "pod", BOTH);
            let add = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!(add.code, 0, "{backend} {variant}: {add:?}");
            outbound(
                &lab,
                &[
                    (inside(1000, 1000), "93.184.216.34:80", "pod:15001"),
                    (inside(1337, 0), "93.184.216.34:80", "world:80"),
                    (inside(0, 1337), "[2606:2800::1]:80", "world:80"),
                    (
                        Owner {
                            uid: 1337,
                            gid: 1337,
                        },
                        "93.184.216.34:80",
                        "pod:15001",
                    ),
                    (inside(1337, 1337), "10.244.0.5:8080", "pod:15006"),
                ],
            );
            inbound(
                &lab,
                &[
                    ("10.244.0.5:8080", "pod:15006"),
                    ("[fd00:244::5]:8080", "pod:15006"),
                ],
            );
            verified(node);
        });
    }
}
