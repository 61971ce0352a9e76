//! What Kubernetes, Multus and Istio are broken by.

use serde_json::{Value, json};

use super::{
    broken::{Broken, delete, delete_pod},
    *,
};

fn config_of_multus(cluster: &Cluster, config: &Value) {
    let data = json!({"data": {"daemon-config.json": config.to_string()}});
    cluster.patch(MULTUS_CONFIG, &data);
}

fn daemon_set(cluster: &Cluster, image: &str, mounts: &[&str]) {
    let path = format!("{DAEMON_SETS}/kube-multus-ds");
    cluster.patch(&path, &multus_of(image, mounts));
}

fn memory_of_multus(cluster: &Cluster, limit: Option<&str>) {
    let mut daemon_set = multus_of(IMAGE, MOUNTS);
    let container = &mut daemon_set["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({"limits": limit.map(|limit| json!({"memory": limit}))});
    cluster.patch(&format!("{DAEMON_SETS}/kube-multus-ds"), &daemon_set);
}

fn endpoint_is(cluster: &Cluster, ready: bool) {
    let endpoint = json!({"addresses": ["192.0.2.20"], "conditions": {"ready": ready}});
    cluster.patch(INJECTOR_SLICE, &json!({"endpoints": [endpoint]}));
}

fn on_failure(cluster: &Cluster, policy: &str) {
    let mut webhooks = cluster.request("GET", WEBHOOKS, &Value::Null).unwrap();
    webhooks["webhooks"][0]["failurePolicy"] = json!(policy);
    cluster.request("PUT", WEBHOOKS, &webhooks).unwrap();
}

const IMAGE: &str = "ghcr.io/k8snetworkplumbingwg/multus-cni:v4.3.0-thick";
const MOUNTS: &[&str] = &["/etc/cni/multus/net.d"];

const ISTIO_CNIS: &str = "/apis/sailoperator.io/v1/istiocnis";

/// The profile asks for this backend; its status is of the new generation.
fn backend(cluster: &Cluster, backend: &str) {
    let spec = json!({"spec": {"redirect": {"backend": backend}}});
    cluster.patch(&format!("{PROFILES}/default"), &spec);
    accepted(cluster);
}

pub(super) const PLATFORM: &[Broken] = &[
    Broken {
        check: "MultusInstalled",
        result: "warning",
        message: "ready on 0 of 1 nodes",
        remedy: "kubectl -n kube-system rollout status daemonset/kube-multus-ds",
        breaks: |c| c.patch(&format!("{DAEMON_SETS}/kube-multus-ds/status"), &ready(0)),
        mends: |c| c.patch(&format!("{DAEMON_SETS}/kube-multus-ds/status"), &ready(1)),
    },
    Broken {
        check: "MultusVersion",
        result: "error",
        message: "older than 4.0",
        remedy: "upgrade Multus",
        breaks: |c| daemon_set(c, "ghcr.io/k8snetworkplumbingwg/multus-cni:v3.9.3", MOUNTS),
        mends: |c| daemon_set(c, IMAGE, MOUNTS),
    },
    Broken {
        check: "MultusVersion",
        result: "warning",
        message: "nodes n1: Multus 4.2 is older than 4.3",
        remedy: "upgrade Multus",
        breaks: |c| {
            c.patch(
                MESH_NODE,
                &json!({"status": {"multus": {"version": "v4.2.4"}}}),
            )
        },
        mends: |c| c.patch(MESH_NODE, &report()),
    },
    Broken {
        check: "MultusBinDir",
        result: "error",
        message: "Multus looks in /var/lib/cni/bin, and agents use /opt/cni/bin",
        remedy: "platform or paths",
        breaks: |c| config_of_multus(c, &json!({"binDir": "/var/lib/cni/bin"})),
        mends: |c| config_of_multus(c, &json!({})),
    },
    Broken {
        check: "MultusConfDir",
        result: "warning",
        message: "does not mount /etc/cni/multus/net.d",
        remedy: "mount /etc/cni/multus/net.d",
        breaks: |c| daemon_set(c, IMAGE, &["/elsewhere"]),
        mends: |c| daemon_set(c, IMAGE, MOUNTS),
    },
    Broken {
        check: "MultusMemory",
        result: "warning",
        message: "its memory is limited to 50Mi or less",
        remedy: "200Mi",
        breaks: |c| {
            memory_of_multus(c, Some("50Mi"));
            for n in 0..51 {
                c.create_changed_pod("defaults", &format!("crowd-{n}"), |pod| {
                    pod["spec"]["nodeName"] = json!("n1")
                });
            }
        },
        mends: |c| {
            memory_of_multus(c, None);
            for n in 0..51 {
                delete_pod(c, &format!("crowd-{n}"));
            }
        },
    },
    Broken {
        check: "MultusMemory",
        result: "warning",
        message: "the kernel has killed it for want of memory on nodes n1",
        remedy: "its container has no limit",
        breaks: |c| {
            let path = "/api/v1/namespaces/kube-system/pods";
            c.service_account("kube-system", "default");
            let pod = json!({
                "metadata": {"name": "kube-multus-ds-x", "labels": {"name": "multus"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "kube-multus", "image": IMAGE}]},
            });
            c.create(path, &pod);
            let terminated = json!({"reason": "OOMKilled", "exitCode": 137});
            let container = json!({"name": "kube-multus", "image": IMAGE, "imageID": "", "ready": true, "restartCount": 1, "lastState": {"terminated": terminated}});
            let status = json!({"status": {"containerStatuses": [container]}});
            c.patch(&format!("{path}/kube-multus-ds-x/status"), &status);
        },
        mends: |c| {
            delete(
                c,
                "/api/v1/namespaces/kube-system/pods/kube-multus-ds-x?gracePeriodSeconds=0",
            )
        },
    },
    Broken {
        check: "NamespaceIsolation",
        result: "error",
        message: "may not name the shared attachment",
        remedy: "globalNamespaces",
        breaks: |c| {
            config_of_multus(
                c,
                &json!({"namespaceIsolation": true, "globalNamespaces": "infra"}),
            )
        },
        mends: |c| config_of_multus(c, &json!({})),
    },
    Broken {
        check: "OtherCniInstalled",
        result: "warning",
        message: "DaemonSet kube-system/istio-cni-node",
        remedy: "Coming from istio-cni",
        breaks: |c| {
            let mut other = multus_of("istio/install-cni:1.27.0", &[]);
            other["metadata"] = json!({"name": "istio-cni-node"});
            other["spec"]["template"]["spec"]["containers"][0]["name"] = json!("install-cni");
            c.create(DAEMON_SETS, &other);
        },
        mends: |c| delete(c, &format!("{DAEMON_SETS}/istio-cni-node")),
    },
    Broken {
        check: "OtherCniInstalled",
        result: "warning",
        message: "IstioCNI default: the Sail operator installs",
        remedy: "kubectl delete istiocnis.sailoperator.io default",
        breaks: |c| {
            let cni = json!({"apiVersion": "sailoperator.io/v1", "kind": "IstioCNI", "metadata": {"name": "default"}});
            c.create(ISTIO_CNIS, &cni);
        },
        mends: |c| delete(c, &format!("{ISTIO_CNIS}/default")),
    },
    Broken {
        check: "AmbientInUse",
        result: "warning",
        message: "namespaces istio-system: ambient mode is in use without",
        remedy: "install Istio's CNI plugin again",
        breaks: |c| {
            c.patch(
                "/api/v1/namespaces/istio-system",
                &json!({"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}}),
            )
        },
        mends: |c| {
            c.patch(
                "/api/v1/namespaces/istio-system",
                &json!({"metadata": {"labels": {"istio.io/dataplane-mode": null}}}),
            )
        },
    },
    Broken {
        check: "InjectorProvider",
        result: "error",
        message: "pilot.cni.provider is not multus",
        remedy: "-n istio-system --reuse-values --set pilot.cni.enabled=true --set pilot.cni.provider=multus",
        breaks: |c| {
            c.patch(
                INJECTOR,
                &injector(&json!({"enabled": true, "provider": "default"})),
            )
        },
        mends: |c| {
            c.patch(
                INJECTOR,
                &injector(&json!({"enabled": true, "provider": "multus"})),
            )
        },
    },
    Broken {
        check: "InjectorHealthy",
        result: "error",
        message: "service istio-system/istiod: the injector of revision default has no endpoint",
        remedy: "kubectl -n istio-system get endpointslices -l kubernetes.io/service-name=istiod",
        breaks: |c| endpoint_is(c, false),
        mends: |c| endpoint_is(c, true),
    },
    Broken {
        check: "InjectorHealthy",
        result: "warning",
        message: "MutatingWebhookConfiguration istio-sidecar-injector: failurePolicy is Ignore",
        remedy: "failurePolicy",
        breaks: |c| on_failure(c, "Ignore"),
        mends: |c| on_failure(c, "Fail"),
    },
    Broken {
        check: "InjectorHealthy",
        result: "warning",
        message: "namespaces team-a: several control planes inject the same pods, by MutatingWebhookConfigurations istio-sidecar-injector, istio-sidecar-injector-mesh2",
        remedy: "istio.io/rev",
        breaks: |c| {
            let mut webhooks = c.request("GET", WEBHOOKS, &Value::Null).unwrap();
            let webhook = &mut webhooks["webhooks"][0];
            webhook["objectSelector"] = json!({});
            webhook["namespaceSelector"] = json!({"matchLabels": {"istio-injection": "enabled"}});
            c.request("PUT", WEBHOOKS, &webhooks).unwrap();
            webhooks["webhooks"][0]["clientConfig"]["service"]["namespace"] = json!("mesh2");
            let labels = &webhooks["metadata"]["labels"];
            webhooks["metadata"] =
                json!({"name": "istio-sidecar-injector-mesh2", "labels": labels});
            let (all, _) = WEBHOOKS.rsplit_once('/').unwrap();
            c.create(all, &webhooks);
        },
        mends: |c| {
            delete(c, &format!("{WEBHOOKS}-mesh2"));
            let mut webhooks = c.request("GET", WEBHOOKS, &Value::Null).unwrap();
            let webhook = &mut webhooks["webhooks"][0];
            webhook["objectSelector"] = json!({"matchLabels": {"no": "pod"}});
            webhook["namespaceSelector"] = json!({});
            c.request("PUT", WEBHOOKS, &webhooks).unwrap();
        },
    },
    Broken {
        check: "NodeKernel",
        result: "error",
        message: "node n1: the kernel is 4.18.0-553.el8, that of RHEL 8",
        remedy: "upgrade the node to RHEL 9 or later",
        breaks: |c| c.patch("/api/v1/nodes/n1/status", &kernel_of("4.18.0-553.el8")),
        mends: |c| c.patch("/api/v1/nodes/n1/status", &kernel_of("6.12.0")),
    },
    Broken {
        check: "NodeKernel",
        result: "advice",
        message: "MeshProfile default: redirect.backend is Iptables: on nodes n1, of RHEL 10,",
        remedy: "set redirect.backend to Auto",
        breaks: |c| {
            let kernel = kernel_of("6.12.0-124.13.1.el10_1.x86_64");
            c.patch("/api/v1/nodes/n1/status", &kernel);
            backend(c, "Iptables");
        },
        mends: |c| {
            c.patch("/api/v1/nodes/n1/status", &kernel_of("6.12.0"));
            backend(c, "Auto");
        },
    },
];
