//! The DaemonSet on two nodes that have no kubelet: the test says of their pods what a kubelet would.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use super::daemonset::{daemonset, roll_back};
use crate::{
    Scenario, alone,
    support::{beside, stack::Stack},
};

const NODES: [&str; 2] = ["hollow-a", "hollow-b"];
const DAEMONSETS: &str = "/apis/apps/v1/namespaces/mesh-optin/daemonsets";
const PODS: &str = "/api/v1/namespaces/mesh-optin/pods";

pub(super) const SCENARIO: Scenario = alone(
    "a version that does not get ready stops at the first node",
    |s| {
        let report = |stop: &AtomicBool| {
            while !stop.load(Ordering::Relaxed) {
                report_nodes_ready(s);
                std::thread::sleep(Duration::from_secs(2));
            }
        };
        let ended = catch_unwind(AssertUnwindSafe(|| beside(report, || roll_out(s))));
        let removed = catch_unwind(AssertUnwindSafe(|| remove(s)));
        if let Err(panic) = ended.and(removed) {
            resume_unwind(panic); // the first
        }
    },
);

fn roll_out(s: &Stack) {
    let mut object = daemonset(s);
    object["metadata"]["name"] = json!("hollow");
    let labels = json!({"app.kubernetes.io/name": "hollow"});
    object["spec"]["selector"]["matchLabels"] = labels.clone();
    object["spec"]["template"]["metadata"]["labels"] = labels;
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"hollow": "true"});
    object["spec"]["minReadySeconds"] = json!(1);
    assert_eq!(
        object["spec"]["updateStrategy"]["rollingUpdate"],
        json!({"maxSurge": 1, "maxUnavailable": 0})
    );
    for name in NODES {
        let room = json!({"cpu": "1", "memory": "1Gi", "pods": "10"});
        s.cluster.create("/api/v1/nodes", &json!({
        "metadata": {"name": name, "labels": {"hollow": "true", "kubernetes.io/os": "linux"}},
        "spec": {"taints": [{"key": "hollow", "effect": "NoSchedule"}]},
        "status": {"capacity": room, "allocatable": room},
    }));
    }
    s.cluster.create(DAEMONSETS, &object);
    let first = s.wait_for(|| all_ready(s, 2)).expect("a pod on each node");
    // those that are not available yet would be replaced at once
    let available = s.wait_for(|| {
        let path = format!("{DAEMONSETS}/hollow");
        let object = s.cluster.request("GET", &path, &Value::Null).ok()?;
        (object["status"]["numberAvailable"] == 2).then_some(())
    });
    assert!(available.is_some());

    change(s, "unable");
    let mut nodes = s.wait_for(|| {
        let new = others(s, &first);
        (!new.is_empty()).then_some(new)
    });
    // as long as ten passes of the controller: nothing more is begun
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        nodes = Some(others(s, &first));
    }
    let nodes = nodes.unwrap_or_default();
    assert_eq!(nodes.len(), 1);
    assert!(
        first.iter().all(|name| stays(s, name)),
        "the earlier ones stay"
    );
    s.note(format!(
        "a version that does not get ready: of 2 nodes, {} alone has a pod of it",
        nodes[0]["spec"]["nodeName"]
    ));

    roll_back(s, "hollow");
    let undone = s.wait_for(|| {
        end_what_ends(s);
        others(s, &first).is_empty().then_some(())
    });
    assert!(undone.is_some() && first.iter().all(|name| stays(s, name)));

    change(s, "able");
    let all = s.wait_for(|| {
        end_what_ends(s);
        let all = all_ready(s, 2)?;
        all.iter().all(|name| !first.contains(name)).then_some(())
    });
    assert!(
        all.is_some(),
        "a version that gets ready comes to both: {:#} {:#?}",
        s.cluster
            .request("GET", &format!("{DAEMONSETS}/hollow"), &Value::Null)
            .unwrap()["status"],
        pods(s).iter().map(state).collect::<Vec<_>>()
    );
}

/// Reports as kubelets do: pods of a node that is silent for less than a minute count as not ready, and a DaemonSet replaces those at once.
fn report_nodes_ready(s: &Stack) {
    let now = jiff::Timestamp::now().to_string();
    let ready =
        json!({"type": "Ready", "status": "True", "reason": "Hollow", "lastHeartbeatTime": now});
    let status = json!({"status": {"conditions": [ready]}});
    for name in NODES {
        let path = format!("/api/v1/nodes/{name}/status");
        let content = "application/merge-patch+json";
        let report = s
            .cluster
            .request_with("admin", content, "PATCH", &path, &status);
        report.ok(); // it may not be there yet
    }
}

/// The DaemonSet, the nodes, and their pods.
fn remove(s: &Stack) {
    let deleted = json!({"propagationPolicy": "Background"});
    let nodes = NODES.map(|name| format!("/api/v1/nodes/{name}"));
    for path in [&format!("{DAEMONSETS}/hollow"), &nodes[0], &nodes[1]] {
        s.cluster.request("DELETE", path, &deleted).ok();
    }
    let gone = s.wait_for(|| {
        end_what_ends(s);
        pods(s).is_empty().then_some(())
    });
    assert!(gone.is_some());
}

fn change(s: &Stack, version: &str) {
    let template = json!({"metadata": {"annotations": {"version": version}}});
    let change = json!({"spec": {"template": template}});
    s.cluster.patch(&format!("{DAEMONSETS}/hollow"), &change);
}

fn pods(s: &Stack) -> Vec<Value> {
    let selector = "?labelSelector=app.kubernetes.io/name=hollow";
    let mut list = s
        .cluster
        .request("GET", &format!("{PODS}{selector}"), &Value::Null)
        .unwrap();
    serde_json::from_value(list["items"].take()).unwrap()
}

/// What a failure says of a pod.
fn state(pod: &Value) -> String {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    format!(
        "{} of {} on {}: {}, {}, deleted at {}",
        metadata["name"],
        metadata["annotations"]["version"],
        pod["spec"]["nodeName"],
        status["phase"],
        status["conditions"],
        metadata["deletionTimestamp"]
    )
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Pods of other names.
fn others(s: &Stack, names: &[String]) -> Vec<Value> {
    let mut pods = pods(s);
    pods.retain(|pod| !names.contains(&name(pod)));
    pods
}

fn stays(s: &Stack, name: &str) -> bool {
    let pod = s
        .cluster
        .request("GET", &format!("{PODS}/{name}"), &Value::Null);
    pod.is_ok_and(|pod| pod["metadata"]["deletionTimestamp"].is_null())
}

/// Says of each pod that has a node that it is ready; the names of those that stay, once there are as many as expected.
fn all_ready(s: &Stack, count: usize) -> Option<Vec<String>> {
    let mut pods = pods(s);
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    for pod in pods
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Pending" && !pod["spec"]["nodeName"].is_null())
    {
        let now = jiff::Timestamp::now().to_string();
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now});
        let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
        s.cluster
            .patch(&format!("{PODS}/{}/status", name(pod)), &status);
    }
    let ready = pods
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Running")
        .count();
    (ready == count && pods.len() == count).then(|| pods.iter().map(name).collect())
}

/// What is being deleted is gone, as a kubelet would say.
fn end_what_ends(s: &Stack) {
    for pod in pods(s) {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            let path = format!("{PODS}/{}", name(&pod));
            s.cluster
                .request("DELETE", &path, &json!({"gracePeriodSeconds": 0}))
                .ok();
        }
    }
}
