//! The node's iptables programs: some that fail, hang, or are tried.

use std::{os::unix::fs::MetadataExt as _, time::Instant};

use crate::support::{
    lab::{BOTH, CONFIG, Node, PodNet, on_node},
    landings::profile,
    pods::given_with,
    traced::traced_add,
};

const DNS: (&str, &str) = ("ISTIO_META_DNS_CAPTURE", "true");

/// Puts a script in a program's place; `$REAL` is the program.
fn script(node: &Node, program: &str, text: &str) {
    let (path, real) = (
        node.path("usr/sbin").join(program),
        format!("/real/{program}"),
    );
    let target = std::fs::read_link(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(node.path("real")).unwrap();
    std::os::unix::fs::symlink(
        std::path::Path::new("/usr/sbin").join(target),
        node.path(&real[1..]),
    )
    .unwrap();
    node.install_script(&path, &format!("REAL={real}\n{text}"));
}

/// The processes whose root is the node's.
fn running_on(node: &Node) -> Vec<u32> {
    let root = std::fs::metadata(node.path("")).unwrap();
    let is_there = |pid: &u32| {
        std::fs::metadata(format!("/proc/{pid}/root")).is_ok_and(|of_process| {
            (of_process.dev(), of_process.ino()) == (root.dev(), root.ino())
        })
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(is_there).collect()
}

fn dual_stack_by_iptables(node: &Node) -> String {
    profile(node, "{backend: Iptables}");
    given_with(node, "tproxy", &[], &[DNS, ("ISTIO_DUAL_STACK", "true")])
}

#[test]
fn ipv4_is_undone_if_ipv6_fails_and_the_missing_feature_is_named() {
    on_node(|node| {
        node.install_iptables(&["nft"]);
        let args = dual_stack_by_iptables(node);
        // the trial has one rule only
        let says = "ip6tables-nft-restore v1.8.9 (nf_tables): Couldn't load match owner: No such file or directory";
        script(
            node,
            "ip6tables-nft-restore",
            &format!(
                "IFS= read -r line; case \"$line\" in \"*nat\") exit 0;; esac\necho \"{says}\" >&2; exit 2"
            ),
        );
        let lab = node.pod("a", BOTH);
        let (rules, before) = (
            || lab.state().split("----").next().unwrap().to_owned(),
            lab.state(),
        );
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("KernelUnsupported: /usr/sbin/ip6tables-nft-restore")
                && message.contains("kernel module xt_owner")
                && message.contains("Couldn't load match owner"),
            "{message}"
        );
        assert!(
            !rules().contains("ISTIO") && !rules().contains("-j") && !rules().contains("jump"),
            "{}",
            rules()
        );
        assert_eq!(
            lab.state().split_once("----").unwrap().1,
            before.split_once("----").unwrap().1,
            "addresses, rules and routes are undone"
        );
    });
}

#[test]
fn a_program_that_hangs_is_killed_at_the_deadline() {
    for program in [
        "iptables-nft-save",
        "iptables-nft-restore",
        "ip6tables-nft-restore",
    ] {
        on_node(|node| {
            node.write(
                "etc/mesh-optin/node.yaml",
                "{sources: [manifests], manifests: /manifests, deadline: 10s}",
            );
            node.install_iptables(&["nft"]);
            let args = dual_stack_by_iptables(node);
            // not in the trial, which asks a save for its version and gives a restore no option
            let in_earnest = if program.ends_with("save") {
                "0"
            } else {
                "1 -o $# = 2"
            };
            script(
                node,
                program,
                &format!(
                    "[ $# = {in_earnest} ] || exec \"$REAL\" \"$@\"
while :; do :; done"
                ),
            );
            let lab = node.pod("a", BOTH);
            let started = Instant::now();
            let (message, code) = node.call("ADD", &lab.netns, &args, CONFIG).error();
            assert!(
                message.starts_with("DeadlineExceeded: ")
                    && message.contains(program)
                    && code == 11,
                "{message}"
            );
            // the script never ends by itself; the deadline is 10 s
            assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
            assert_eq!(running_on(node), [0; 0]);
        });
    }
}

#[test]
fn the_programs_are_tried_once_per_node_and_the_trial_leaves_no_trace() {
    on_node(|node| {
        node.install_iptables(&["nft", "legacy"]);
        let args = dual_stack_by_iptables(node);
        let mut programs = Vec::new();
        for name in ["a", "b"] {
            let lab = node.pod(name, BOTH);
            let add = traced_add(node, &lab.netns, &args, CONFIG, &[]);
            assert_eq!(add.call.as_ref().unwrap().code, 0, "{:?}", add.call);
            programs.push(
                add.programs()
                    .iter()
                    .filter(|p| p.contains("tables"))
                    .count(),
            );
            assert_eq!(
                crate::support::lab::inside(&lab.pod, || std::fs::read_to_string(
                    "/proc/thread-self/net/ip_tables_names"
                )
                .unwrap_or_default()),
                ""
            );
            std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).unwrap();
        }
        // read, apply and read back, for each family
        assert_eq!(programs[1], 6, "{programs:?}");
        assert!(programs[0] > programs[1]);
        // one that was removed is looked for again
        std::fs::remove_file(node.path("usr/sbin/iptables-nft-save")).unwrap();
        let lab = node.pod("c", PodNet::default());
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG)
                .error()
                .0
                .split(':')
                .next(),
            Some("NoPrimaryInterface")
        );
        let lab = node.pod("d", BOTH);
        let add = node.call("ADD", &lab.netns, &args, CONFIG);
        assert_eq!(add.code, 0, "{add:?}");
    });
}
