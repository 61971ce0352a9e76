//! Nodes that lack something: a kernel without nf_tables, without some module of it, without IPv6; no iptables, or one that fails or hangs.
//! What the kernel here has, is asked for by a name that it does not have, so that it refuses by itself; for a module of nf_tables its
//! refusal is made one of the message that needs it.

use crate::support::{
    lab::{APP, BOTH, CONFIG, Node, PodLab, V4, on_node},
    landings::{profile, verified},
    pods::given_with,
    traced::{Sent, Traced, traced_add},
};
use nix::errno::Errno;

const DNS: (&str, &str) = ("ISTIO_META_DNS_CAPTURE", "true");

/// What a node lacks.
struct Lack {
    name: &'static str,
    /// The injections, from what an ADD does that lacks nothing.
    inject: fn(&Traced) -> Vec<String>,
    /// What the remedy names.
    module: &'static str,
}

/// The transaction refused: its begin names a subsystem that knows none (1, conntrack) instead of nf_tables (10).
fn refused(whole: &Traced) -> (Sent, String) {
    let batch = whole
        .sent()
        .into_iter()
        .find(|s| s.bytes.windows(10).any(|w| w == b"mesh-optin") && s.bytes.len() > 500)
        .expect("a transaction");
    assert_eq!(batch.bytes[18..20], [0, 10]);
    let inject = batch.with(18, &[0, 1]);
    (batch, inject)
}

fn without(whole: &Traced, expression: &[u8], errno: Errno) -> Vec<String> {
    let (batch, refused) = refused(whole);
    vec![refused, batch.refused(expression, errno as i32)]
}

fn lacks() -> Vec<Lack> {
    vec![
        Lack {
            name: "the socket",
            inject: |whole| {
                vec![format!(
                    "socket:error=EPROTONOSUPPORT:when={}",
                    whole.nth("socket", "NETLINK_NETFILTER")
                )]
            },
            module: "nf_tables",
        },
        Lack {
            name: "nf_tables",
            inject: |whole| vec![refused(whole).1],
            module: "nf_tables",
        },
        Lack {
            name: "nft_redir",
            inject: |whole| without(whole, b"redir\0", Errno::ENOENT),
            module: "nft_redir",
        },
        Lack {
            name: "nft_tproxy",
            inject: |whole| without(whole, b"tproxy\0", Errno::ENOENT),
            module: "nft_tproxy",
        },
        Lack {
            name: "conntrack zones",
            // NFTA_CT_KEY: 17 is the zone
            inject: |whole| without(whole, &[8, 0, 2, 0, 0, 0, 0, 17], Errno::EOPNOTSUPP),
            module: "CONFIG_NF_CONNTRACK_ZONES",
        },
    ]
}

fn given(node: &Node, backend: &str) -> String {
    profile(node, &format!("{{backend: {backend}}}"));
    given_with(node, "tproxy", &[], &[DNS])
}

/// An ADD that lacks nothing, in another namespace.
fn whole(node: &Node, args: &str) -> Traced {
    let lab = node.pod("whole", V4);
    let whole = traced_add(node, &lab.netns, args, CONFIG, &[]);
    assert_eq!(whole.call.as_ref().unwrap().code, 0, "{:?}", whole.call);
    std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
    whole
}

#[test]
fn a_missing_kernel_feature_is_named_and_nothing_is_half_done() {
    for lack in lacks() {
        on_node(|node| {
            let args = given(node, "Nftables");
            let inject = (lack.inject)(&whole(node, &args));
            let lab = node.pod("a", V4);
            let before = lab.state();
            let (message, code) = traced_add(node, &lab.netns, &args, CONFIG, &inject)
                .call
                .unwrap()
                .error();
            assert!(
                message.starts_with("KernelUnsupported: ") && code == 11,
                "{}: {message}",
                lack.name
            );
            assert!(message.contains(lack.module), "{}: {message}", lack.name);
            assert_eq!(lab.state(), before, "{}", lack.name);
            assert_eq!(
                node.call("ADD", &lab.netns, &args, CONFIG).code,
                0,
                "the next ADD succeeds"
            );
        });
    }
}

#[test]
fn without_netns_cookies_the_remedy_helps_with_either_backend() {
    for backend in ["Auto", "Iptables"] {
        on_node(|node| {
            let args = given(node, "Nftables");
            let nth = whole(node, &args).nth("getsockopt", "SOL_SOCKET");
            profile(node, &format!("{{backend: {backend}}}"));
            let lab = node.pod("a", V4);
            let inject = [format!("getsockopt:error=ENOPROTOOPT:when={nth}")];
            let call = traced_add(node, &lab.netns, &args, CONFIG, &inject)
                .call
                .unwrap();
            let (message, code) = call.error();
            assert!(
                message.ends_with("; run Linux 5.14 or later on the node") && code == 11,
                "{message}"
            );
        });
    }
}

fn is_redirected(node: &Node, lab: &PodLab) {
    assert_eq!(lab.dial_out(APP, "93.184.216.34:80"), "pod:15001");
    assert_eq!(lab.dial_in("10.244.0.5:8080"), "pod:15006");
    verified(node);
}

