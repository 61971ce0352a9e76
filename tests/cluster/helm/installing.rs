//! Installing, upgrading, rolling back and uninstalling on a real API server.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::*;

const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const ATTACHMENT: &str =
    "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/istio-cni";
const PROFILES: &str = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
const DAEMONSETS: &str = "/apis/apps/v1/namespaces/mesh-optin/daemonsets";

pub(super) fn install(cluster: &Cluster, args: &[&str]) -> Result<String, String> {
    let fixed = [
        "install",
        "mesh-optin",
        CHART,
        "--namespace=mesh-optin",
        "--create-namespace",
    ];
    try_helm(cluster, &[&fixed, args].concat())
}

pub(super) fn upgrade(cluster: &Cluster, args: &[&str]) -> String {
    let fixed = [
        "upgrade",
        "mesh-optin",
        CHART,
        "--namespace=mesh-optin",
        "--reuse-values",
    ];
    helm(cluster, &[&fixed, args].concat())
}

pub(super) fn uninstall(cluster: &Cluster) -> String {
    helm(
        cluster,
        &["uninstall", "mesh-optin", "--namespace=mesh-optin"],
    )
}

/// A control plane with the kinds of a cluster with Multus.
pub(super) fn cluster_with_multus() -> Cluster {
    let cluster = Cluster::start();
    cluster.namespace("default-account", &json!({}));
    apply_kind(
        &cluster,
        &file("crds/k8s.cni.cncf.io_network-attachment-definitions.yaml"),
    );
    cluster
}

