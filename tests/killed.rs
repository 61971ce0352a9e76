//! Killed at the calls of its threads, one after the other: packets see no rule or all rules, and the next ADD succeeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use support::{
    lab::{Node, PodNet, on_node},
    pods::given,
};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;

/// An ADD under strace: killed at the `n`th call of `syscall` by any of its threads, or with none just traced. Whether it was killed,
/// and the calls that it made.
fn traced(node: &Node, netns: &str, args: &str, kill: Option<(&str, usize)>) -> (bool, Vec<String>) {
    let (root, trace) = (node.path(""), node.path("trace"));
    let inject = kill.map_or_else(String::new, |(syscall, n)| format!("-e inject={syscall}:signal=KILL:when={n}"));
    let script = format!("exec strace -f -qq -o {} {inject} chroot {} /mesh-optin", trace.display(), root.display());
    #[allow(clippy::disallowed_methods, reason = "strace kills")]
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs([("CNI_COMMAND", "ADD"), ("CNI_NETNS", netns), ("CNI_ARGS", args), ("CNI_CONTAINERID", "c0ffee"), ("CNI_IFNAME", "net1")]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), CONFIG.as_bytes()).ok();
    // strace ends as what it traces ended
    let killed = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()) == Some(9);
    let name = |line: &str| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0.to_owned());
    (killed, std::fs::read_to_string(trace).unwrap().lines().filter_map(name).collect())
}

#[test]
fn killed_at_a_system_call_it_leaves_no_rule_or_all_rules_and_the_next_add_succeeds() {
    on_node(|node| {
        let args = given(node, "dual-stack");
        let lab = node.pod("a", PodNet { v4: true, v6: true, net1: false });
        let tables = || support::lab::inside(&lab.pod, || support::run("nft", &["list", "ruleset"], ""));
        let forget = || {
            support::lab::inside(&lab.pod, || support::run("nft", &["flush", "ruleset"], ""));
            std::fs::remove_dir_all(node.path("run/mesh-optin")).ok();
        };
        let (killed, calls) = traced(node, &lab.netns, &args, None);
        let whole = tables();
        assert!(!killed && whole.contains("mesh-optin"));
        let (mut none, mut all, mut missed, mut counts) = (0, 0, 0, std::collections::BTreeMap::new());
        for syscall in calls.iter().filter(|c| *c != "execve" && !c.starts_with("exit")) {
            let n = counts.entry(syscall).and_modify(|n| *n += 1).or_insert(1);
            forget();
            if !traced(node, &lab.netns, &args, Some((syscall, *n))).0 {
                missed += 1; // strace counts each thread's calls by themselves: no thread came that far
                continue;
            }
            match tables().as_str() {
                "" => none += 1,
                text if text == whole => all += 1,
                part => panic!("killed at {syscall} {n}: {part}"),
            }
            let next = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!((next.code, tables() == whole), (0, true), "after a kill at {syscall} {n}: {next:?}");
        }
        println!("killed {} times: {none} times no rule was there, {all} times all were; {missed} calls were not reached", none + all);
        assert!(none > 50 && all > 10 && missed < none, "{none} {all} {missed}");
    });
}
