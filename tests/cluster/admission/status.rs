//! What cannot be changed through pods/status.

use serde_json::{Value, json};

use super::{NETWORKS, attached, guarded, patch};

#[test]
fn networks_and_mesh_settings_cannot_be_changed_through_the_status() {
    let cluster = guarded();
    let pods = "/api/v1/namespaces/team-b/pods"; // governed by nobody: it takes no profile
    let mut pod =
        attached(&json!({"metadata": {"name": "reported", "labels": {"istio.io/rev": "x"}}}));
    pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"] = json!("[]");
    cluster.create(pods, &pod);
    let path = format!("{pods}/reported/status");
    let annotation = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    for (change, is_allowed) in [
        (
            annotation("k8s.v1.cni.cncf.io/network-status", json!("[1]")),
            true,
        ),
        (
            annotation("k8s.v1.cni.cncf.io/networks-status", json!("[]")),
            true,
        ),
        (json!({"status": {"message": "x"}}), true),
        (label("a", json!("b")), true),
        (annotation(NETWORKS, json!(null)), false),
        (annotation(NETWORKS, json!("x")), false),
        (
            annotation("v1.multus-cni.io/default-network", json!("x")),
            false,
        ),
        (annotation("sidecar.istio.io/status", json!(null)), false),
        (annotation("sidecar.istio.io/inject", json!("false")), false),
        (
            annotation("sidecar.istio.io/interceptionMode", json!("NONE")),
            false,
        ),
        (
            annotation("status.sidecar.istio.io/port", json!("1")),
            false,
        ),
        (
            annotation(
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                json!("0.0.0.0/0"),
            ),
            false,
        ),
        (annotation("istio.io/rev", json!("x")), false),
        (label("sidecar.istio.io/inject", json!("false")), false),
        (label("istio.io/rev", json!(null)), false),
        (json!({"metadata": {"annotations": null}}), false),
    ] {
        let (result, _) = patch(cluster, &path, &change);
        match result {
            Ok(_) => assert!(is_allowed, "{change}"),
            Err(refused) => assert!(
                !is_allowed && refused.contains("may not be changed through pods/status"),
                "{change}: {refused}"
            ),
        }
    }
}
