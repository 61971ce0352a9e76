//! The mutating policy, behind something that injects as Istio's webhook does.

use serde_json::{Value, json};

use super::{NETWORKS, apply_folder, create, eventually, folder_of, merge, plain, start};
use crate::support::cluster::Cluster;

/// Injects a sidecar into the pods of a namespace after our policy came: names are called in their order.
const INJECTOR: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: zz-injector}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    namespaceSelector: {matchLabels: {istio-injection: enabled}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  matchConditions:
  - {name: none-yet, expression: "!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name == 'istio-proxy')"}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        [JSONPatch{op: 'add', path: '/spec/initContainers', value: [Object.spec.initContainers{name: 'istio-proxy', image: 'x', restartPolicy: 'Always'}]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: zz-injector}
spec: {policyName: zz-injector}
"#;

fn networks(
    cluster: &Cluster,
    namespace: &str,
    said: Option<&str>,
    changes: &Value,
) -> Option<String> {
    let mut pod = plain(changes);
    if let Some(said) = said {
        merge(&mut pod, &super::annotated(NETWORKS, said));
    }
    let created = create(cluster, namespace, &pod, true).0.unwrap();
    created["metadata"]["annotations"][NETWORKS]
        .as_str()
        .map(Into::into)
}

#[test]
fn an_injected_pod_gets_the_attachment_once_and_keeps_what_it_names() {
    let cluster = start();
    if !cluster.has_mutating_policies() {
        // nothing is installed, and pods are created as before
        let folder = folder_of("admission/networks");
        let apply = ["kubectl", "apply", "-k", &folder];
        let refused = cluster.try_enter(&apply).unwrap_err();
        let is_unknown = [
            "the server could not find the requested resource",
            "no matches for kind",
        ];
        assert!(
            is_unknown.iter().any(|words| refused.contains(words)),
            "{refused}"
        );
        assert_eq!(networks(&cluster, "team-a", None, &json!({})), None);
        return;
    }
    cluster.apply(INJECTOR);
    apply_folder(&cluster, "admission/networks");
    let none = json!({});
    eventually(|| networks(&cluster, "team-a", None, &none).is_some());
    let added = r#", {"name":"istio-cni","namespace":"default"}]"#;
    let one = r#"[{"name":"istio-cni","namespace":"default"}]"#;
    for (said, becomes) in [
        (None, "default/istio-cni".to_owned()),
        (Some(""), "default/istio-cni".to_owned()),
        (Some("br-net"), "br-net, default/istio-cni".to_owned()),
        (
            Some("br-net@eth5, x/y"),
            "br-net@eth5, x/y, default/istio-cni".to_owned(),
        ),
        (Some("default/istio-cni"), "default/istio-cni".to_owned()),
        (
            Some(r#"[{"name":"br","ips":["10.0.0.1/24"]}]"#),
            format!(r#"[{{"name":"br","ips":["10.0.0.1/24"]}}{added}"#),
        ),
        (Some("[]"), one.to_owned()),
        (Some(" [ ] "), one.to_owned()),
        (Some(one), one.to_owned()),
        // and some more
        (
            Some("x/istio-cni"),
            "x/istio-cni, default/istio-cni".to_owned(),
        ),
        (
            Some(r#"[{"name":"istio-cni","interface":"mesh0"}]"#),
            r#"[{"name":"istio-cni","interface":"mesh0"}]"#.to_owned(),
        ),
        (
            Some("[\n{\"name\":\"br\"}\n]\n"),
            format!("[\n{{\"name\":\"br\"}}\n{added}"),
        ),
        (Some(r#"{"name":"br"}"#), r#"{"name":"br"}"#.to_owned()),
    ] {
        assert_eq!(
            networks(&cluster, "team-a", said, &none),
            Some(becomes),
            "{said:?}"
        );
    }
    let annotated = json!({"metadata": {"annotations": {"a/b": "c"}}});
    assert_eq!(
        networks(&cluster, "team-a", None, &annotated).as_deref(),
        Some("default/istio-cni")
    );
    // without a sidecar, on the host's network, as a gateway
    assert_eq!(networks(&cluster, "plain", None, &none), None);
    assert_eq!(
        networks(
            &cluster,
            "team-a",
            None,
            &json!({"spec": {"hostNetwork": true}})
        ),
        None
    );
    let gateway = json!({"spec": {"containers": [{"name": "istio-proxy", "image": "x", "args": ["proxy", "router"]}]}});
    assert_eq!(networks(&cluster, "plain", None, &gateway), None);
}
