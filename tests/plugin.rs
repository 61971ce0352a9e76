//! The program as Multus calls it: real processes in an empty root, real network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{
    lab::{Node, PodNet, on_node},
    pods::{cni_args, data, given},
};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;
const V4: PodNet = PodNet { v4: true, v6: false, net1: false };

#[test]
fn an_opted_in_pod_is_redirected_and_a_second_add_changes_nothing() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let add = || node.call("ADD", &lab.netns, &args, CONFIG);
        let first = add();
        assert_eq!((first.code, first.stdout.trim()), (0, r#"{"cniVersion":"1.1.0"}"#), "{first:?}");
        assert_eq!(first.logged_reason(), "Redirected");
        let state = lab.state();
        assert!(state.contains("table inet mesh-optin"), "{state}");
        let second = add();
        assert_eq!((second.code, second.logged_reason().as_str()), (0, "AlreadyRedirected"), "{second:?}");
        assert_eq!(lab.state(), state);
        let check = node.call("CHECK", &lab.netns, &args, CONFIG);
        assert_eq!((check.code, check.stdout.as_str()), (0, ""), "{check:?}");
    });
}

#[test]
fn a_pod_that_is_skipped_is_untouched_to_the_byte() {
    for (name, reason) in [("opt-out", "OptedOut"), ("gateway", "NotASidecarProxy"), ("none", "InterceptionNone")] {
        on_node(|node| {
            let args = given(node, name);
            let lab = node.pod("a", PodNet { v4: true, v6: true, net1: true });
            let before = lab.state();
            let add = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!((add.code, add.stdout.trim(), add.logged_reason().as_str()), (0, r#"{"cniVersion":"1.1.0"}"#, reason), "{add:?}");
            assert_eq!(lab.state(), before);
            assert!(!node.path("run/mesh-optin").exists(), "and so is the node");
        });
    }
}

#[test]
fn what_is_not_supported_yet_is_refused_and_nothing_is_half_done() {
    for name in ["tproxy", "dns-capture"] {
        on_node(|node| {
            let args = given(node, name);
            let lab = node.pod("a", V4);
            let before = lab.state();
            let (message, code) = node.call("ADD", &lab.netns, &args, CONFIG).error();
            assert!(message.starts_with("NotSupported: ") && code == 123, "{message}");
            assert_eq!(lab.state(), before);
        });
    }
}

#[test]
fn every_version_gets_the_result_that_multus_expects() {
    on_node(|node| {
        let args = given(node, "opt-out");
        let lab = node.pod("a", V4);
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let add = node.call("ADD", &lab.netns, &args, &format!(r#"{{"cniVersion":"{version}","name":"m","type":"mesh-optin"}}"#));
            assert_eq!(add.stdout.trim(), format!(r#"{{"cniVersion":"{version}"}}"#));
            serde_json::from_str::<rscni_types::types::CNIResultWithVersion>(&add.stdout).unwrap();
        }
        let empty = node.call("ADD", &lab.netns, &args, r#"{"cniVersion":"","name":"m"}"#);
        assert_eq!(empty.stdout.trim(), r#"{"cniVersion":"0.1.0"}"#);
        let prev = r#"{"cniVersion":"1.0.0", "interfaces":[ {"name":"eth0"}],"ips":[]}"#;
        let echoed = node.call("ADD", &lab.netns, &args, &format!(r#"{{"cniVersion":"1.0.0","name":"m","prevResult":{prev}}}"#));
        assert_eq!(echoed.stdout.trim_end(), prev);
        serde_json::from_str::<rscni_types::types::CNIResultWithVersion>(&echoed.stdout).unwrap();
        assert_eq!(node.call("ADD", &lab.netns, &args, r#"{"cniVersion":"9.9.9"}"#).error().1, 1);
    });
}

#[test]
fn del_succeeds_whatever_it_is_given() {
    on_node(|node| {
        let noise = vec![0xa5; 10 << 20];
        node.write("etc/mesh-optin/node.yaml", "nonsense: [");
        for (env, stdin) in [
            (&[][..], &b""[..]),
            (&[], &noise),
            (&[("CNI_NETNS", "/gone"), ("CNI_CONTAINERID", "../../etc/passwd"), ("CNI_IFNAME", "a/b"), ("CNI_ARGS", "===")], b"{"),
            (&[("CNI_NETNS", "/etc/mesh-optin/node.yaml"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "net1")], CONFIG.as_bytes()),
        ] {
            let del = node.call_with("DEL", env, stdin);
            assert_eq!((del.code, del.stdout.as_str()), (0, ""), "{env:?}: {del:?}");
        }
    });
}

#[test]
fn a_record_lives_as_long_as_its_namespace() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        let record = node.path("run/mesh-optin/attachments/c0ffee.net1.json");
        let text: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
        assert_eq!((&text["done"], &text["pod"], &text["backend"]), (&json!(true), &json!("defaults"), &json!("nftables")));
        assert_eq!(node.call("DEL", &lab.netns, &args, CONFIG).code, 0);
        assert!(record.exists() && lab.state().contains("mesh-optin"), "a hot-plugged interface's DEL leaves the living pod redirected");
        nix::mount::umount2(&node.path("run/netns/a"), nix::mount::MntFlags::MNT_DETACH).unwrap();
        std::fs::remove_file(node.path("run/netns/a")).unwrap();
        assert_eq!(node.call_with("DEL", &[], b"").code, 0);
        assert!(!record.exists());
    });
}

#[test]
fn another_plan_in_the_namespace_is_a_conflict_and_stays() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        let state = lab.state();
        let other = r#"{"cniVersion":"1.1.0","name":"m","meshOptin":{"traffic":{"excludeOutboundPorts":"5432"}}}"#;
        let env = [("CNI_NETNS", lab.netns.as_str()), ("CNI_ARGS", &args), ("CNI_CONTAINERID", "c0ffee"), ("CNI_IFNAME", "net2")];
        let (message, _) = node.call_with("ADD", &env, other.as_bytes()).error();
        assert!(message.starts_with("ConflictingAttachment: the attachment for net1"), "{message}");
        // also where the record was lost and only the kernel knows
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        let (message, _) = node.call_with("ADD", &env, other.as_bytes()).error();
        assert!(message.starts_with("ConflictingAttachment: this network namespace already"), "{message}");
        assert_eq!(lab.state(), state);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(), "AlreadyRedirected");
    });
}

#[test]
fn an_interface_that_comes_later_changes_nothing_for_a_repeated_add() {
    on_node(|node| {
        let args = given(node, "defaults");
        node.write(
            "etc/mesh-optin/profiles/default.yaml",
            "{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: default}, spec: {redirect: {interfaces: Primary}}}",
        );
        let lab = node.pod("a", V4);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(), "Redirected");
        support::lab::inside(&lab.pod, || {
            support::run(
                "ip",
                &["-batch", "-"],
                "link add net7 type veth peer name net8\nlink set net8 up\nlink set net7 up\naddr add 172.31.0.5/24 dev net7\nroute add default dev net7 metric 9",
            );
        });
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(), "AlreadyRedirected");
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(message.contains("net7"), "without its record only the kernel's word counts: {message}");
    });
}

#[test]
fn drift_is_found_by_check() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        support::lab::inside(&lab.pod, || support::run("nft", &["flush", "chain", "inet", "mesh-optin", "outbound"], ""));
        let (message, code) = node.call("CHECK", &lab.netns, &args, CONFIG).error();
        assert!(message.starts_with("Drifted: 2 differences: chain outbound, rule 1") && code == 129, "{message}");
    });
}

