//! The program as Multus calls it: real processes in an empty root, real network namespaces.

use crate::support::{
    data::data,
    lab::{CONFIG, PodNet, V4, on_node},
    pods::{cni_args, given},
};
use serde_json::json;

#[test]
fn an_opted_in_pod_is_redirected_and_a_second_add_changes_nothing() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let add = || node.call("ADD", &lab.netns, &args, CONFIG);
        let first = add();
        assert_eq!(
            (first.code, first.stdout.trim()),
            (0, r#"{"cniVersion":"1.1.0"}"#),
            "{first:?}"
        );
        assert_eq!(first.logged_reason(), "Redirected");
        let state = lab.state();
        assert!(state.contains("table inet mesh-optin"), "{state}");
        let second = add();
        assert_eq!(
            (second.code, second.logged_reason().as_str()),
            (0, "AlreadyRedirected"),
            "{second:?}"
        );
        assert_eq!(lab.state(), state);
        let check = node.call("CHECK", &lab.netns, &args, CONFIG);
        assert_eq!((check.code, check.stdout.as_str()), (0, ""), "{check:?}");
    });
}

#[test]
fn a_pod_that_is_skipped_is_untouched_to_the_byte() {
    for (name, reason) in [
        ("opt-out", "OptedOut"),
        ("gateway", "NotASidecarProxy"),
        ("none", "InterceptionNone"),
    ] {
        on_node(|node| {
            let args = given(node, name);
            let lab = node.pod(
                "a",
                PodNet {
                    v4: true,
                    v6: true,
                    net1: true,
                },
            );
            let before = lab.state();
            let add = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!(
                (add.code, add.stdout.trim(), add.logged_reason().as_str()),
                (0, r#"{"cniVersion":"1.1.0"}"#, reason),
                "{add:?}"
            );
            assert_eq!(lab.state(), before);
            assert!(!node.path("run/mesh-optin").exists(), "and so is the node");
        });
    }
}

#[test]
fn every_version_gets_the_result_that_multus_expects() {
    on_node(|node| {
        let args = given(node, "opt-out");
        let lab = node.pod("a", V4);
        for version in [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ] {
            let add = node.call(
                "ADD",
                &lab.netns,
                &args,
                &format!(r#"{{"cniVersion":"{version}","name":"m","type":"mesh-optin"}}"#),
            );
            assert_eq!(
                add.stdout.trim(),
                format!(r#"{{"cniVersion":"{version}"}}"#)
            );
            serde_json::from_str::<rscni_types::types::CNIResultWithVersion>(&add.stdout).unwrap();
        }
        let empty = node.call("ADD", &lab.netns, &args, r#"{"cniVersion":"","name":"m"}"#);
        assert_eq!(empty.stdout.trim(), r#"{"cniVersion":"0.1.0"}"#);
        let prev = r#"{"cniVersion":"1.0.0", "interfaces":[ {"name":"eth0"}],"ips":[]}"#;
        let echoed = node.call(
            "ADD",
            &lab.netns,
            &args,
            &format!(r#"{{"cniVersion":"1.0.0","name":"m","prevResult":{prev}}}"#),
        );
        assert_eq!(echoed.stdout.trim_end(), prev);
        serde_json::from_str::<rscni_types::types::CNIResultWithVersion>(&echoed.stdout).unwrap();
        assert_eq!(
            node.call("ADD", &lab.netns, &args, r#"{"cniVersion":"9.9.9"}"#)
                .error()
                .1,
            1
        );
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
            (
                &[
                    ("CNI_NETNS", "/gone"),
                    ("CNI_CONTAINERID", "../../etc/passwd"),
                    ("CNI_IFNAME", "a/b"),
                    ("CNI_ARGS", "==="),
                ],
                b"{",
            ),
            (
                &[
                    ("CNI_NETNS", "/etc/mesh-optin/node.yaml"),
                    ("CNI_CONTAINERID", "c"),
                    ("CNI_IFNAME", "net1"),
                ],
                CONFIG.as_bytes(),
            ),
        ] {
            let del = node.call_with("DEL", env, stdin);
            assert_eq!((del.code, del.stdout.as_str()), (0, ""), "{env:?}: {del:?}");
        }
    });
}

#[test]
fn what_is_not_a_pod_s_namespace_is_refused_before_anything_is_written() {
    on_node(|node| {
        let args = given(node, "defaults");
        node.write("run/file", "");
        for (netns, reason) in [
            ("/proc/self/ns/net", "HostNetns"),
            ("/proc/self/ns/mnt", "NetnsInvalid"),
            ("/run/file", "NetnsInvalid"),
            ("/run/gone", "NetnsInvalid"),
            ("/run", "NetnsInvalid"),
        ] {
            let (message, code) = node.call("ADD", netns, &args, CONFIG).error();
            assert!(
                message.starts_with(reason) && code == 8,
                "{netns}: {message}"
            );
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
        assert!(
            message.starts_with("NoPrimaryInterface: there is no interface eth0 yet"),
            "{message}"
        );
        let lab = node.pod("bare", PodNet::default());
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("NoPrimaryInterface: eth0 has no global address"),
            "{message}"
        );
    });
}

#[test]
fn each_refusal_says_its_reason_first_and_what_to_do() {
    on_node(|node| {
        let (mut pod, namespace) = data("defaults");
        let args = cni_args(&pod);
        let lab = node.pod("a", V4);
        let before = lab.state();
        let config = |mesh_optin: &str| {
            format!(r#"{{"cniVersion":"1.1.0","name":"m","meshOptin":{mesh_optin}}}"#)
        };
        let refused = |reason: &str, code: u64, args: &str, config: &str| {
            let (message, found) = node.call("ADD", &lab.netns, args, config).error();
            assert!(
                message.starts_with(&format!("{reason}: ")) && message.contains("; "),
                "{reason}: {message}"
            );
            assert_eq!(found, code, "{message}");
            assert_eq!(lab.state(), before, "{reason}");
        };
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("InvalidRequest", 6, &args, "not json");
        refused("InvalidRequest", 4, "K8S_POD_NAME=a;K8S_POD_NAME=b", CONFIG);
        refused(
            "InvalidAttachment",
            7,
            &args,
            &config(r#"{"kubeconfig":"/x"}"#),
        );
        refused(
            "InvalidAttachment",
            7,
            &args,
            &config(r#"{"traffic":{"excludeOutboundPorts":"0x50"}}"#),
        );
        refused(
            "UnknownProfile",
            104,
            &args,
            &config(r#"{"profile":"gold"}"#),
        );
        refused(
            "PodNotFound",
            11,
            &args.replace("=defaults", "=other"),
            CONFIG,
        );
        refused(
            "PodUidMismatch",
            11,
            &args.replace("K8S_POD_UID=", "K8S_POD_UID=0"),
            CONFIG,
        );
        pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"] =
            json!("http");
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("InvalidAnnotation", 121, &args, CONFIG);
        node.manifests(&[
            pod.clone(),
            json!({"kind": "Namespace", "metadata": {"name": "team-a"}}),
        ]);
        refused("UnenrolledSidecar", 117, &args, CONFIG);
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .retain(|c| c["name"] != "istio-proxy");
        pod["metadata"]["annotations"] = json!({});
        pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("true");
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("SidecarMissing", 114, &args, CONFIG);
        for (file, yaml) in [
            ("node.yaml", "sources: [api]\nmanifest: x"),
            ("profiles/p.yaml", "kind: Pod"),
            (
                "profiles/p.yaml",
                "{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: q}}",
            ),
        ] {
            let path = format!("etc/mesh-optin/{file}");
            let old = std::fs::read_to_string(node.path(&path)).ok();
            node.write(&path, yaml);
            refused("NodeConfigInvalid", 101, &args, CONFIG);
            old.map_or_else(
                || std::fs::remove_file(node.path(&path)).unwrap(),
                |text| node.write(&path, &text),
            );
        }
        node.write(
            "etc/mesh-optin/node.yaml",
            "nodeName: n2\nsources: [manifests]\nmanifests: /manifests",
        );
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
        for stdin in [&b""[..], br#"{"cniVersion":"1.2.0"}"#] {
            assert!(
                node.call_with("VERSION", &[], stdin)
                    .stdout
                    .contains(r#""supportedVersions":["0.1.0""#),
                "a newer runtime asks as well"
            );
        }
        assert_eq!(
            (
                node.call_with("GC", &[], CONFIG.as_bytes()).code,
                node.call_with("STATUS", &[], CONFIG.as_bytes()).code
            ),
            (0, 0)
        );
        assert_eq!(
            node.call_with("STATUS", &[], br#"{"cniVersion":"0.4.0"}"#)
                .error()
                .1,
            1
        );
        node.write("run/mesh-optin/x", ""); // readable by others
        let (message, code) = node.call_with("STATUS", &[], CONFIG.as_bytes()).error();
        assert!(
            code == 50 && message.contains("/run/mesh-optin cannot be used"),
            "{message}"
        );
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        assert_eq!(node.call_with("FROB", &[], CONFIG.as_bytes()).error().1, 4);
        assert_eq!(node.call_with("ADD", &[], CONFIG.as_bytes()).error().1, 4);
        std::fs::remove_file(node.path("etc/mesh-optin/node.yaml")).unwrap();
        assert_eq!(
            node.call_with("STATUS", &[], CONFIG.as_bytes()).error().1,
            50
        );
        let not_a_pod = node.call_with(
            "ADD",
            &[
                ("CNI_NETNS", "/x"),
                ("CNI_CONTAINERID", "c"),
                ("CNI_IFNAME", "net1"),
            ],
            CONFIG.as_bytes(),
        );
        assert_eq!(
            (not_a_pod.code, not_a_pod.stdout.trim()),
            (0, r#"{"cniVersion":"1.1.0"}"#)
        );
    });
}

#[test]
fn one_process_and_no_other_program() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let trace = node.path("trace");
        let root = node.path("");
        let script = format!(
            "cd / && exec strace -f -e trace=execve,execveat -o {} chroot {} /mesh-optin",
            trace.display(),
            root.display()
        );
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
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), CONFIG.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let executed: Vec<_> = std::fs::read_to_string(trace)
            .unwrap()
            .lines()
            .filter(|l| l.contains("execve"))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            executed.len(),
            2,
            "strace's chroot, then the plugin itself: {executed:#?}"
        );
        assert!(executed[1].contains("\"/mesh-optin\""), "{executed:#?}");
    });
}

#[test]
fn the_next_source_is_asked_where_one_is_away() {
    on_node(|node| {
        let args = given(node, "opt-out");
        let lab = node.pod("a", V4);
        node.credential(
            "https://127.0.0.1:1",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "t",
        );
        let configure = |sources: &str| {
            node.write(
                "etc/mesh-optin/node.yaml",
                &format!("{{sources: {sources}, manifests: /manifests, deadline: 2s}}"),
            )
        };
        configure("[agent, manifests]");
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
            "OptedOut"
        );
        configure("[api, agent]");
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("ApiUnauthorized: "),
            "what failed says more than what does not exist: {message}"
        );
        configure("[agent]");
        assert!(
            node.call("ADD", &lab.netns, &args, CONFIG)
                .error()
                .0
                .starts_with("NoSource: there is neither a node agent")
        );
        node.write(
            "var/lib/mesh-optin/installed.json",
            r#"{"version":"0.1.0"}"#,
        );
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with(
                "AgentUnavailable: the node agent does not answer on /run/mesh-optin/agent.sock"
            ),
            "{message}"
        );
        assert_eq!(
            node.call_with("STATUS", &[], CONFIG.as_bytes()).error().1,
            50
        );
    });
}

#[test]
fn a_log_that_cannot_be_written_fails_nothing() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let mut command = node.program(&[]);
        command.envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_NETNS", &lab.netns),
            ("CNI_ARGS", &args),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "net1"),
        ]);
        node.write("config", CONFIG);
        command.stdin(std::fs::File::open(node.path("config")).unwrap());
        command.stderr(
            std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        );
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    });
}

#[test]
fn a_stdin_that_never_ends_is_not_waited_for() {
    on_node(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 500ms}");
        let mut command = node.program(&[]);
        command
            .env("CNI_COMMAND", "ADD")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let kept_open = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("DeadlineExceeded: ")
        );
        drop(kept_open);
    });
}
