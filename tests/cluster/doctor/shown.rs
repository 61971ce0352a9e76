use serde_json::{Value, json};

use super::*;
use crate::support::{controller::until, kubectl::mesh_optin};

#[test]
fn the_cluster_and_its_pods_are_shown_as_they_are() {
    let guard = healthy();
    let (cluster, kubeconfig) = &*guard;
    let run = |args: &[&str]| mesh_optin(cluster, kubeconfig, args);
    for line in [
        "Nodes       1 of 1 have",
        "Profiles    1 of 1 are ready",
        "Namespaces  1 of 1 that",
        "Pods        1 of 1 of the mesh are redirected",
    ] {
        until(line, || {
            let (code, out, _) = run(&["status"]);
            code == 0 && out.contains(line)
        });
    }
    explained(cluster, run);
    // what a tenant writes moves no cursor
    let problem = json!({"namespace": "team-a", "pod": "\u{1b}[2Jweb", "reason": "Bypassing", "since": "2026-01-01T00:00:00Z"});
    cluster.patch(
        MESH_NODE,
        &json!({"status": {"problems": [problem], "problemsTotal": 3, "pods": {"bypassing": 3}}}),
    );
    for command in [&["status"][..], &["doctor"], &["doctor", "-o", "short"]] {
        until("the problem is shown", || {
            let (_, out, _) = run(command);
            assert!(!out.contains('\u{1b}'), "{out}");
            out.contains(r"\u{1b}[2Jweb")
        });
    }
    until("the pods are counted", || {
        let (_, out, _) = run(&["status"]);
        out.contains("1 of 4 of the mesh are redirected; bypassing 3") && out.contains("and 2 more")
    });
    let (_, out, _) = run(&["status", "-o", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&json["pods"], &json["problemsTotal"]),
        (&json!({"good": 1, "of": 4}), &json!(3))
    );
    for pod in ["stray", "out", "wrong"] {
        let path = format!("/api/v1/namespaces/team-a/pods/{pod}?gracePeriodSeconds=0");
        cluster.request("DELETE", &path, &Value::Null).unwrap();
    }
}

fn explained(cluster: &Cluster, run: impl Fn(&[&str]) -> (i32, String, String)) {
    let (code, out, error) = run(&["explain", "web", "--context", "in-team-a"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(
        out.starts_with("Pod team-a/web would be redirected.\n  Redirected: "),
        "{out}"
    );
    assert!(
        out.contains("found nothing wrong with it on n1") && out.contains("namespace"),
        "{out}"
    );
    cluster.create_changed_pod("defaults", "stray", |pod| {
        let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.remove("k8s.v1.cni.cncf.io/networks");
    });
    let (_, out, _) = run(&["explain", "stray", "-n", "team-a"]);
    assert!(
        out.contains("Bypassing: the pod names no attachment")
            && out.contains("no agent has reported from node-1"),
        "{out}"
    );
    cluster.create_changed_pod("opt-out", "out", |_| {});
    let (code, out, _) = run(&["explain", "out", "-n", "team-a", "-o", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            code,
            &json["pods"][0]["outcome"],
            &json["pods"][0]["reason"]
        ),
        (3, &json!("skip"), &json!("OptedOut"))
    );
    let (code, _, error) = run(&["explain", "nobody", "-n", "team-a"]);
    assert_eq!(code, 1);
    assert!(error.contains("there is no pod team-a/nobody"), "{error}");
    cluster.create_changed_pod("defaults", "wrong", |pod| {
        pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeOutboundPorts"] =
            json!("http");
    });
    let (code, out, _) = run(&["explain", "wrong", "-n", "team-a"]);
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("InvalidAnnotation"), "{out}");
}

#[test]
fn credentials_of_plugins_are_taken_as_kubectl_takes_them() {
    let cluster = crate::cluster();
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "admin"}});
    let exec = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [credential.to_string()], "interactiveMode": "Never",
    }});
    let kubeconfig = cluster.kubeconfig("exec", &exec);
    let (code, out, error) = mesh_optin(cluster, &kubeconfig, &["doctor", "--pre"]);
    assert_ne!(code, 1, "{out}{error}");
    assert!(out.contains("ok       ApiReachable"), "{out}{error}");
    let (code, _, error) = mesh_optin(cluster, &kubeconfig, &["doctor", "--context", "nowhere"]);
    assert_eq!(code, 1);
    assert!(error.contains("nowhere"), "{error}");
}