#[test]
fn what_is_not_a_pod_s_namespace_is_refused_before_anything_is_written() {
    on_node(|node| {
        let args = given(node, "defaults");
        support::lab::inside(&node.new_netns("other"), || ());
        node.write("run/file", "");
        for (netns, reason) in [
            ("/proc/self/ns/net", "HostNetns"),
            ("/proc/self/ns/mnt", "NetnsInvalid"),
            ("/run/file", "NetnsInvalid"),
            ("/run/gone", "NetnsInvalid"),
            ("/run", "NetnsInvalid"),
        ] {
            let (message, code) = node.call("ADD", netns, &args, CONFIG).error();
            assert!(message.starts_with(reason) && code == 8, "{netns}: {message}");
        }
        assert!(!node.path("run/mesh-optin").exists());
    });
}

#[test]
fn eth0_must_be_there_and_have_an_address() {
    on_node(|node| {
        let args = given(node, "defaults");
        node.new_netns("empty");
        let (message, _) = node.call("ADD", "/run/netns/empty", &args, CONFIG).error();
        assert!(message.starts_with("NoPrimaryInterface: there is no interface eth0 yet"), "{message}");
        let lab = node.pod("bare", PodNet::default());
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(message.starts_with("NoPrimaryInterface: eth0 has no global address"), "{message}");
    });
}

