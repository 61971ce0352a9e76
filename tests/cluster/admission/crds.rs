//! CRDs are not deleted by accident, and what happens once they are.

use std::time::Duration;

use serde_json::{Value, json};

use super::{bind, eventually, injected, plain, profile, request, start};
use crate::support::cluster::Cluster;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn delete(cluster: &Cluster, path: &str) -> Result<Value, String> {
    request(
        cluster,
        "admin",
        ("DELETE", path),
        "application/json",
        &Value::Null,
    )
    .0
}

#[test]
fn a_crd_is_deleted_only_with_its_annotation_and_then_only_pods_need_the_bindings_removed() {
    let cluster = start();
    let spec = json!({"namespaces": {"matchLabels": {"team": "a"}}, "admission": {"unattachedPods": "Deny"}});
    cluster.create(super::PROFILES, &profile("a", &spec));
    bind(&cluster);
    let crd = format!("{CRDS}/meshprofiles.meshoptin.dev");
    let command = "kubectl annotate crd meshprofiles.meshoptin.dev meshoptin.dev/allow-delete=true";
    for path in [
        &crd,
        &format!("{CRDS}?fieldSelector=metadata.name=meshprofiles.meshoptin.dev"),
    ] {
        eventually(|| {
            delete(
                &cluster,
                &format!(
                    "{path}{}dryRun=All",
                    if path.contains('?') { "&" } else { "?" }
                ),
            )
            .is_err()
        });
        let refused = delete(&cluster, path).unwrap_err();
        assert!(refused.contains(command), "{path}: {refused}");
    }
    let mut unserved = cluster.request("GET", &crd, &Value::Null).unwrap();
    let mut next = unserved["spec"]["versions"][0].clone();
    (next["name"], next["storage"]) = (json!("v1"), json!(false));
    unserved["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(next);
    unserved["spec"]["versions"][0]["served"] = json!(false);
    let refused = cluster
        .request("PUT", &format!("{crd}?dryRun=All"), &unserved)
        .unwrap_err();
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("would no longer serve"),
        "{refused}"
    );
    // what an upgrade does
    let mut upgraded = unserved.clone();
    upgraded["spec"]["versions"][0]["served"] = json!(true);
    cluster
        .request("PUT", &format!("{crd}?dryRun=All"), &upgraded)
        .unwrap();

    let create = |namespace: &str, pod: &Value| {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        cluster.request("POST", &path, pod)
    };
    let named = |name: &str| plain(&json!({"metadata": {"name": name}}));
    create("plain", &named("earlier")).unwrap();
    for kind in ["meshprofiles", "meshnodes"] {
        let crd = format!("{kind}.meshoptin.dev");
        cluster.enter(&[
            "kubectl",
            "annotate",
            "crd",
            &crd,
            "meshoptin.dev/allow-delete=true",
        ]);
        cluster.enter(&["kubectl", "delete", "crd", &crd, "--timeout=60s"]);
    }
    cluster.restart(Duration::from_secs(1));
    eventually(|| cluster.request_or_nothing("/readyz").is_some());
    // pods of all namespaces but two are refused until the bindings are gone: that is why nothing but pods has parameters
    eventually(|| {
        create("plain", &named("probe")).is_err() || {
            delete(&cluster, "/api/v1/namespaces/plain/pods/probe").unwrap();
            false
        }
    });
    create("kube-system", &named("system")).unwrap_or_else(|e| {
        cluster.service_account("kube-system", "default");
        create("kube-system", &named("system")).unwrap_or_else(|_| panic!("{e}"))
    });
    create("mesh-optin", &named("agent")).unwrap();
    cluster.patch(
        "/api/v1/namespaces/mesh-optin/pods/agent/status",
        &json!({"status": {"message": "x"}}),
    );
    // kubelet reports pods that run in the other namespaces, too
    cluster.patch(
        "/api/v1/namespaces/plain/pods/earlier/status",
        &json!({"status": {"message": "x"}}),
    );
    let nads = "/apis/k8s.cni.cncf.io/v1/namespaces/plain/network-attachment-definitions";
    cluster.create(
        nads,
        &super::nad("x", &json!({"config": r#"{"type":"bridge"}"#})),
    );
    cluster.enter(&[
        "kubectl",
        "delete",
        "-k",
        &super::folder_of("admission/bindings"),
    ]);
    eventually(|| create("plain", &named("after")).is_ok());
    create("team-a", &injected(&json!({}))).unwrap();
}
