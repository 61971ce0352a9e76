//! `kubectl mesh-optin` with a real kube-apiserver.

mod broken;
mod platform;
mod rights;
mod shown;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    controller::{NODES, PROFILES, attachment_path},
};

const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets";
const AGENTS: &str = "/apis/apps/v1/namespaces/mesh-optin/daemonsets/mesh-optin-agent";
const MULTUS_CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/multus-daemon-config";
const INJECTOR: &str = "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector";
const INJECTOR_SLICE: &str =
    "/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices/istiod";
const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-sidecar-injector";
const MESH_NODE: &str = "/apis/meshoptin.dev/v1alpha1/meshnodes/n1/status";

/// A healthy cluster and an admin's kubeconfig. One test has it at a time, and leaves it as it was.
fn healthy() -> MutexGuard<'static, (Cluster, PathBuf)> {
    static CLUSTER: OnceLock<Mutex<(Cluster, PathBuf)>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Mutex::new(start()));
    let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.0.patch(MESH_NODE, &report());
    cluster
}

/// A cluster as an installation leaves it: there is one node, and what kubelet, Multus, Istio, agent and controller would have written.
fn start() -> (Cluster, PathBuf) {
    let cluster = Cluster::start_with_crds();
    for folder in ["kubernetes", "controller", "admission/bindings"] {
        let folder = format!("{}/deploy/{folder}", env!("CARGO_MANIFEST_DIR"));
        cluster.enter(&["kubectl", "apply", "-k", &folder]);
    }
    cluster.patch(&format!("{AGENTS}/status"), &ready(1));
    cluster.namespace("team-a", &json!({"istio-injection": "enabled"}));
    cluster.namespace("istio-system", &json!({}));
    node(&cluster, "6.12.0");
    multus(&cluster);
    istio(&cluster);
    serve_istio_cnis(&cluster);
    mesh(&cluster);
    let kubeconfig = cluster.kubeconfig("doctor", &json!({"token": "admin"}));
    (cluster, kubeconfig)
}

/// The status of a DaemonSet on one node, with this number of ready pods.
fn ready(number: usize) -> Value {
    json!({"status": {
        "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "updatedNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": number,
    }})
}

fn node(cluster: &Cluster, kernel: &str) {
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}});
    cluster.create("/api/v1/nodes", &node);
    cluster.patch("/api/v1/nodes/n1/status", &kernel_of(kernel));
}

fn kernel_of(kernel: &str) -> Value {
    let texts = [
        "machineID",
        "systemUUID",
        "bootID",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ];
    let mut info: serde_json::Map<_, _> = texts
        .iter()
        .map(|t| ((*t).to_owned(), json!("x")))
        .collect();
    info.insert("kernelVersion".into(), json!(kernel));
    json!({"status": {"nodeInfo": info}})
}

/// Multus's DaemonSet with this image, which mounts these directories.
fn multus_of(image: &str, mounts: &[&str]) -> Value {
    let mounts: Vec<_> = mounts
        .iter()
        .enumerate()
        .map(|(at, path)| json!({"name": format!("v{at}"), "mountPath": path}))
        .collect();
    let volumes =
        (0..mounts.len()).map(|at| json!({"name": format!("v{at}"), "hostPath": {"path": "/x"}}));
    let config = json!({"name": "config", "configMap": {"name": "multus-daemon-config"}});
    json!({"spec": {"selector": {"matchLabels": {"name": "multus"}}, "template": {
        "metadata": {"labels": {"name": "multus"}},
        "spec": {
            "containers": [{"name": "kube-multus", "image": image, "command": ["/usr/src/multus-cni/bin/multus-daemon"], "volumeMounts": mounts}],
            "volumes": volumes.chain([config]).collect::<Vec<_>>(),
        },
    }}})
}

fn multus(cluster: &Cluster) {
    let mut daemon_set = multus_of(
        "ghcr.io/k8snetworkplumbingwg/multus-cni:v4.3.0-thick",
        &["/etc/cni/multus/net.d"],
    );
    daemon_set["metadata"] = json!({"name": "kube-multus-ds"});
    cluster.create(DAEMON_SETS, &daemon_set);
    cluster.patch(&format!("{DAEMON_SETS}/kube-multus-ds/status"), &ready(1));
    let config =
        json!({"metadata": {"name": "multus-daemon-config"}, "data": {"daemon-config.json": "{}"}});
    cluster.create("/api/v1/namespaces/kube-system/configmaps", &config);
}

