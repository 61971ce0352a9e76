//! Foreign rules that decide before ours.

use crate::support::{
    data::data,
    lab::{CONFIG, Node, PodLab, V4, inside, on_node},
    landings::profile,
    pods::{cni_args, given, given_with},
    run,
};
use serde_json::json;

fn nft(lab: &PodLab, script: &str) {
    // nft wants each block's end on a line of its own
    let script = script.replace("} }", "}\n}").replace("; chain", "\nchain");
    inside(&lab.pod, || run("nft", &["-f", "-"], &script));
}

/// The outcome of an ADD where this is there already, and whether it warns.
fn add(node: &Node, name: &str, args: &str, script: &str) -> (String, bool) {
    let lab = node.pod(name, V4);
    nft(&lab, script);
    let call = node.call("ADD", &lab.netns, args, CONFIG);
    let reason = call.logged_reason();
    if reason == "Preempted" {
        assert!(
            !lab.state().contains("table inet mesh-optin"),
            "nothing was done: {script}"
        );
    }
    (reason, call.stderr.contains("Preempted: table"))
}

const DNAT: &str = "table ip other { chain c { type nat hook output priority -150; tcp dport 80 dnat to 10.0.0.9; } }";

#[test]
fn foreign_rules_refuse_the_pod_only_if_they_can_decide_on_captured_packets() {
    on_node(|node| {
        let args = given(node, "defaults");
        for (at, (script, reason, warns)) in [
            (DNAT, "Preempted", true),
            ("table inet other { chain c { type filter hook prerouting priority -400; policy drop; } }", "Preempted", true),
            ("table inet other { chain d { drop; } ; chain c { type filter hook prerouting priority -400; jump d; } }", "Preempted", true),
            // it lets packets go on to ours
            ("table inet other { chain c { type filter hook output priority -400; accept; } }", "Redirected", true),
            // of a hook that we have nothing at, behind ours, and of what is not captured
            ("table inet other { chain c { type filter hook input priority -400; drop; } }", "Redirected", false),
            ("table inet other { chain c { type filter hook output priority 400; drop; } }", "Redirected", false),
            ("table ip6 other { chain c { type filter hook output priority -400; drop; } }", "Redirected", false),
            ("table inet other { chain c { type filter hook output priority -400; udp dport 53 drop; } }", "Redirected", false),
            ("table inet other { chain c { type filter hook prerouting priority -400; meta protocol ip6 drop; } }", "Redirected", false),
        ]
        .into_iter()
        .enumerate()
        {
            std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).ok();
            assert_eq!(add(node, &format!("p{at}"), &args, script), (reason.to_owned(), warns), "{script}");
        }
    });
}

#[test]
fn ovn_kubernetes_filter_of_router_advertisements_refuses_nothing() {
    // table and rule as go-controller/pkg/cni/helper_linux.go of ovn-kubernetes makes them
    let script = "table netdev ingress_filter { chain eth0_input { type filter hook ingress device \"eth0\" priority 0;\n\
                  icmpv6 type nd-router-advert drop\n} }";
    on_node(|node| {
        let args = given(node, "defaults");
        assert_eq!(
            add(node, "a", &args, script),
            ("Redirected".to_owned(), false)
        );
    });
}

#[test]
fn rules_of_interfaces_that_are_not_captured_decide_nothing() {
    on_node(|node| {
        let excluded = [("traffic.sidecar.istio.io/excludeInterfaces", "eth0")];
        let args = given_with(node, "defaults", &excluded, &[]);
        for (at, script) in [
            "table inet other { chain c { type filter hook output priority -400; oifname \"eth0\" drop; } }",
            "table netdev other { chain c { type filter hook ingress device \"eth0\" priority 0; drop; } }",
        ]
        .into_iter()
        .enumerate()
        {
            std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).ok();
            assert_eq!(add(node, &format!("p{at}"), &args, script), ("Redirected".to_owned(), false), "{script}");
        }
    });
}

#[test]
fn the_profile_may_choose_a_warning_and_a_pod_that_has_run_gets_one() {
    on_node(|node| {
        profile(node, "{preempted: Warn}");
        let args = given(node, "defaults");
        assert_eq!(add(node, "a", &args, DNAT), ("Redirected".to_owned(), true));
    });
    on_node(|node| {
        let (mut pod, namespace) = data("defaults");
        pod["status"]["containerStatuses"] =
            json!([{"name": "app", "containerID": "containerd://1"}]);
        let args = cni_args(&pod);
        node.manifests(&[pod, namespace]);
        assert_eq!(add(node, "a", &args, DNAT), ("Redirected".to_owned(), true));
    });
}
