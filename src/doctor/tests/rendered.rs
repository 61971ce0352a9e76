//! What people and programs read.

use serde_json::json;

use super::{healthy::of, *};
use crate::doctor::{
    explain::reported,
    objects::MeshNode,
    report::{as_json, text},
    status,
};

/// A cluster with something of everything, and text of a tenant that moves cursors.
fn broken() -> Facts {
    let mut facts = healthy();
    facts.nodes = Err(Unseen::Right("list nodes".into()));
    facts.policies = Err(Unseen::Failed("/apis: no answer within 30 s".into()));
    daemon_set(&mut facts, "kube-multus-ds")
        .spec
        .template
        .spec
        .containers[0]
        .image = "multus-cni@sha256:1".into();
    condition(&mut facts, "Ready", "False", "\u{1b}[2Jno list is complete");
    let problem = json!({"namespace": "team-a", "pod": "\u{1b}]0;x\u{7}", "reason": "Bypassing", "since": "2026-01-01T11:59:00Z"});
    let status = &mut node(&mut facts).status;
    status.problems.push(of(problem));
    status.problems_total = Some(2);
    facts
}

#[test]
fn people_read_each_finding_with_its_remedy() {
    let facts = broken();
    let checks = look(&facts);
    let out = text(&facts, &checks, true);
    assert!(!out.contains('\u{1b}') && !out.contains('\u{7}'), "{out}");
    insta::assert_snapshot!("doctor_short", out);
    let healthy = healthy();
    insta::assert_snapshot!("doctor_healthy", text(&healthy, &look(&healthy), false));
}

#[test]
fn programs_read_the_documented_shape() {
    let facts = broken();
    let json = as_json(&facts, &look(&facts));
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&json), ["checks", "healthy", "kubernetes"]);
    let mut checks = json["checks"].as_array().unwrap().iter();
    let of_pods = checks.find(|c| c["check"] == "PodsRedirected").unwrap();
    assert_eq!(
        keys(of_pods),
        [
            "check", "findings", "more", "result", "skipped", "title", "unknown"
        ]
    );
    assert_eq!(
        keys(&of_pods["findings"][0]),
        ["message", "object", "remedy", "severity"]
    );
    assert_eq!(
        (&of_pods["result"], &json["healthy"]),
        (&json!("error"), &json!(false))
    );
}

#[test]
fn many_findings_are_counted_and_the_worst_are_listed() {
    let mut facts = healthy();
    let nodes = facts.mesh_nodes.as_mut().unwrap().as_mut().unwrap();
    let problem =
        |reason: &str| of(json!({"namespace": "a", "pod": "p", "reason": reason, "since": ""}));
    nodes[0].status.problems = (0..32)
        .map(|at| problem(if at < 31 { "Outdated" } else { "Bypassing" }))
        .collect();
    let looked = Check::PodsRedirected.look(&facts);
    let (shown, more) = looked.shown();
    assert_eq!((shown.len(), more), (20, 12));
    assert_eq!(shown[0].severity, CheckOutcome::Error);
}

#[test]
fn the_status_counts_what_is_as_it_should_be() {
    let facts = broken();
    let now = facts.now();
    let mut nodes = facts.mesh_nodes.unwrap().unwrap();
    nodes[0].status.version = "0.3.0".into();
    let report = status::report(&facts.nodes, &nodes, &facts.profiles, None, now);
    let out = status::text(&report);
    assert!(!out.contains('\u{1b}'), "{out}");
    insta::assert_snapshot!("status", out);
    let elsewhere = status::report(&facts.nodes, &nodes, &facts.profiles, Some("team-b"), now);
    assert!(status::text(&elsewhere).contains("and 2 more, in other namespaces"));
}

#[test]
fn the_report_of_a_node_on_a_pod_says_no_more_than_it_knows() {
    let pod = healthy().pods.unwrap().unwrap().remove(0);
    let says = |change: fn(&mut MeshNode)| {
        let mut node = healthy().mesh_nodes.unwrap().unwrap().remove(0);
        change(&mut node);
        reported(&node, &pod)
    };
    assert!(says(|_| {}).contains("found nothing wrong with it on n1"));
    assert!(says(|n| n.status.last_audit = None).contains("has not audited its pods yet"));
    assert!(
        says(|n| n.status.problems_total = Some(3)).contains("3 pods of n1 that it does not list")
    );
    let drifted = says(|n| {
        n.status.problems.push(of(
            json!({"namespace": "team-a", "pod": "web", "reason": "Drifted", "since": "S"}),
        ))
    });
    assert!(drifted.starts_with("Drifted since S"), "{drifted}");
}