/// An injector's webhook that matches nothing, and its configuration.
fn istio(cluster: &Cluster) {
    let webhooks = json!({
        "metadata": {"name": "istio-sidecar-injector", "labels": {"app": "sidecar-injector", "istio.io/rev": "default"}},
        "webhooks": [{
            "name": "rev.namespace.sidecar-injector.istio.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system", "path": "/inject"}},
            "objectSelector": {"matchLabels": {"no": "pod"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        }],
    });
    cluster.create(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        &webhooks,
    );
    let slice = json!({
        "metadata": {"name": "istiod", "labels": {"kubernetes.io/service-name": "istiod"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.20"], "conditions": {"ready": true}}],
    });
    cluster.create(INJECTOR_SLICE.trim_end_matches("/istiod"), &slice);
    let mut config = injector(&json!({"enabled": true, "provider": "multus"}));
    config["metadata"] = json!({"name": "istio-sidecar-injector"});
    cluster.create("/api/v1/namespaces/istio-system/configmaps", &config);
}

/// The Sail operator's kind is served when this returns, as its CRD has it, but for the schema.
fn serve_istio_cnis(cluster: &Cluster) {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "istiocnis.sailoperator.io"},
        "spec": {
            "group": "sailoperator.io", "scope": "Cluster",
            "names": {"kind": "IstioCNI", "listKind": "IstioCNIList", "plural": "istiocnis", "singular": "istiocni"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    cluster.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &crd,
    );
    cluster.wait_until_served("istiocnis.sailoperator.io", "v1");
}

fn injector(cni: &Value) -> Value {
    json!({"data": {"values": json!({"pilot": {"cni": cni}}).to_string()}})
}

/// Profile, attachment, the agent's report and a pod.
fn mesh(cluster: &Cluster) {
    cluster.profile("default", &json!({}));
    accepted(cluster);
    cluster.create(
        "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions",
        &attachment("mesh-optin"),
    );
    let node = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": "n1"}});
    cluster.create(NODES, &node);
    cluster.patch(MESH_NODE, &report());
    cluster.create_changed_pod("defaults", "web", |pod| {
        pod["spec"]["nodeName"] = json!("n1")
    });
}

/// What the controller says of the profile's current generation: it is ready.
fn accepted(cluster: &Cluster) {
    let path = format!("{PROFILES}/default");
    let profile = cluster.request("GET", &path, &Value::Null).unwrap();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "AsExpected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {
        "observedGeneration": profile["metadata"]["generation"], "conditions": [condition("Accepted"), condition("Ready")],
        "namespaces": {"governed": 1, "attached": 1, "conflicting": 0},
    }});
    cluster.patch(&format!("{path}/status"), &status);
}

fn attachment(kind: &str) -> Value {
    let config = json!({"cniVersion": "1.1.0", "name": "istio-cni", "type": kind}).to_string();
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "istio-cni", "namespace": "default"}, "spec": {"config": config},
    })
}

/// What the agent of n1 reports, now.
fn report() -> Value {
    let now = jiff::Timestamp::now().to_string();
    let version = env!("CARGO_PKG_VERSION");
    let kinds = [
        "Ready",
        "ProgramInstalled",
        "PathsVerified",
        "SelfTestPassed",
        "ProfilesKnown",
        "HostCredential",
    ];
    json!({"status": {
        "version": version, "programVersion": version, "kernel": "6.12.0", "backend": "Nftables",
        "multus": {"mode": "thick", "version": "", "binDir": "/opt/cni/bin", "confDir": "/etc/cni/multus/net.d"},
        "conditions": kinds.map(|kind| condition(kind, "True", "")),
        "pods": {"redirected": 1, "drifted": 0, "preempted": 0, "outdated": 0, "bypassing": 0, "sidecarMissing": 0, "optedOut": 0, "policyChanged": 0, "unaudited": 0},
        "lastAudit": now, "lastHeard": now, "lastReport": now, "profiles": [], "problems": [], "problemsTotal": 0,
    }})
}

fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "AsExpected", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// The report with another word on a condition.
fn report_with(kind: &str, message: &str) -> Value {
    let mut report = report();
    let conditions = report["status"]["conditions"].as_array_mut().unwrap();
    let at = conditions.iter_mut().find(|c| c["type"] == kind).unwrap();
    *at = condition(kind, "False", message);
    report
}

/// The path of the shared attachment.
fn shared() -> String {
    attachment_path("default", "istio-cni")
}
