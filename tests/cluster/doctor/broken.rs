use serde_json::{Value, json};

use super::*;
use crate::support::kubectl::{check, doctor_says, finds, mesh_optin};

/// What breaks, which check says so, and parts of what it says and of the remedy. It is whole again afterwards.
struct Broken {
    check: &'static str,
    result: &'static str,
    message: &'static str,
    remedy: &'static str,
    breaks: fn(&Cluster),
    mends: fn(&Cluster),
}

fn delete(cluster: &Cluster, path: &str) {
    cluster.request("DELETE", path, &Value::Null).unwrap();
}

fn delete_pod(cluster: &Cluster, name: &str) {
    let path = "/api/v1/namespaces/team-a/pods";
    delete(cluster, &format!("{path}/{name}?gracePeriodSeconds=0"));
}

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

const BROKEN: &[Broken] = &[
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
        check: "NodeKernel",
        result: "error",
        message: "node n1: the kernel is 4.18.0-553.el8",
        remedy: "upgrade the node",
        breaks: |c| c.patch("/api/v1/nodes/n1/status", &kernel_of("4.18.0-553.el8")),
        mends: |c| c.patch("/api/v1/nodes/n1/status", &kernel_of("6.12.0")),
    },
    Broken {
        check: "AgentsReady",
        result: "error",
        message: "agents are ready on 0 of 1 nodes",
        remedy: "kubectl -n mesh-optin describe daemonset mesh-optin-agent",
        breaks: |c| c.patch(&format!("{AGENTS}/status"), &ready(0)),
        mends: |c| c.patch(&format!("{AGENTS}/status"), &ready(1)),
    },
    Broken {
        check: "AgentsReady",
        result: "error",
        message: "node n1: the agent is not ready: no list is complete",
        remedy: "kubectl get meshnode n1 -o yaml",
        breaks: |c| c.patch(MESH_NODE, &report_with("Ready", "no list is complete")),
        mends: |c| c.patch(MESH_NODE, &report()),
    },
    Broken {
        check: "VersionSkew",
        result: "error",
        message: r#"the program that Multus calls is "0.1.0""#,
        remedy: "ProgramInstalled",
        breaks: |c| c.patch(MESH_NODE, &json!({"status": {"programVersion": "0.1.0"}})),
        mends: |c| c.patch(MESH_NODE, &report()),
    },
    Broken {
        check: "HostCredential",
        result: "error",
        message: "node n1: the token expires",
        remedy: "log",
        breaks: |c| {
            c.patch(
                MESH_NODE,
                &report_with("HostCredential", "the token expires"),
            )
        },
        mends: |c| c.patch(MESH_NODE, &report()),
    },
    Broken {
        check: "ProfilesAccepted",
        result: "error",
        message: "namespaces team-a (one, two): several MeshProfiles govern them",
        remedy: "disjoint",
        breaks: |c| {
            let spec = json!({"namespaces": {"matchLabels": {"istio-injection": "enabled"}}});
            c.profile("one", &spec);
            c.profile("two", &spec);
        },
        mends: |c| {
            delete(c, &format!("{PROFILES}/one"));
            delete(c, &format!("{PROFILES}/two"));
        },
    },
    Broken {
        check: "Attachments",
        result: "error",
        message: "NetworkAttachmentDefinition default/istio-cni: it is not there",
        remedy: "attachment.create",
        breaks: |c| delete(c, &shared()),
        mends: |c| {
            drop(c.create(
                "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions",
                &attachment("mesh-optin"),
            ))
        },
    },
    Broken {
        check: "Attachments",
        result: "error",
        message: "it calls another plugin",
        remedy: "kubectl -n default delete network-attachment-definition istio-cni",
        breaks: |c| c.patch(&shared(), &json!({"spec": attachment("macvlan")["spec"]})),
        mends: |c| {
            c.patch(
                &shared(),
                &json!({"spec": attachment("mesh-optin")["spec"]}),
            )
        },
    },
    Broken {
        check: "AdmissionInForce",
        result: "warning",
        message: "policies mesh-optin-pod-status: they are not in force",
        remedy: "kubectl apply -k deploy/admission/bindings",
        breaks: |c| delete(c, &format!("{BINDINGS}/mesh-optin-pod-status")),
        mends: |c| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/admission/bindings");
            c.enter(&["kubectl", "apply", "-k", folder]);
        },
    },
    Broken {
        check: "InjectedWithoutAttachment",
        result: "error",
        message: "pod team-a/stray: it has a sidecar and names no attachment",
        remedy: "name default/istio-cni",
        breaks: |c| {
            c.create_changed_pod("defaults", "stray", |pod| {
                let annotations = pod["metadata"]["annotations"].as_object_mut();
                annotations.unwrap().remove("k8s.v1.cni.cncf.io/networks");
            });
        },
        mends: |c| delete_pod(c, "stray"),
    },
    Broken {
        check: "PodsRedirected",
        result: "error",
        message: "pod team-a/web: Drifted on node n1",
        remedy: "delete the pod",
        breaks: |c| {
            let problem = json!({"namespace": "team-a", "pod": "web", "reason": "Drifted", "since": "2026-01-01T00:00:00Z"});
            c.patch(
                MESH_NODE,
                &json!({"status": {"problems": [problem], "problemsTotal": 1}}),
            );
        },
        mends: |c| c.patch(MESH_NODE, &report()),
    },
    Broken {
        check: "OptOuts",
        result: "advice",
        message: "pods team-a/own-network: 1 of enrolled namespaces: the pod uses the host's network",
        remedy: "tenants.mayOptOut: false",
        breaks: |c| {
            c.create_changed_pod("defaults", "own-network", |pod| {
                pod["spec"]["hostNetwork"] = json!(true)
            });
        },
        mends: |c| delete_pod(c, "own-network"),
    },
    Broken {
        check: "Leftovers",
        result: "advice",
        message: "NetworkAttachmentDefinition team-a/v2-5-istio-cni: it is for istio-cni",
        remedy: "kubectl -n team-a delete network-attachment-definition v2-5-istio-cni",
        breaks: |c| {
            let mut left = attachment("istio-cni");
            left["metadata"] = json!({"name": "v2-5-istio-cni", "namespace": "team-a"});
            left["spec"] = json!({});
            let path = attachment_path("team-a", "");
            c.create(path.trim_end_matches('/'), &left);
        },
        mends: |c| delete(c, &attachment_path("team-a", "v2-5-istio-cni")),
    },
];

