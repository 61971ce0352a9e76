//! The policy that adds the attachment to injected pods, as the chart has it.

use serde_json::{Value, json};

use super::{
    installing::{cluster_with_multus, install, ours, uninstall, upgrade},
    objects, template,
};
use crate::support::{cluster::Cluster, controller::until};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";

/// Takes these policies from the API server, as one before Kubernetes 1.36 has none.
fn become_too_old(cluster: &Cluster) {
    let has_none = "s|exec ./kube-apiserver|& --disable-admission-plugins=MutatingAdmissionPolicy \
        --runtime-config=admissionregistration.k8s.io/v1/mutatingadmissionpolicies=false,admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings=false|";
    let script = "/mnt/start-apiserver";
    cluster.enter(&["cp", script, "/mnt/start-as-it-was"]);
    cluster.enter(&["sed", "-i", has_none, script]);
    restart(cluster);
}

fn restart(cluster: &Cluster) {
    cluster.restart(std::time::Duration::ZERO);
    until("the API server is ready", || {
        cluster.request_or_nothing("/readyz").is_some()
    });
}

/// The networks of a pod with a sidecar that is created in a namespace. Until an API server knows of the kind MeshProfile, policies that
/// have it as their parameters refuse every pod.
fn networks(cluster: &Cluster, namespace: &str) -> Result<Option<String>, Value> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "app", "image": "x"}, {"name": "istio-proxy", "image": "x"}]}});
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    let created = cluster.request("POST", &path, &pod)?;
    let networks = &created["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
    Ok(networks.as_str().map(Into::into))
}

#[test]
fn the_chart_adds_its_own_attachment_to_injected_pods_where_the_api_server_can() {
    let cluster = cluster_with_multus();
    let on = "--set=admission.networks=true,attachment.name=mesh";
    let is_new = cluster.has_mutating_policies();
    if is_new {
        become_too_old(&cluster);
        assert!(!cluster.has_mutating_policies());
    }
    let refused = install(&cluster, &[on]).unwrap_err();
    for part in [
        "admission.networks needs Kubernetes 1.36 or later: the API server, v1.",
        "Set admission.networks=false, and let Istio's injector name the attachment",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    install(&cluster, &["--set=attachment.name=mesh"]).unwrap();
    let has =
        |said: Option<&str>| networks(&cluster, "default-account") == Ok(said.map(Into::into));
    until("pods are let in", || has(None));
    if !is_new {
        return;
    }
    cluster.enter(&["cp", "/mnt/start-as-it-was", "/mnt/start-apiserver"]);
    restart(&cluster);
    let said = upgrade(&cluster, &[on]);
    let next =
        "-o wide\n\nNext, tell Istio that it has a CNI plugin. The policy mesh-optin-networks adds";
    assert!(said.contains(next), "{said}");
    assert!(!said.contains("provider=multus"), "{said}");
    until("it is added", || has(Some("default/mesh")));
    // the release's namespace is the agents', wherever that is
    cluster.service_account("mesh-optin", "default");
    assert_eq!(networks(&cluster, "mesh-optin"), Ok(None));
    upgrade(&cluster, &["--set=admission.networks=false"]);
    until("it is no longer added", || has(None));
    upgrade(&cluster, &[on]);
    until("it is added again", || has(Some("default/mesh")));
    // while nodes are cleaned no new pod may need the program
    upgrade(&cluster, &[on, "--set=uninstall=true"]);
    for path in [POLICIES, BINDINGS] {
        assert_eq!(ours(&cluster, path), Vec::<String>::new(), "{path}");
    }
    uninstall(&cluster);
}

#[test]
fn with_the_default_name_the_policy_is_that_of_its_folder() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/admission/networks/networks.yaml"
    );
    let of_folder = objects(&std::fs::read_to_string(file).unwrap());
    let of_chart = template("admission.networks=true");
    for object in of_folder {
        let is_it = |o: &&Value| o["kind"] == object["kind"];
        let found = of_chart.iter().find(is_it).unwrap_or(&Value::Null);
        assert_eq!(found["spec"], object["spec"], "{}", object["kind"]);
        assert_eq!(found["metadata"]["name"], object["metadata"]["name"]);
    }
}