#[test]
fn each_refusal_says_its_reason_first_and_what_to_do() {
    on_node(|node| {
        let (mut pod, namespace) = data("defaults");
        let args = cni_args(&pod);
        let lab = node.pod("a", V4);
        let before = lab.state();
        let config = |mesh_optin: &str| format!(r#"{{"cniVersion":"1.1.0","name":"m","meshOptin":{mesh_optin}}}"#);
        let refused = |reason: &str, code: u64, args: &str, config: &str| {
            let (message, found) = node.call("ADD", &lab.netns, args, config).error();
            assert!(message.starts_with(&format!("{reason}: ")) && message.contains("; "), "{reason}: {message}");
            assert_eq!(found, code, "{message}");
            assert_eq!(lab.state(), before, "{reason}");
        };
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("InvalidRequest", 6, &args, "not json");
        refused("InvalidRequest", 4, "K8S_POD_NAME=a;K8S_POD_NAME=b", CONFIG);
        refused("InvalidAttachment", 7, &args, &config(r#"{"kubeconfig":"/x"}"#));
        refused("InvalidAttachment", 7, &args, &config(r#"{"traffic":{"excludeOutboundPorts":"0x50"}}"#));
        refused("UnknownProfile", 104, &args, &config(r#"{"profile":"gold"}"#));
        refused("PodNotFound", 11, &args.replace("=defaults", "=other"), CONFIG);
        refused("PodUidMismatch", 11, &args.replace("K8S_POD_UID=", "K8S_POD_UID=0"), CONFIG);
        pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"] = json!("http");
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("InvalidAnnotation", 121, &args, CONFIG);
        node.manifests(&[pod.clone(), json!({"kind": "Namespace", "metadata": {"name": "team-a"}})]);
        refused("UnenrolledSidecar", 117, &args, CONFIG);
        pod["spec"]["containers"].as_array_mut().unwrap().retain(|c| c["name"] != "istio-proxy");
        pod["metadata"]["annotations"] = json!({});
        pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("true");
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("SidecarMissing", 114, &args, CONFIG);
        for (file, yaml) in [
            ("node.yaml", "sources: [api]\nmanifest: x"),
            ("profiles/p.yaml", "kind: Pod"),
            ("profiles/p.yaml", "{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: q}}"),
        ] {
            let path = format!("etc/mesh-optin/{file}");
            let old = std::fs::read_to_string(node.path(&path)).ok();
            node.write(&path, yaml);
            refused("NodeConfigInvalid", 101, &args, CONFIG);
            old.map_or_else(|| std::fs::remove_file(node.path(&path)).unwrap(), |text| node.write(&path, &text));
        }
        node.write("etc/mesh-optin/node.yaml", "nodeName: n2\nsources: [manifests]\nmanifests: /manifests");
        refused("WrongNode", 103, &args, CONFIG);
        std::fs::remove_file(node.path("etc/mesh-optin/node.yaml")).unwrap();
        refused("NoSource", 102, &args, CONFIG);
    });
}

#[test]
fn the_verbs_without_a_pod_answer() {
    on_node(|node| {
        let version = node.call_with("VERSION", &[], br#"{"cniVersion":"0.4.0"}"#);
        assert_eq!(
            version.stdout.trim(),
            r#"{"cniVersion":"0.4.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
        );
        serde_json::from_str::<rscni_types::version::PluginInfo>(&version.stdout).unwrap();
        assert_eq!((node.call_with("GC", &[], CONFIG.as_bytes()).code, node.call_with("STATUS", &[], CONFIG.as_bytes()).code), (0, 0));
        assert_eq!(node.call_with("STATUS", &[], br#"{"cniVersion":"0.4.0"}"#).error().1, 1);
        assert_eq!(node.call_with("FROB", &[], CONFIG.as_bytes()).error().1, 4);
        assert_eq!(node.call_with("ADD", &[], CONFIG.as_bytes()).error().1, 4);
        std::fs::remove_file(node.path("etc/mesh-optin/node.yaml")).unwrap();
        assert_eq!(node.call_with("STATUS", &[], CONFIG.as_bytes()).error().1, 50);
        let not_a_pod = node.call_with("ADD", &[("CNI_NETNS", "/x"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "net1")], CONFIG.as_bytes());
        assert_eq!((not_a_pod.code, not_a_pod.stdout.trim()), (0, r#"{"cniVersion":"1.1.0"}"#));
    });
}

#[test]
fn one_process_and_no_other_program() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let trace = node.path("trace");
        let root = node.path("");
        let script =
            format!("cd / && exec strace -f -e trace=execve,execveat -o {} chroot {} /mesh-optin", trace.display(), root.display());
        #[allow(clippy::disallowed_methods, reason = "strace is the witness")]
        let mut command = std::process::Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .env("CNI_COMMAND", "ADD")
            .env("CNI_NETNS", &lab.netns)
            .env("CNI_ARGS", &args)
            .env("CNI_CONTAINERID", "c")
            .env("CNI_IFNAME", "net1");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), CONFIG.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let executed: Vec<_> =
            std::fs::read_to_string(trace).unwrap().lines().filter(|l| l.contains("execve")).map(str::to_owned).collect();
        assert_eq!(executed.len(), 2, "strace's chroot, then the plugin itself: {executed:#?}");
        assert!(executed[1].contains("\"/mesh-optin\""), "{executed:#?}");
    });
}

/// An ADD under strace: killed at the `n`th call of `syscall` by any of its threads, or with none just traced. Whether it came to its end,
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
    let ended = child.wait().unwrap().success();
    let name = |line: &str| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0.to_owned());
    (ended, std::fs::read_to_string(trace).unwrap().lines().filter_map(name).collect())
}

#[test]
fn killed_at_any_system_call_it_leaves_no_rule_or_all_rules_and_the_next_add_succeeds() {
    on_node(|node| {
        let args = given(node, "dual-stack");
        let lab = node.pod("a", PodNet { v4: true, v6: true, net1: false });
        let tables = || support::lab::inside(&lab.pod, || support::run("nft", &["list", "ruleset"], ""));
        let forget = || {
            support::lab::inside(&lab.pod, || support::run("nft", &["flush", "ruleset"], ""));
            std::fs::remove_dir_all(node.path("run/mesh-optin")).ok();
        };
        let (ended, calls) = traced(node, &lab.netns, &args, None);
        let whole = tables();
        assert!(ended && whole.contains("mesh-optin"));
        let (mut none, mut all, mut counts) = (0, 0, std::collections::BTreeMap::new());
        for syscall in calls.iter().filter(|c| *c != "execve" && !c.starts_with("exit")) {
            let n = counts.entry(syscall).and_modify(|n| *n += 1).or_insert(1);
            forget();
            if traced(node, &lab.netns, &args, Some((syscall, *n))).0 {
                continue; // counted by thread: this one was not reached
            }
            match tables().as_str() {
                "" => none += 1,
                text if text == whole => all += 1,
                part => panic!("killed at {syscall} {n}: {part}"),
            }
            let next = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!((next.code, tables() == whole), (0, true), "after a kill at {syscall} {n}: {next:?}");
        }
        println!("killed {} times: {none} times no rule was there, {all} times all were", none + all);
        assert!(none > 50 && all > 10, "{none} {all}");
    });
}
