//! Real connections in networks as secondary CNI plugins leave them: which interfaces and families are captured, and whose rules come first.

use crate::support::{
    lab::{APP, CONFIG, Call, Node, PodLab, PodNet, V4, V4_NET1, V6, dial, inside, on_node},
    landings::{both_families_are_captured, inbound, outbound, profile},
    pods::{given, given_with},
    run,
};

/// IPv4 and IPv6 on net1, as a macvlan network may have them.
const NET1: PodNet = PodNet { net1: true, ..V4 };

/// Commands of `ip` in the pod.
fn ip(lab: &PodLab, commands: &[&str]) {
    for command in commands {
        let args: Vec<_> = command.split(' ').collect();
        inside(&lab.pod, || run("ip", &args, ""));
    }
}

/// What the sbr plugin does for a macvlan interface: its own table for what comes from its address.
const SBR: [&str; 2] = [
    "route add default via 172.30.0.1 dev net1 table 100",
    "rule add from 172.30.0.5 lookup 100",
];

fn add(node: &Node, lab: &PodLab, args: &str) -> Call {
    let call = node.call("ADD", &lab.netns, args, CONFIG);
    assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
    call
}

#[test]
fn default_routes_of_other_tables_or_router_advertisements_make_no_interface_primary() {
    let advertised = ["-6 route add default via fd00:30::1 dev net1 proto ra metric 1024"];
    let worse = ["route add default via 172.30.0.1 dev net1 metric 9"];
    for routes in [&SBR[..], &advertised, &worse] {
        on_node(|node| {
            profile(node, "{interfaces: Primary}");
            let args = given(node, "defaults");
            let lab = node.pod("pod", NET1);
            ip(&lab, routes);
            add(node, &lab, &args);
            inbound(
                &lab,
                &[
                    ("172.30.0.5:8080", "pod:8080"),
                    ("10.244.0.5:8080", "pod:15006"),
                ],
            );
        });
    }
}

#[test]
fn the_holder_of_the_default_route_is_primary_and_so_is_eth0() {
    on_node(|node| {
        profile(node, "{interfaces: Primary}");
        let args = given(node, "defaults");
        let lab = node.pod("pod", V4_NET1);
        // as Multus does for `default-route`
        ip(&lab, &["route replace default via 172.30.0.1 dev net1"]);
        add(node, &lab, &args);
        inbound(
            &lab,
            &[
                ("172.30.0.5:8080", "pod:15006"),
                ("10.244.0.5:8080", "pod:15006"),
            ],
        );
    });
}

#[test]
fn with_sbr_packets_marked_by_tproxy_reach_the_sidecar_not_the_secondary_interface() {
    on_node(|node| {
        let tproxy = [("sidecar.istio.io/interceptionMode", "TPROXY")];
        let env = [("ISTIO_META_INTERCEPTION_MODE", "TPROXY")];
        let args = given_with(node, "tproxy", &tproxy, &env);
        let lab = node.pod("pod", V4_NET1);
        ip(&lab, &SBR);
        let call = add(node, &lab, &args);
        assert!(!call.stderr.contains("Preempted"), "{call:?}");
        inbound(
            &lab,
            &[
                ("172.30.0.5:8080", "pod:15006"),
                ("10.244.0.5:8080", "pod:15006"),
            ],
        );
        let route = inside(&lab.pod, || {
            run(
                "ip",
                &[
                    "route",
                    "get",
                    "192.0.2.9",
                    "from",
                    "172.30.0.5",
                    "mark",
                    "0x539",
                ],
                "",
            )
        });
        assert!(
            route.starts_with("local 192.0.2.9 from 172.30.0.5 dev lo table 133"),
            "{route}"
        );
        // what comes before ours is reported, whatever its priority
        assert_eq!(node.call("CHECK", &lab.netns, &args, CONFIG).stderr, "");
        ip(&lab, &["rule add pref 7 from 172.30.0.5 lookup 100"]);
        let check = node.call("CHECK", &lab.netns, &args, CONFIG);
        assert!(
            check.stderr.contains("Preempted: IPv4 policy rules"),
            "{check:?}"
        );
    });
}

