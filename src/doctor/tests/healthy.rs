//! The facts of a healthy cluster.

use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::{Value, json, value::RawValue};

use crate::{
    doctor::{
        cluster::Trial,
        facts::{Facts, Injector, InjectorService},
        objects::{ProfileObject, Webhook},
    },
    profile::{crd, mesh_node_crd},
};

const NOW: &str = "2026-01-01T12:00:00Z";
/// The version of what is installed.
pub(super) use crate::profile::VERSION as OURS;

/// Our CRDs, which take a moment to make.
static CRDS: LazyLock<Vec<Value>> = LazyLock::new(|| vec![crd(), mesh_node_crd()]);

pub(super) fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn profile(name: &str, spec: &Value, ready: &Value) -> ProfileObject {
    let text = json!({
        "apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": name, "generation": 1}, "spec": spec,
        "status": {"observedGeneration": 1, "conditions": [with_time(ready)], "namespaces": {"governed": 1, "attached": 1, "conflicting": 0}},
    });
    ProfileObject::of(&RawValue::from_string(text.to_string()).unwrap())
}

fn with_time(condition: &Value) -> Value {
    let mut condition = condition.clone();
    condition["lastTransitionTime"] = json!(NOW);
    condition
}

fn condition(kind: &str) -> Value {
    with_time(&json!({"type": kind, "status": "True", "reason": "AsExpected", "message": ""}))
}

/// An injected pod that names the attachment, as far as it counts.
fn pod() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "team-a", "uid": "u", "annotations": {
            "sidecar.istio.io/status": "{}", "k8s.v1.cni.cncf.io/networks": "default/istio-cni"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "app"}, {"name": "istio-proxy", "args": ["proxy", "sidecar"]}]},
        "status": {"podIPs": [{"ip": "10.0.0.1"}]},
    })
}

