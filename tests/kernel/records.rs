//! What is remembered of an attachment, and what a later call makes of it.

use crate::support::{
    lab::{CONFIG, Node, PodLab, PodNet, V4, inside, on_node},
    pods::given,
    run,
};
use serde_json::{Value, json};

const RECORD: &str = "run/mesh-optin/attachments/c0ffee.json";
const MINE: &str =
    r#"{"cniVersion":"1.1.0","name":"m","meshOptin":{"traffic":{"excludeOutboundPorts":"22"}}}"#;
const OTHER: &str =
    r#"{"cniVersion":"1.1.0","name":"m","meshOptin":{"traffic":{"excludeOutboundPorts":"5432"}}}"#;

#[test]
fn a_record_lives_as_long_as_its_namespace() {
    on_node(|node| {
        let (lab, args) = redirected(node);
        let (text, record) = (record(node), node.path(RECORD));
        assert_eq!(
            (&text["done"], &text["pod"], &text["backend"]),
            (&json!(true), &json!("defaults"), &json!("nftables"))
        );
        assert_eq!(node.call("DEL", &lab.netns, &args, CONFIG).code, 0);
        assert!(
            record.exists() && lab.state().contains("mesh-optin"),
            "a hot-plugged interface's DEL leaves the living pod redirected"
        );
        end(node, "a");
        sweeps_until(node, || !record.exists());
    });
}

#[test]
fn another_plan_in_the_namespace_is_a_conflict_and_stays() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        assert_eq!(node.call("ADD", &lab.netns, &args, MINE).code, 0);
        let state = lab.state();
        let env = [
            ("CNI_NETNS", lab.netns.as_str()),
            ("CNI_ARGS", &args),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_IFNAME", "net2"),
        ];
        let (message, _) = node.call_with("ADD", &env, OTHER.as_bytes()).error();
        assert!(
            message.starts_with("ConflictingAttachment: the attachment for net1"),
            "{message}"
        );
        // also where the record was lost and only the kernel knows
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        let (message, _) = node.call_with("ADD", &env, OTHER.as_bytes()).error();
        assert!(
            message.starts_with("ConflictingAttachment: this network namespace already"),
            "{message}"
        );
        assert_eq!(lab.state(), state);
        assert_eq!(
            node.call("ADD", &lab.netns, &args, MINE).logged_reason(),
            "AlreadyRedirected"
        );
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
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
            "Redirected"
        );
        inside(&lab.pod, || {
            run(
                "ip",
                &["-batch", "-"],
                "link add net7 type veth peer name net8\nlink set net8 up\nlink set net7 up\naddr add 172.31.0.5/24 dev net7\nroute replace default dev net7",
            );
        });
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
            "AlreadyRedirected"
        );
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.contains("net7"),
            "without its record only the kernel's word counts: {message}"
        );
    });
}

#[test]
fn drift_is_found_by_check() {
    on_node(|node| {
        let (lab, args) = redirected(node);
        inside(&lab.pod, || {
            run(
                "nft",
                &["flush", "chain", "inet", "mesh-optin", "outbound"],
                "",
            )
        });
        let (message, code) = node.call("CHECK", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("Drifted: chain outbound, rule 1") && code == 129,
            "{message}"
        );
    });
}

fn record(node: &Node) -> Value {
    serde_json::from_str(&std::fs::read_to_string(node.path(RECORD)).unwrap()).unwrap()
}

/// The network namespace of a pod that is deleted.
fn end(node: &Node, name: &str) {
    let path = node.path("run/netns").join(name);
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
    std::fs::remove_file(path).unwrap();
}

/// Makes DELs until something is so: each looks at the records of others for a moment only.
fn sweeps_until(node: &Node, is_so: impl Fn() -> bool) {
    let found = (0..100).any(|_| {
        assert_eq!(node.call_with("DEL", &[], b"").code, 0);
        is_so()
    });
    assert!(found, "not after 100 DELs");
}

fn redirected(node: &Node) -> (PodLab, String) {
    let args = given(node, "defaults");
    let lab = node.pod("a", V4);
    assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
    (lab, args)
}

#[test]
fn a_record_is_removed_only_once_its_namespace_is_known_to_be_gone() {
    on_node(|node| {
        let (lab, _) = redirected(node);
        let here = |id: &str| {
            [
                ("CNI_CONTAINERID", id.to_owned()),
                ("CNI_IFNAME", "net1".to_owned()),
            ]
        };
        let del = |env: &[(&str, String)]| {
            let env: Vec<_> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
            assert_eq!(node.call_with("DEL", &env, b"").code, 0);
        };
        // of a newer version, and of none: whose namespace lives
        let mut newer = record(node);
        newer["intent"]["future"] = json!(1);
        newer["intent"]["mode"] = json!("AMBIENT");
        node.write("run/mesh-optin/attachments/newer.json", &newer.to_string());
        node.write("run/mesh-optin/attachments/broken.json", "{");
        del(&here("c0ffee")); // no CNI_NETNS
        del(&[]);
        for file in [
            RECORD,
            "run/mesh-optin/attachments/newer.json",
            "run/mesh-optin/attachments/broken.json",
        ] {
            assert!(node.path(file).exists(), "{file}");
        }
        // a killed writer's, once nobody writes it any more
        for (file, age) in [
            ("run/mesh-optin/attachments/.newOLD", 600),
            ("run/mesh-optin/attachments/.newNOW", 0),
        ] {
            node.write(file, "x");
            run(
                "touch",
                &[
                    "-d",
                    &format!("{age} seconds ago"),
                    node.path(file).to_str().unwrap(),
                ],
                "",
            );
        }
        end(node, "a");
        // the broken one and the one that may be being written stay
        sweeps_until(node, || {
            let left = std::fs::read_dir(node.path("run/mesh-optin/attachments"));
            left.unwrap().count() == 2
        });
        drop(lab);
    });
}