#[test]
fn a_secondary_network_of_ipv6_alone_is_reported_and_with_the_default_route_captured() {
    let alone = "addr del 172.30.0.5/24 dev net1";
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("pod", NET1);
        ip(&lab, &[alone]);
        let call = add(node, &lab, &args);
        assert!(
            call.stderr
                .contains("FamilyNotCaptured: net1 has an IPv6 address"),
            "{call:?}"
        );
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "[fd00:30::1]:80", "world:80"),
            ],
        );
    });
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("pod", NET1);
        ip(
            &lab,
            &[alone, "-6 route replace default via fd00:30::1 dev net1"],
        );
        let call = add(node, &lab, &args);
        assert!(!call.stderr.contains("FamilyNotCaptured"), "{call:?}");
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "[2606:2800::1]:80", "pod:15001"),
            ],
        );
        inbound(&lab, &[("[fd00:30::5]:8080", "pod:15006")]);
    });
}

#[test]
fn an_ipv4_interface_with_the_default_route_leaves_an_ipv6_only_pod_captured() {
    on_node(|node| {
        let args = given(node, "ipv6-only");
        let lab = node.pod("pod", PodNet { net1: true, ..V6 });
        ip(
            &lab,
            &[
                "-6 addr del fd00:30::5/64 dev net1",
                "route replace default via 172.30.0.1 dev net1",
            ],
        );
        add(node, &lab, &args);
        both_families_are_captured(&lab);
    });
}

/// OVN-Kubernetes leaves eth0 on the default network, and gives the pod of a primary user-defined network ovn-udn1 with the default routes
/// (go-controller/pkg/cni/helper_linux.go and pkg/util/multi_network.go of ovn-kubernetes).
fn primary_user_defined_network(lab: &PodLab, addresses: &[&str]) {
    let mut commands = vec![
        "link set net1 down",
        "link set net1 name ovn-udn1",
        "link set ovn-udn1 up",
    ];
    commands.extend(addresses);
    commands.push("route del default");
    ip(lab, &commands);
}

#[test]
fn the_families_of_a_primary_user_defined_network_count_like_those_of_eth0() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("pod", NET1);
        let v6 = [
            "addr del 172.30.0.5/24 dev ovn-udn1",
            "-6 addr replace fd00:30::5/64 dev ovn-udn1 nodad",
            "-6 route replace default via fd00:30::1 dev ovn-udn1",
        ];
        primary_user_defined_network(&lab, &v6);
        add(node, &lab, &args);
        outbound(&lab, &[(APP, "[2606:2800::1]:80", "pod:15001")]);
        inbound(
            &lab,
            &[
                ("[fd00:30::5]:8080", "pod:15006"),
                ("10.244.0.5:8080", "pod:15006"),
            ],
        );
    });
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("pod", NET1);
        let both = [
            "-6 addr replace fd00:30::5/64 dev ovn-udn1 nodad",
            "-6 route replace default via fd00:30::1 dev ovn-udn1",
        ];
        primary_user_defined_network(&lab, &both);
        ip(&lab, &["route replace default via 172.30.0.1 dev ovn-udn1"]);
        let call = add(node, &lab, &args);
        assert!(
            call.stderr
                .contains("FamilyNotCaptured: ovn-udn1 has an IPv6 address"),
            "{call:?}"
        );
        inbound(&lab, &[("172.30.0.5:8080", "pod:15006")]);
    });
}