const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

#[test]
fn a_healthy_cluster_is_healthy_and_whatever_breaks_is_named_with_its_remedy() {
    let guard = healthy();
    let (cluster, kubeconfig) = &*guard;
    let all: &[&str] = &[];
    let admin = (cluster, kubeconfig.as_path(), all);
    let is_healthy = |after: &str| {
        doctor_says(admin, after, |code, json| {
            code == 0 && json["healthy"] == true
        })
    };
    let json = is_healthy("the installation");
    assert!(
        finds(
            &json,
            "DefaultProfile",
            "deleted by mistake",
            "defaultProfile: Required"
        ),
        "{json:#}"
    );
    for Broken {
        check: name,
        result,
        message,
        remedy,
        breaks,
        mends,
    } in BROKEN
    {
        breaks(cluster);
        doctor_says(admin, &format!("{name}: {message}"), |code, json| {
            let expected = if *result == "advice" { 0 } else { 5 };
            code == expected
                && check(json, name)["result"] == *result
                && finds(json, name, message, remedy)
        });
        mends(cluster);
        is_healthy(&format!("{name} was mended"));
    }
    let (code, out, _) = mesh_optin(cluster, kubeconfig, &["doctor", "--pre", "-o", "short"]);
    assert_eq!(code, 0, "{out}");
    assert!(!out.contains("AgentsReady"), "{out}");
}
