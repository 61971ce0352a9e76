//! The program as Multus calls it: real processes in an empty root, real network namespaces.

use crate::support::{
    lab::{CONFIG, PodNet, V4, on_node},
    pods::given,
};

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
    on_node(|node| {
        let lab = node.pod("a", V4);
        let before = lab.state();
        let add = node.call("ADD", &lab.netns, "IgnoreUnknown=1", CONFIG);
        assert_eq!((add.code, add.logged_reason().as_str()), (0, "NotAPod"));
        assert_eq!(lab.state(), before);
    });
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
