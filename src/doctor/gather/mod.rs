//! Fills [`Facts`]: lists from the API server's memory, a few objects by name, and one write that is only tried.

mod istio;
mod multus;

use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};

use self::multus::ATTACHMENTS;
use super::{
    cluster::{Cluster, Seen, Trial, Unseen},
    facts::Facts,
    objects::{ConfigMap, MeshNode, Node, ProfileObject, Workload},
};
use crate::mesh::{Namespace, Pod};

const NETWORKS_POLICY: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/mesh-optin-networks";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// Asks for everything at once, then for what the answers name.
pub(super) async fn gather(
    cluster: &Cluster,
    scope: Option<&str>,
    is_before: bool,
) -> Result<Facts, Unseen> {
    let (version, date) = cluster.version().await?;
    let here = Timestamp::now();
    let (nodes, namespaces, pods, daemon_sets, controllers, attachments, not_found) = tokio::join!(
        nodes(cluster),
        namespaces(cluster, scope),
        pods(cluster, scope),
        daemon_sets(cluster),
        cluster.list(
            "list deployments",
            "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io/name%3Dmesh-optin-controller",
        ),
        multus::attachments(cluster, scope),
        multus::not_found(cluster, scope),
    );
    let (profiles, mesh_nodes, definitions, networks_policy, policies, bindings, forbidden) = tokio::join!(
        profiles(cluster),
        mesh_nodes(cluster),
        definitions(cluster),
        cluster.get("get mutatingadmissionpolicies", NETWORKS_POLICY,),
        cluster.list("list validatingadmissionpolicies", POLICIES,),
        cluster.list("list validatingadmissionpolicybindings", BINDINGS,),
        forbidden(cluster),
    );
    let (multus, multus_pods, injectors, istio_cnis, bypasses) = tokio::join!(
        multus::config(cluster, &daemon_sets),
        multus::pods(cluster, &daemon_sets),
        istio::injectors(cluster),
        istio::istio_cnis(cluster),
        cluster.may("bypass", "meshoptin.dev", "meshprofiles"),
    );
    Ok(Facts {
        is_before,
        scope: scope.map(str::to_owned),
        version,
        date,
        here,
        nodes,
        namespaces,
        pods,
        daemon_sets,
        controllers,
        attachments,
        not_found,
        profiles,
        mesh_nodes,
        definitions,
        multus,
        multus_pods,
        injectors,
        istio_cnis,
        networks_policy,
        policies,
        bindings,
        forbidden,
        bypasses,
    })
}

/// All MeshProfiles.
pub(super) async fn profiles(cluster: &Cluster) -> Seen<Vec<ProfileObject>> {
    let path = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
    let list = cluster
        .list::<Box<RawValue>>("list meshprofiles", path)
        .await?;
    Ok(list.map(|list| list.iter().map(|text| ProfileObject::of(text)).collect()))
}

/// All MeshNodes.
pub(super) async fn mesh_nodes(cluster: &Cluster) -> Seen<Vec<MeshNode>> {
    let path = "/apis/meshoptin.dev/v1alpha1/meshnodes";
    cluster.list("list meshnodes", path).await
}

/// Our CustomResourceDefinitions, as far as they are there.
async fn definitions(cluster: &Cluster) -> Seen<Vec<Value>> {
    let mut all = Vec::new();
    for name in ["meshprofiles.meshoptin.dev", "meshnodes.meshoptin.dev"] {
        let right = format!("get customresourcedefinition {name}");
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        all.extend(cluster.get(&right, &path).await?);
    }
    Ok(Some(all))
}

/// All DaemonSets, for what the agents are started with.
pub(super) async fn daemon_sets(cluster: &Cluster) -> Seen<Vec<Workload>> {
    cluster
        .list("list daemonsets", "/apis/apps/v1/daemonsets")
        .await
}

/// All Nodes.
pub(super) async fn nodes(cluster: &Cluster) -> Seen<Vec<Node>> {
    cluster.list("list nodes", "/api/v1/nodes").await
}

async fn namespaces(cluster: &Cluster, scope: Option<&str>) -> Seen<Vec<Namespace>> {
    match scope {
        None => cluster.list("list namespaces", "/api/v1/namespaces").await,
        Some(name) => {
            let right = format!("get namespace {name}");
            let one = cluster
                .get(&right, &format!("/api/v1/namespaces/{name}"))
                .await?;
            match one {
                Some(one) => Ok(Some(vec![one])),
                None => Err(Unseen::Failed(format!("there is no namespace {name}"))),
            }
        }
    }
}

async fn pods(cluster: &Cluster, scope: Option<&str>) -> Seen<Vec<Pod>> {
    let living = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
    let (right, path) = list_of("/api/v1", "pods", scope);
    cluster.list(&right, &format!("{path}?{living}")).await
}

/// The right to list a kind of this API, everywhere or in one namespace, and the path of that list.
fn list_of(api: &str, kind: &str, namespace: Option<&str>) -> (String, String) {
    match namespace {
        None => (format!("list {kind}"), format!("{api}/{kind}")),
        Some(name) => (
            format!("list {kind} in {name}"),
            format!("{api}/namespaces/{name}/{kind}"),
        ),
    }
}

async fn config_map(cluster: &Cluster, namespace: &str, name: &str) -> Seen<ConfigMap> {
    let right = format!("get configmap {name} in {namespace}");
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    cluster.get(&right, &path).await
}

/// Tries, as a dry run, to create an attachment that our policies must refuse.
async fn forbidden(cluster: &Cluster) -> Result<Trial, Unseen> {
    let kind = "network-attachment-definitions";
    let config =
        r#"{"cniVersion":"1.1.0","name":"mesh-optin-doctor","type":"mesh-optin","prevResult":{}}"#;
    let object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "mesh-optin-doctor", "namespace": "default"},
        "spec": {"config": config},
    });
    let right = format!("create {kind} in default, as a dry run");
    let path = format!("{ATTACHMENTS}/namespaces/default/{kind}");
    cluster.try_create(&right, &path, &object).await
}