#[test]
fn del_does_not_follow_a_link_nor_wait_for_a_pipe() {
    on_node(|node| {
        node.write("etc/cni/a.json", r#"{"netns":"/gone"}"#);
        std::fs::create_dir_all(node.path("run/mesh-optin")).unwrap();
        std::fs::set_permissions(
            node.path("run/mesh-optin"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        std::os::unix::fs::symlink("/etc/cni", node.path("run/mesh-optin/attachments")).unwrap();
        assert_eq!(node.call_with("DEL", &[], b"").code, 0);
        assert!(node.path("etc/cni/a.json").exists());
        std::fs::remove_file(node.path("run/mesh-optin/attachments")).unwrap();
        let (_lab, _) = redirected(node);
        run(
            "mkfifo",
            &[node
                .path("run/mesh-optin/attachments/p.json")
                .to_str()
                .unwrap()],
            "",
        );
        assert_eq!(node.call_with("DEL", &[], b"").code, 0);
    });
}

#[test]
fn the_record_of_an_unfinished_add_does_not_count() {
    on_node(|node| {
        let (lab, args) = redirected(node);
        let mut unfinished = record(node);
        unfinished["done"] = json!(false);
        node.write(RECORD, &unfinished.to_string());
        inside(&lab.pod, || run("nft", &["flush", "ruleset"], ""));
        assert_eq!(
            node.call("CHECK", &lab.netns, &args, CONFIG).code,
            0,
            "nor for CHECK"
        );
        let other = node.call("ADD", &lab.netns, &args, OTHER);
        assert_eq!(
            (other.code, other.logged_reason().as_str()),
            (0, "Redirected"),
            "nothing was there: {other:?}"
        );
        assert_eq!(
            record(node)["intent"]["outbound"]["excludePorts"],
            json!([5432])
        );
    });
}

#[test]
fn of_two_concurrent_adds_with_different_settings_one_wins_and_verifies() {
    for _ in 0..40 {
        on_node(|node| {
            let args = given(node, "defaults");
            let lab = node.pod("a", V4);
            let env = |ifname| {
                [
                    ("CNI_NETNS", lab.netns.as_str()),
                    ("CNI_ARGS", &args),
                    ("CNI_CONTAINERID", "c0ffee"),
                    ("CNI_IFNAME", ifname),
                ]
            };
            let settings = [("net1", MINE), ("net2", OTHER)];
            let add = |(ifname, config): (&'static str, &str)| {
                node.call_with("ADD", &env(ifname), config.as_bytes()).code
            };
            let codes = std::thread::scope(|scope| {
                settings
                    .map(|s| scope.spawn(move || add(s)))
                    .map(|t| t.join().unwrap())
            });
            assert!(codes == [0, 1] || codes == [1, 0], "{codes:?}");
            for (setting, code) in settings.into_iter().zip(codes) {
                assert_eq!(add(setting), code, "the same again for {}", setting.0);
            }
        });
    }
}

#[test]
fn check_fails_without_the_record_or_the_address() {
    on_node(|node| {
        let args = given(node, "dual-stack");
        let lab = node.pod(
            "a",
            PodNet {
                v4: true,
                v6: true,
                net1: false,
            },
        );
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        let check = || node.call("CHECK", &lab.netns, &args, CONFIG);
        assert_eq!(check().code, 0);
        inside(&lab.pod, || {
            run("ip", &["addr", "del", "::6/128", "dev", "lo"], "")
        });
        assert!(
            check()
                .error()
                .0
                .contains(r#"lo: "address ::6/128" is missing"#)
        );
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
            "AlreadyRedirected"
        );
        assert_eq!(check().code, 0, "a repeated ADD put it back");
        inside(&lab.pod, || {
            run(
                "nft",
                &[
                    "add",
                    "table",
                    "inet",
                    "mesh-optin",
                    "{",
                    "flags",
                    "dormant",
                    ";",
                    "}",
                ],
                "",
            )
        });
        assert!(check().error().0.contains("dormant"));
        assert!(
            node.call("ADD", &lab.netns, &args, CONFIG)
                .error()
                .0
                .starts_with("ConflictingAttachment")
        );
        node.write(RECORD, "{");
        assert!(check().error().0.starts_with("Internal: the record"));
    });
}
