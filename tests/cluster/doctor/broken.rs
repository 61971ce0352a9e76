use serde_json::{Value, json};

use super::{platform::PLATFORM, *};
use crate::support::kubectl::{check, doctor_says, finds, mesh_optin};

/// What breaks, which check says so, and parts of what it says and of the remedy. It is whole again afterwards.
pub(super) struct Broken {
    pub(super) check: &'static str,
    pub(super) result: &'static str,
    pub(super) message: &'static str,
    pub(super) remedy: &'static str,
    pub(super) breaks: fn(&Cluster),
    pub(super) mends: fn(&Cluster),
}

pub(super) fn delete(cluster: &Cluster, path: &str) {
    cluster.request("DELETE", path, &Value::Null).unwrap();
}

pub(super) fn delete_pod(cluster: &Cluster, name: &str) {
    let path = "/api/v1/namespaces/team-a/pods";
    delete(cluster, &format!("{path}/{name}?gracePeriodSeconds=0"));
}

fn arguments_of_agents(cluster: &Cluster, change: fn(&mut Vec<Value>)) {
    let mut agents = cluster.request("GET", AGENTS, &Value::Null).unwrap();
    let container = &mut agents["spec"]["template"]["spec"]["containers"][0];
    change(container["args"].as_array_mut().unwrap());
    cluster.request("PUT", AGENTS, &agents).unwrap();
}

/// What mesh-optin itself is broken by.
const BROKEN: &[Broken] = &[
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
        check: "VersionSkew",
        result: "warning",
        message: "CustomResourceDefinition meshprofiles.meshoptin.dev: it is older than agents",
        remedy: "kubectl apply -f crds/meshoptin.dev_meshprofiles.yaml",
        breaks: |c| {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/meshprofiles.meshoptin.dev";
            let mut crd = c.request("GET", path, &Value::Null).unwrap();
            let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let spec = &mut schema["properties"]["spec"]["properties"];
            spec.as_object_mut().unwrap().remove("drift").unwrap();
            c.request("PUT", path, &crd).unwrap();
        },
        mends: |c| c.apply_crds(),
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
        check: "DefaultProfile",
        result: "error",
        message: "MeshProfiles: there is none, and agents have --default-profile=Required: new pods of the mesh are refused",
        remedy: "crds/README.md has an example",
        breaks: |c| {
            arguments_of_agents(c, |arguments| {
                arguments.push(json!("--default-profile=Required"))
            });
            delete(c, &format!("{PROFILES}/default"));
        },
        mends: |c| {
            arguments_of_agents(c, |arguments| drop(arguments.pop()));
            c.profile("default", &json!({}));
            accepted(c);
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
        check: "Attachments",
        result: "error",
        message: "NetworkAttachmentDefinition team-a/db: Multus did not find it (Event NoNetworkFound): pods team-a/waiting do not start",
        remedy: "kubectl -n team-a get network-attachment-definitions",
        breaks: |c| {
            c.create_changed_pod("defaults", "waiting", |pod| {
                pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] =
                    json!("default/istio-cni,db");
            });
            let path = "/api/v1/namespaces/team-a/pods/waiting";
            let pod = c.request("GET", path, &Value::Null).unwrap();
            let event = json!({
                "metadata": {"name": "waiting.1"}, "type": "Warning", "reason": "NoNetworkFound",
                "involvedObject": {"kind": "Pod", "namespace": "team-a", "name": "waiting", "uid": pod["metadata"]["uid"]},
                "message": "cannot find a network-attachment-definition (db) in namespace (team-a): network-attachment-definitions.k8s.cni.cncf.io \"db\" not found",
                "lastTimestamp": jiff::Timestamp::now().to_string().split('.').next().map(|t| format!("{t}Z")), "source": {"component": "multus"},
            });
            c.create(EVENTS, &event);
        },
        mends: |c| {
            delete(c, &format!("{EVENTS}/waiting.1"));
            delete_pod(c, "waiting");
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

const EVENTS: &str = "/api/v1/namespaces/team-a/events";
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
    } in PLATFORM.iter().chain(BROKEN)
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