fn file(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Applies CRDs; they are served when this returns.
pub(super) fn apply_kind(cluster: &Cluster, crds: &str) {
    std::fs::write(cluster.directory.join("crds.yaml"), crds).unwrap();
    let apply = ["kubectl", "apply", "--server-side", "-f", "/mnt/crds.yaml"];
    cluster.enter(&apply);
    for document in serde_yaml::Deserializer::from_str(crds) {
        let crd = Value::deserialize(document).unwrap();
        if let (Some(name), Some(version)) = (
            crd["metadata"]["name"].as_str(),
            crd["spec"]["versions"][0]["name"].as_str(),
        ) {
            cluster.wait_until_served(name, version);
        }
    }
}

pub(super) fn get(cluster: &Cluster, path: &str) -> Option<Value> {
    cluster.request("GET", path, &Value::Null).ok()
}

/// The names of our objects in a list.
pub(super) fn ours(cluster: &Cluster, path: &str) -> Vec<String> {
    let list = get(cluster, path).unwrap_or_else(|| panic!("{path} cannot be listed"));
    let names = list["items"].as_array().unwrap().iter();
    names
        .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
        .filter(|name| name.contains("mesh-optin") || name.contains("meshoptin"))
        .collect()
}

fn uid(cluster: &Cluster, path: &str) -> Value {
    get(cluster, path).unwrap_or_else(|| panic!("{path} is not there"))["metadata"]["uid"].take()
}

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_leaves_only_crds_and_profiles() {
    let cluster = cluster_with_multus();
    let said = install(&cluster, &[]).unwrap();
    for part in [
        "pilot.cni.enabled=true",
        "pilot.cni.provider=multus",
        "rollout status",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("IN THE WAY"), "{said}");
    let daemonset = format!("{DAEMONSETS}/mesh-optin-agent");
    let args =
        |object: &Value| object["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(args(&get(&cluster, &daemonset).unwrap()).contains("--default-profile=Auto"));
    assert!(get(&cluster, ATTACHMENT).is_some());
    let policies = ours(&cluster, POLICIES);
    assert!(policies.len() >= 4, "{policies:?}");
    assert_eq!(ours(&cluster, BINDINGS), policies);
    let profile = format!("{PROFILES}/default");
    let kept = [&profile, &format!("{BINDINGS}/{}", policies[0])]
        .map(|path| (path.clone(), uid(&cluster, path)));

    // an admin's own change of the profile outlasts an upgrade
    cluster.patch(&profile, &json!({"spec": {"drift": "Repair"}}));
    upgrade(&cluster, &["--set=logLevel=debug,hostCredential=true"]);
    let upgraded = args(&get(&cluster, &daemonset).unwrap());
    assert!(
        upgraded.contains("--log-level=debug")
            && upgraded.contains("--host-account=mesh-optin/node"),
        "{upgraded}"
    );
    assert_eq!(get(&cluster, &profile).unwrap()["spec"]["drift"], "Repair");
    helm(
        &cluster,
        &["rollback", "mesh-optin", "1", "--namespace=mesh-optin"],
    );
    let back = args(&get(&cluster, &daemonset).unwrap());
    assert!(
        !back.contains("--log-level") && !back.contains("host-account"),
        "{back}"
    );
    assert!(
        get(
            &cluster,
            "/api/v1/namespaces/mesh-optin/serviceaccounts/node"
        )
        .is_none()
    );
    for (path, uid_before) in &kept {
        assert_eq!(&uid(&cluster, path), uid_before, "{path} was recreated");
    }

    // nodes first
    upgrade(&cluster, &["--set=uninstall=true"]);
    assert!(get(&cluster, &daemonset).is_none());
    assert!(get(&cluster, &format!("{DAEMONSETS}/mesh-optin-uninstall")).is_some());
    uninstall(&cluster);
    for path in [
        BINDINGS,
        POLICIES,
        DAEMONSETS,
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
        "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        "/api/v1/namespaces/mesh-optin/secrets",
    ] {
        assert_eq!(ours(&cluster, path), Vec::<String>::new(), "{path}");
    }
    assert!(get(&cluster, ATTACHMENT).is_none());
    assert_eq!(get(&cluster, &profile).unwrap()["spec"]["drift"], "Repair");
    // and again, with what was left
    install(&cluster, &[]).unwrap();
    assert_eq!(ours(&cluster, BINDINGS), policies);
}

#[test]
fn the_cluster_is_checked_before_anything_is_installed() {
    let cluster = Cluster::start();
    let refused = install(&cluster, &[]).unwrap_err();
    assert!(refused.contains("Multus is not installed: "), "{refused}");
    let few = "--set=attachment.create=false,crds.install=false,meshProfile.create=false";
    let said = install(&cluster, &[few]).unwrap();
    let multus = "IN THE WAY: Multus is not installed";
    assert!(said.contains(multus), "{said}");
    uninstall(&cluster);
    apply_kind(
        &cluster,
        &file("crds/k8s.cni.cncf.io_network-attachment-definitions.yaml"),
    );
    let refused = install(&cluster, &["--set=podMonitor.enabled=true"]).unwrap_err();
    assert!(
        refused.contains("need the Prometheus Operator: "),
        "{refused}"
    );
    assert!(
        ours(
            &cluster,
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        )
        .is_empty()
    );

    // another's attachment of that name, another's profile, and Istio's own plugin
    for crd in ["meshprofiles", "meshnodes"] {
        apply_kind(&cluster, &file(&format!("crds/meshoptin.dev_{crd}.yaml")));
    }
    let config = r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"istio-cni"}"#;
    cluster.apply(
        &json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "istio-cni", "namespace": "default"}, "spec": {"config": config}})
        .to_string(),
    );
    cluster.apply(&json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "mine"}}).to_string());
    cluster.apply(&json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "istio-cni-node", "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "install-cni", "image": "x"}]}}}}).to_string());
    // CRDs that were applied by hand stay whose they are, unless they are asked for
    let refused = install(&cluster, &[]).unwrap_err();
    assert!(
        refused.contains(
            "\"meshnodes.meshoptin.dev\" in namespace \"\" exists and cannot be imported"
        ),
        "{refused}"
    );
    let said = install(&cluster, &["--take-ownership", "--force-conflicts"]).unwrap();
    for part in [
        "IN THE WAY: Istio's own CNI plugin, DaemonSet kube-system/istio-cni-node",
        "IN THE WAY: the attachment default/istio-cni calls another plugin: ",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains(multus), "{said}");
    assert_eq!(get(&cluster, ATTACHMENT).unwrap()["spec"]["config"], config);
    assert!(get(&cluster, &format!("{PROFILES}/default")).is_none());
    uninstall(&cluster);
    assert!(get(&cluster, ATTACHMENT).is_some());
}

