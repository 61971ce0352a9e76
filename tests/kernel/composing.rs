//! Several attachments of one pod: Istio's injector adds `default/istio-cni` to whatever tenants name.

use serde_json::{Value, json};

use crate::support::{
    data::data,
    lab::{APP, CONFIG, Call, Node, PodLab, V4, on_node},
    pods::{cni_args, given},
    traced::opened_by_a_del,
};

/// A tenant's attachment, with settings of its own; what Istio's injector adds says nothing.
const TENANTS: &str = r#"{"cniVersion":"1.1.0","name":"mesh","meshOptin":{"traffic":{"excludeOutboundPorts":"5432"}}}"#;
const ANOTHER: &str = r#"{"cniVersion":"1.1.0","name":"mesh-2","meshOptin":{"traffic":{"excludeOutboundPorts":"6432"}}}"#;
/// The same settings in other words.
const EQUAL: &str = r#"{"cniVersion":"1.1.0","name":"mesh-3","meshOptin":{"traffic":{"excludeOutboundPorts":" 5432,5432"}}}"#;
const ISTIOS: &str = CONFIG;

/// What an ADD or DEL for the interface of this number gives.
fn call(node: &Node, lab: &PodLab, args: &str, verb: &str, number: usize, config: &str) -> Call {
    let ifname = format!("net{number}");
    let env = [
        ("CNI_NETNS", lab.netns.as_str()),
        ("CNI_ARGS", args),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_IFNAME", &ifname),
    ];
    node.call_with(verb, &env, config.as_bytes())
}

fn record(node: &Node) -> Value {
    let path = node.path("run/mesh-optin/attachments/c0ffee.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The tenant's settings hold: what they exclude leaves as it is, all else goes to the sidecar.
fn is_by_the_tenants_settings(lab: &PodLab) {
    assert_eq!(lab.dial_out(APP, "10.96.0.10:5432"), "world:5432");
    assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "pod:15001");
}

#[test]
fn the_attachment_of_a_tenant_applies_beside_the_one_of_istio_in_either_order() {
    for (order, reasons) in [
        ([TENANTS, ISTIOS], ["Redirected", "AlreadyRedirected"]),
        ([ISTIOS, TENANTS], ["Redirected", "Redirected"]),
    ] {
        on_node(|node| {
            let args = given(node, "defaults");
            let lab = node.pod("a", V4);
            let add_both =
                || [1, 2].map(|n| call(node, &lab, &args, "ADD", n, order[n - 1]).logged_reason());
            assert_eq!(add_both(), reasons);
            is_by_the_tenants_settings(&lab);
            let state = lab.state();
            assert_eq!(add_both(), ["AlreadyRedirected"; 2], "once more");
            assert_eq!(lab.state(), state);
            assert_eq!(record(node)["interfaces"], json!(["net1", "net2"]));
            // hot-plugged
            assert_eq!(
                call(node, &lab, &args, "ADD", 3, ISTIOS).logged_reason(),
                "AlreadyRedirected"
            );
            assert_eq!(call(node, &lab, &args, "DEL", 1, order[0]).code, 0);
            assert_eq!(record(node)["interfaces"], json!(["net2", "net3"]));
            assert_eq!(call(node, &lab, &args, "CHECK", 2, order[1]).code, 0);
            assert_eq!(
                lab.state(),
                state,
                "a DEL of one interface changes nothing for the others"
            );
            let files = std::fs::read_dir(node.path("run/mesh-optin/attachments")).unwrap();
            assert_eq!(files.count(), 1, "one record for a sandbox");
        });
    }
}

#[test]
fn two_attachments_with_settings_must_have_equal_ones() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        for (number, config, reason) in [
            (1, ISTIOS, "Redirected"),
            (2, TENANTS, "Redirected"),
            (3, EQUAL, "AlreadyRedirected"),
            (4, ANOTHER, "ConflictingAttachment"),
        ] {
            let call = call(node, &lab, &args, "ADD", number, config);
            assert_eq!(call.logged_reason(), reason, "{config}");
        }
        is_by_the_tenants_settings(&lab);
        assert_eq!(record(node)["interfaces"], json!(["net1", "net2", "net3"]));
    });
}

#[test]
fn new_settings_are_a_conflict_while_the_pod_runs_but_not_after_a_reboot() {
    for (started, expected) in [
        ("2999-01-01T00:00:00Z", "ConflictingAttachment"),
        ("2020-01-01T00:00:00Z", "Redirected"),
    ] {
        on_node(|node| {
            let (mut pod, namespace) = data("defaults");
            let args = cni_args(&pod);
            node.manifests(&[pod.clone(), namespace.clone()]);
            let lab = node.pod("a", V4);
            assert_eq!(
                call(node, &lab, &args, "ADD", 1, ISTIOS).logged_reason(),
                "Redirected"
            );
            pod["status"]["containerStatuses"] = json!([
                {"name": "app", "containerID": "containerd://1", "state": {"running": {"startedAt": started}}}]);
            node.manifests(&[pod, namespace]);
            let state = lab.state();
            assert_eq!(
                call(node, &lab, &args, "ADD", 2, TENANTS).logged_reason(),
                expected
            );
            assert_eq!(lab.state() == state, expected == "ConflictingAttachment");
            assert_eq!(
                call(node, &lab, &args, "ADD", 3, ISTIOS).logged_reason(),
                "AlreadyRedirected"
            );
        });
    }
}

#[test]
fn the_ninth_attachment_of_a_sandbox_is_refused_until_one_goes() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        for number in 1..=8 {
            assert_eq!(call(node, &lab, &args, "ADD", number, ISTIOS).code, 0);
        }
        let (message, code) = call(node, &lab, &args, "ADD", 9, ISTIOS).error();
        assert!(
            message.starts_with("TooManyAttachments: the pod's sandbox has 8 attachments")
                && code == 134,
            "{message}"
        );
        assert_eq!(
            call(node, &lab, &args, "ADD", 8, ISTIOS).code,
            0,
            "one of the eight again"
        );
        call(node, &lab, &args, "DEL", 2, ISTIOS);
        assert_eq!(call(node, &lab, &args, "ADD", 9, ISTIOS).code, 0);
    });
}

#[test]
fn a_del_reads_its_own_record_alone_while_an_agent_listens() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        assert_eq!(call(node, &lab, &args, "ADD", 1, ISTIOS).code, 0);
        let text = record(node).to_string();
        for other in 0..50 {
            node.write(
                &format!("run/mesh-optin/attachments/other-{other}.json"),
                &text,
            );
        }
        let records = || {
            let opened = opened_by_a_del(node, &lab.netns);
            opened
                .iter()
                .filter(|path| path.contains("/attachments/") && path.ends_with(".json"))
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert!(records().len() > 1, "nobody else cleans up");
        let _agent =
            std::os::unix::net::UnixListener::bind(node.path("run/mesh-optin/agent.sock")).unwrap();
        assert_eq!(
            records(),
            ["/run/mesh-optin/attachments/c0ffee.json".to_owned()].into()
        );
    });
}