/// The webhooks by which Istio's chart injects what names a revision or tag; `default` is what `istio-injection` stands for, too.
pub(super) fn webhooks(configuration: &str, tag: &str) -> Vec<(String, Webhook)> {
    let one = |namespace: Value, object: Value| {
        let webhook = of(json!({
            "failurePolicy": "Fail", "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system"}},
            "namespaceSelector": {"matchExpressions": namespace}, "objectSelector": {"matchExpressions": object},
        }));
        (configuration.to_owned(), webhook)
    };
    let absent = |key: &str| json!({"key": key, "operator": "DoesNotExist"});
    let is = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let not_out =
        json!({"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]});
    let (rev, injection) = (absent("istio.io/rev"), absent("istio-injection"));
    let mut all = vec![
        one(
            json!([is("istio.io/rev", tag), injection]),
            json!([not_out]),
        ),
        one(
            json!([rev, injection]),
            json!([not_out, is("istio.io/rev", tag)]),
        ),
    ];
    if tag == "default" {
        all.extend([
            one(json!([is("istio-injection", "enabled")]), json!([not_out])),
            one(
                json!([injection, rev]),
                json!([is("sidecar.istio.io/inject", "true"), rev]),
            ),
        ]);
    }
    all
}

pub(super) fn healthy() -> Facts {
    let conditions = [
        "Ready",
        "ProgramInstalled",
        "PathsVerified",
        "SelfTestPassed",
        "ProfilesKnown",
        "HostCredential",
    ]
    .map(condition);
    let policies = [
        "mesh-optin-agent-events",
        "mesh-optin-agent-node",
        "mesh-optin-agent-token",
        "mesh-optin-attachments",
        "mesh-optin-crds",
        "mesh-optin-default-network",
        "mesh-optin-enforced",
        "mesh-optin-overrides",
        "mesh-optin-pod-status",
        "mesh-optin-pods",
        "mesh-optin-profile-fields",
        "mesh-optin-reserved-names",
    ];
    let values = json!({"pilot": {"cni": {"enabled": true, "provider": "multus"}}}).to_string();
    Facts {
        is_before: false,
        scope: None,
        version: "v1.34.2".into(),
        date: Some(NOW.parse().unwrap()),
        here: NOW.parse().unwrap(),
        nodes: Ok(Some(of(
            json!([{"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}, "status": {"nodeInfo": {"kernelVersion": "5.14.0-570.el9"}}}]),
        ))),
        namespaces: Ok(Some(of(json!([
            {"metadata": {"name": "default"}},
            {"metadata": {"name": "kube-system"}},
            {"metadata": {"name": "team-a", "labels": {"istio-injection": "enabled"}}},
        ])))),
        pods: Ok(Some(of(json!([pod()])))),
        daemon_sets: Ok(Some(of(json!([
            {
                "metadata": {"name": "kube-multus-ds", "namespace": "kube-system"},
                "spec": {"template": {"spec": {
                    "containers": [{
                        "name": "kube-multus", "image": "ghcr.io/k8snetworkplumbingwg/multus-cni:v4.3.0-thick", "command": ["/usr/src/multus-cni/bin/multus-daemon"],
                        "volumeMounts": [{"mountPath": "/etc/cni/multus/net.d"}],
                    }],
                    "volumes": [{"configMap": {"name": "multus-daemon-config"}}],
                }}},
                "status": {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1},
            },
            {
                "metadata": {"name": "mesh-optin-agent", "namespace": "mesh-optin"},
                "spec": {"template": {"spec": {"containers": [{"name": "agent", "image": format!("x/mesh-optin:{OURS}"), "args": ["agent", "--default-profile=Required"]}]}}},
                "status": {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1},
            },
        ])))),
        controllers: Ok(Some(of(json!([{
            "metadata": {"name": "mesh-optin-controller", "namespace": "mesh-optin"},
            "spec": {"template": {"spec": {"containers": [{"name": "controller", "image": format!("x/mesh-optin:{OURS}")}]}}},
        }])))),
        attachments: Ok(Some(vec![crate::multus::AttachmentDefinition {
            namespace: "default".into(),
            name: "istio-cni".into(),
            config: Some(r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"mesh-optin"}"#.into()),
        }])),
        definitions: Ok(Some(CRDS.clone())),
        not_found: Ok(Some(vec![])),
        profiles: Ok(Some(vec![profile(
            "default",
            &json!({}),
            &condition("Ready"),
        )])),
        mesh_nodes: Ok(Some(of(json!([{
            "metadata": {"name": "n1"},
            "status": {
                "version": OURS, "programVersion": OURS, "kernel": "5.14.0", "backend": "Nftables", "multus": {"mode": "thick"},
                "conditions": conditions, "pods": {"redirected": 1}, "lastAudit": NOW, "lastReport": NOW, "problemsTotal": 0,
            },
        }])))),
        multus: Ok(Some(of(
            json!({"data": {"daemon-config.json": "{\"cniVersion\":\"0.3.1\"}"}}),
        ))),
        multus_pods: Ok(Some(of(json!([{
            "metadata": {"name": "kube-multus-ds-x"}, "spec": {"nodeName": "n1"},
            "status": {"containerStatuses": [{"name": "kube-multus", "restartCount": 10, "lastState": {"terminated": {"reason": "Error"}}}]},
        }])))),
        injectors: Ok(Some(vec![Injector {
            revision: "default".into(),
            namespace: "istio-system".into(),
            services: vec![InjectorService {
                name: "istiod".into(),
                ready: Ok(Some(1)),
            }],
            webhooks: webhooks("istio-sidecar-injector", "default"),
            config: Ok(Some(of(json!({"data": {"values": values}})))),
        }])),
        istio_cnis: Ok(None),
        networks_policy: Ok(None),
        policies: Ok(Some(of(policies
            .iter()
            .map(|name| json!({"metadata": {"name": name}}))
            .collect()))),
        bindings: Ok(Some(of(policies
            .iter()
            .map(|name| json!({"spec": {"policyName": name}}))
            .collect()))),
        forbidden: Ok(Trial::Refused(
            "ValidatingAdmissionPolicy 'mesh-optin-attachments' denied request: no".into(),
        )),
        bypasses: Ok(false),
    }
}