#[test]
fn auto_falls_back_to_iptables_says_why_and_stays_there() {
    for lack in lacks() {
        on_node(|node| {
            node.install_iptables(&["nft", "legacy"]);
            let args = given(node, "Auto");
            let inject = (lack.inject)(&whole(node, &args));
            let lab = node.pod("a", V4);
            let add = traced_add(node, &lab.netns, &args, CONFIG, &inject)
                .call
                .unwrap();
            assert_eq!(
                (add.code, add.logged_reason().as_str()),
                (0, "Redirected"),
                "{}: {add:?}",
                lack.name
            );
            assert!(
                add.stderr
                    .contains("iptables is used: nf_tables cannot be ("),
                "{}: {add:?}",
                lack.name
            );
            assert!(!lab.state().contains("inet mesh-optin"));
            is_redirected(node, &lab);
            // also where nf_tables is there by then
            let again = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!(again.logged_reason(), "AlreadyRedirected", "{again:?}");
            assert!(!lab.state().contains("inet mesh-optin"));
            assert_eq!(node.call("CHECK", &lab.netns, &args, CONFIG).code, 0);
        });
    }
}

#[test]
fn auto_uses_nftables_where_available_and_looks_for_no_program() {
    on_node(|node| {
        node.install_iptables(&["nft", "legacy"]);
        let args = given(node, "Auto");
        let lab = node.pod("a", V4);
        let add = traced_add(node, &lab.netns, &args, CONFIG, &[]);
        assert!(lab.state().contains("inet mesh-optin"));
        assert_eq!(
            add.programs()
                .iter()
                .filter(|p| !p.contains("strace"))
                .collect::<Vec<_>>(),
            [&"/mesh-optin"]
        );
    });
}

#[test]
fn a_refusal_is_no_reason_to_fall_back() {
    on_node(|node| {
        node.install_iptables(&["legacy"]);
        let args = given(node, "Auto");
        let socket = whole(node, &args).nth("socket", "NETLINK_NETFILTER");
        let lab = node.pod("a", V4);
        let before = lab.state();
        for errno in ["EPERM", "EACCES", "ENOMEM"] {
            let add = traced_add(
                node,
                &lab.netns,
                &args,
                CONFIG,
                &[format!("socket:error={errno}:when={socket}")],
            );
            assert!(!add.programs().iter().any(|p| p.contains("tables")));
            let (message, _) = add.call.unwrap().error();
            assert!(
                message.starts_with("KernelRefused: opening a nf_tables socket"),
                "{errno}: {message}"
            );
            assert_eq!(lab.state(), before);
        }
    });
}

#[test]
fn without_nf_tables_and_without_iptables_both_are_named() {
    on_node(|node| {
        let args = given(node, "Auto");
        let inject = (lacks()[0].inject)(&whole(node, &args));
        let lab = node.pod("a", V4);
        let before = lab.state();
        let (message, code) = traced_add(node, &lab.netns, &args, CONFIG, &inject)
            .call
            .unwrap()
            .error();
        assert!(
            message.starts_with("IptablesMissing: no iptables for IPv4 works on this node")
                && code == 11,
            "{message}"
        );
        assert!(
            message.contains("iptables-nft-save")
                && message.contains("/usr/local/sbin")
                && message.contains("opening a nf_tables socket"),
            "{message}"
        );
        assert_eq!(lab.state(), before);
    });
}

/// The message that adds `::6` to lo, for a family that the kernel does not have.
fn without_ipv6(whole: &Traced) -> Vec<String> {
    let sent = whole.sent();
    let address = sent
        .iter()
        .find(|s| s.bytes.get(4..6) == Some(&[20, 0]))
        .expect("RTM_NEWADDR");
    assert_eq!(address.bytes[16], 10);
    vec![address.with(16, &[99])]
}

#[test]
fn a_kernel_without_ipv6_needs_no_ipv6_address_but_a_pod_with_ipv6_does() {
    for (net, code) in [(V4, 0), (BOTH, 1)] {
        on_node(|node| {
            profile(node, "{ipFamilies: All}");
            let args = given_with(node, "defaults", &[], &[]);
            let lab = node.pod("whole", net);
            let inject = without_ipv6(&traced_add(node, &lab.netns, &args, CONFIG, &[]));
            std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
            let lab = node.pod("a", net);
            let before = lab.state();
            let add = traced_add(node, &lab.netns, &args, CONFIG, &inject)
                .call
                .unwrap();
            assert_eq!(add.code, code, "{net:?}: {add:?}");
            if code == 0 {
                assert_eq!(lab.dial_out(APP, "93.184.216.34:80"), "pod:15001");
                assert_eq!(node.call("CHECK", &lab.netns, &args, CONFIG).code, 0);
            } else {
                assert!(
                    add.error()
                        .0
                        .starts_with("KernelUnsupported: adding ::6/128 to lo"),
                    "{add:?}"
                );
                assert_eq!(lab.state(), before);
            }
        });
    }
}