/// KubeVirt's bindings bridge and l2bridge: virt-launcher makes the pod's interface a port of a bridge, after the pod started, and gives the guest its
/// address (pkg/network/driver and pkg/network/setup of kubevirt).
#[test]
fn a_captured_interface_that_becomes_a_bridge_port_bypasses() {
    // a primary user-defined network's is called ovn-udn1, and its name stays (l2bridge)
    for primary in [false, true] {
        on_node(|node| {
            let args = given(node, "defaults");
            let lab = node.pod("pod", V4_NET1);
            if primary {
                primary_user_defined_network(&lab, &[]);
                ip(&lab, &["route add default via 172.30.0.1 dev ovn-udn1"]);
            }
            add(node, &lab, &args);
            let verify = || {
                let output = node.program(&["verify", "--all"]).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                (output.status.code(), text)
            };
            assert_eq!(verify().0, Some(0));
            ip(&lab, &["link add k6t-net1 type bridge"]);
            let name = if primary { "ovn-udn1" } else { "net1" };
            if primary {
                ip(&lab, &["link set ovn-udn1 master k6t-net1"]);
            } else {
                // its name becomes that of an interface that only has its address
                let commands = [
                    "link set net1 down",
                    "link set net1 name net1-nic",
                    "link set net1-nic up",
                    "link set net1-nic master k6t-net1",
                ];
                ip(&lab, &commands);
            }
            let (code, text) = verify();
            let says = format!(
                "Bypassing: {name} is now a bridge port: packets there bypass the redirection"
            );
            assert!(code == Some(5) && text.contains(&says), "{code:?} {text}");
            let (message, _) = node.call("CHECK", &lab.netns, &args, CONFIG).error();
            assert!(message.starts_with(&says), "{message}");
        });
    }
    on_node(|node| {
        let excluded = [("traffic.sidecar.istio.io/excludeInterfaces", "net1")];
        let args = given_with(node, "defaults", &excluded, &[]);
        let lab = node.pod("pod", V4_NET1);
        add(node, &lab, &args);
        ip(
            &lab,
            &[
                "link add k6t-net1 type bridge",
                "link set net1 master k6t-net1",
            ],
        );
        assert_eq!(
            node.call("CHECK", &lab.netns, &args, CONFIG).code,
            0,
            "it is not captured"
        );
    });
}

/// KubeVirt's masquerade binding: a guest behind a bridge of the pod, and NAT rules that virt-launcher makes after the pod started
/// (pkg/network/setup/masquerade.go of kubevirt).
#[test]
fn a_guest_behind_masquerade_is_captured_out_and_in() {
    on_node(|node| {
        let reroute = [("istio.io/reroute-virtual-interfaces", "k6t-eth0")];
        let args = given_with(node, "defaults", &reroute, &[]);
        let lab = node.pod("pod", V4);
        add(node, &lab, &args);
        let guest = node.new_netns("guest");
        let path = node.path("run/netns/guest");
        ip(
            &lab,
            &[
                "link add k6t-eth0 type bridge",
                "addr add 10.0.2.1/24 dev k6t-eth0",
                "link set k6t-eth0 up",
                &format!(
                    "link add tap0 type veth peer name eth0 netns {}",
                    path.display()
                ),
                "link set tap0 master k6t-eth0",
                "link set tap0 up",
            ],
        );
        inside(&guest, || {
            for command in [
                "link set eth0 up",
                "addr add 10.0.2.2/24 dev eth0",
                "route add default via 10.0.2.1",
            ] {
                run("ip", &command.split(' ').collect::<Vec<_>>(), "");
            }
        });
        inside(&lab.pod, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            // with a sidecar it forwards nothing by itself: what the sidecar sends on goes to the guest
            let nat = "table ip nat {\n\
                chain postrouting { type nat hook postrouting priority 100; ip saddr 10.0.2.2 counter masquerade; }\n\
                chain output { type nat hook output priority -100; ip daddr { 127.0.0.1, 10.244.0.5 } counter dnat to 10.0.2.2; }\n}";
            run("nft", &["-f", "-"], nat);
        });
        assert_eq!(dial(&guest, APP, "93.184.216.34:80"), "pod:15001");
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006")]);
        assert_eq!(node.call("CHECK", &lab.netns, &args, CONFIG).code, 0);
    });
}
