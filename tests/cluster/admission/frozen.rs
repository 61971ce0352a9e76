//! What an injected pod says, which its spec was made for.

use serde_json::{Value, json};

use super::{
    enforced::{IDENTITY, STAYS, labeled},
    *,
};

#[test]
fn the_mesh_settings_of_an_injected_pod_cannot_be_changed() {
    let cluster = guarded();
    let pods = "/api/v1/namespaces/team-a/pods";
    let mut pod = attached(
        &json!({"metadata": {"name": "frozen", "labels": {"a": "b", "istio.io/rev": "x"}}}),
    );
    pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeOutboundPorts"] = json!("1");
    cluster.create(pods, &pod);
    let path = format!("{pods}/frozen");
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    let annotation = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    for (change, key) in [
        (
            label("sidecar.istio.io/inject", json!("false")),
            "sidecar.istio.io/inject",
        ),
        (label("istio.io/rev", json!(null)), "istio.io/rev"),
        (label("istio.io/rev", json!("y")), "istio.io/rev"),
        (
            annotation("sidecar.istio.io/inject", json!("false")),
            "sidecar.istio.io/inject",
        ),
        (
            annotation("sidecar.istio.io/status", json!(null)),
            "sidecar.istio.io/status",
        ),
        (
            annotation("sidecar.istio.io/status", json!("x")),
            "sidecar.istio.io/status",
        ),
        (
            annotation("sidecar.istio.io/interceptionMode", json!("NONE")),
            "sidecar.istio.io/interceptionMode",
        ),
        (
            annotation(
                "traffic.sidecar.istio.io/excludeOutboundPorts",
                json!("1,2"),
            ),
            "traffic.sidecar.istio.io/excludeOutboundPorts",
        ),
        (
            annotation("traffic.sidecar.istio.io/excludeOutboundPorts", json!(null)),
            "traffic.sidecar.istio.io/excludeOutboundPorts",
        ),
        (
            annotation("traffic.sidecar.istio.io/excludeInterfaces", json!("eth0")),
            "traffic.sidecar.istio.io/excludeInterfaces",
        ),
        (
            annotation("istio.io/reroute-virtual-interfaces", json!("tap0")),
            "istio.io/reroute-virtual-interfaces",
        ),
        (annotation(NETWORKS, json!("default/istio-cni,x")), NETWORKS),
        (
            annotation("v1.multus-cni.io/default-network", json!("x")),
            "v1.multus-cni.io/default-network",
        ),
    ] {
        let (result, _) = patch(cluster, &path, &change);
        let refused = result.unwrap_err();
        assert!(
            refused.contains(STAYS) && refused.contains(&format!("{key} of a pod with a sidecar")),
            "{change}: {refused}"
        );
    }
    for change in [
        label("a", json!("c")),
        label("service.istio.io/canonical-name", json!("x")),
        annotation("kubectl.kubernetes.io/restartedAt", json!("x")),
        json!({"metadata": {"finalizers": ["a.example/b"]}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"spec": {"activeDeadlineSeconds": 100}}),
    ] {
        let (result, _) = patch(cluster, &path, &change);
        assert!(result.is_ok(), "{change}: {result:?}");
    }
    let debug = |context: Value| json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "x", "securityContext": context}]}});
    let path = format!("{path}/ephemeralcontainers?dryRun=All");
    for (context, is_allowed) in [
        (json!({"runAsUser": 1000}), true),
        (json!({}), true),
        (json!({"runAsUser": 1337}), false),
        (json!({"runAsGroup": 1337}), false),
    ] {
        let (result, _) = super::request(
            cluster,
            "tenant",
            ("PATCH", &path),
            "application/strategic-merge-patch+json",
            &debug(context.clone()),
        );
        match result {
            Ok(_) => assert!(is_allowed, "{context}"),
            Err(refused) => assert!(
                !is_allowed && refused.contains(IDENTITY),
                "{context}: {refused}"
            ),
        }
    }
    // a pod from before the profile can be debugged, whatever its own containers run as
    let mut shared = attached(&json!({"metadata": {"name": "shared"}}));
    shared["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1337});
    shared["spec"]["securityContext"] = json!({"supplementalGroups": [1337]});
    cluster.create(pods, &shared);
    let path = format!("{pods}/shared/ephemeralcontainers");
    let add = |name: &str, user: i64| {
        let container = json!({"name": name, "image": "x", "securityContext": {"runAsUser": user}});
        let change = json!({"spec": {"ephemeralContainers": [container]}});
        let content = "application/strategic-merge-patch+json";
        super::request(cluster, "tenant", ("PATCH", &path), content, &change).0
    };
    assert!(add("first", 1000).is_ok(), "{:?}", add("first", 1000));
    let refused = add("second", 1337).unwrap_err();
    assert!(
        refused.contains("container second runs as the user"),
        "{refused}"
    );
    let by_admin = json!({"spec": {"ephemeralContainers": [{"name": "admin-s", "image": "x", "securityContext": {"runAsUser": 1337}}]}});
    let content = "application/strategic-merge-patch+json";
    super::request(cluster, "admin", ("PATCH", &path), content, &by_admin)
        .0
        .unwrap();
    assert!(add("third", 1000).is_ok(), "{:?}", add("third", 1000));
    // and nothing that was there before a profile is stranded by it: it keeps its labels for its owner to change
    let mut older = labeled("false");
    older["metadata"]["name"] = json!("older");
    cluster.create(pods, &older);
    let (result, _) = patch(cluster, &format!("{pods}/older"), &label("a", json!("b")));
    assert!(result.is_ok(), "{result:?}");
}