#[test]
fn every_platform_and_option_is_accepted_by_the_api_server_and_removed_again() {
    let cluster = cluster_with_multus();
    apply_kind(
        &cluster,
        &std::fs::read_to_string(program("monitoring-crds.yaml")).unwrap(),
    );
    apply_kind(
        &cluster,
        &std::fs::read_to_string(program("openshift-scc.yaml")).unwrap(),
    );
    for values in values::MATRIX {
        if values == values::NETWORKS && !cluster.has_mutating_policies() {
            continue; // `networks` says what is said then
        }
        install(&cluster, &["--set", values]).unwrap_or_else(|e| panic!("{values}: {e}"));
        uninstall(&cluster);
        assert_eq!(ours(&cluster, BINDINGS), Vec::<String>::new(), "{values}");
    }
    names_are_reserved(&cluster);
    // a cluster's admin and a mesh's admin, each with their part
    install(&cluster, &["--set=resourceScope=cluster"]).unwrap();
    assert!(get(&cluster, &format!("{DAEMONSETS}/mesh-optin-agent")).is_none());
    let fixed = [
        "install",
        "agents",
        CHART,
        "--namespace=mesh-optin",
        "--set=resourceScope=namespace",
    ];
    helm(&cluster, &fixed);
    assert!(get(&cluster, &format!("{DAEMONSETS}/mesh-optin-agent")).is_some());
    helm(&cluster, &["uninstall", "agents", "--namespace=mesh-optin"]);
    uninstall(&cluster);
}

/// The names that the chart gives attachments are as reserved as istio-cni, everywhere.
fn names_are_reserved(cluster: &Cluster) {
    let names = "--set=attachment.name=mesh,extraAttachments={v2-6-istio-cni}";
    install(cluster, &[names]).unwrap();
    let role = [
        "kubectl",
        "create",
        "clusterrole",
        "tenant",
        "--verb=create",
    ];
    let nads = "--resource=network-attachment-definitions.k8s.cni.cncf.io";
    cluster.enter(&[&role[..], &[nads]].concat());
    let binding = ["kubectl", "create", "clusterrolebinding", "tenant"];
    cluster.enter(&[&binding[..], &["--clusterrole=tenant", "--user=tenant"]].concat());
    let created = |name: &str, config: &str| {
        let object = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default-account"}, "spec": {"config": config}});
        std::fs::write(cluster.directory.join("nad.json"), object.to_string()).unwrap();
        let create = [
            "kubectl",
            "--as=tenant",
            "create",
            "--dry-run=server",
            "-f",
            "/mnt/nad.json",
        ];
        cluster.try_enter(&create)
    };
    let bridge = r#"{"cniVersion":"1.1.0","type":"bridge"}"#;
    crate::support::controller::until("the policies hold", || {
        created("mesh", bridge)
            .is_err_and(|why| why.contains("is the one that pods of the mesh name"))
    });
    for name in ["mesh", "v2-6-istio-cni", "istio-cni"] {
        let refused = created(name, bridge).unwrap_err();
        let words = format!("the attachment {name} is the one that pods of the mesh name");
        assert!(refused.contains(&words), "{name}: {refused}");
        let ours = format!(r#"{{"cniVersion":"1.1.0","name":"{name}","type":"mesh-optin"}}"#);
        created(name, &ours).unwrap();
    }
    created("other", bridge).unwrap();
    uninstall(cluster);
}
