//! Fills [`Facts`]: lists from the API server's memory, a few objects by name, and one write that is only tried.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};

use super::{
    cluster::{Cluster, Seen, Unseen, is_name},
    facts::{Facts, Injector},
    objects::{
        ConfigMap, EndpointSlice, MeshNode, ProfileObject, Service, WebhookConfiguration, Workload,
    },
};
use crate::{
    mesh::{Namespace, Pod},
    multus::AttachmentDefinition,
};

const ATTACHMENTS: &str = "/apis/k8s.cni.cncf.io/v1";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?labelSelector=app%3Dsidecar-injector";
const NETWORKS_POLICY: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/mesh-optin-networks";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
/// Most injectors that are looked at.
const MOST_INJECTORS: usize = 16;

/// Asks for everything at once, then for what the answers name.
pub(super) async fn gather(
    cluster: &Cluster,
    scope: Option<&str>,
    is_before: bool,
) -> Result<Facts, Unseen> {
    let (version, date) = cluster.version().await?;
    let here = Timestamp::now();
    let (nodes, namespaces, pods, daemon_sets, controllers, attachments) = tokio::join!(
        nodes(cluster),
        namespaces(cluster, scope),
        pods(cluster, scope),
        daemon_sets(cluster),
        cluster.list(
            "list deployments",
            "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io/name%3Dmesh-optin-controller",
        ),
        attachments(cluster, scope),
    );
    let (profiles, mesh_nodes, networks_policy, policies, bindings, forbidden) = tokio::join!(
        profiles(cluster),
        mesh_nodes(cluster),
        cluster.get("get mutatingadmissionpolicies", NETWORKS_POLICY,),
        cluster.list("list validatingadmissionpolicies", POLICIES,),
        cluster.list("list validatingadmissionpolicybindings", BINDINGS,),
        forbidden(cluster),
    );
    let (multus, injectors, bypasses) = tokio::join!(
        multus(cluster, &daemon_sets),
        injectors(cluster),
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
        profiles,
        mesh_nodes,
        multus,
        injectors,
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

/// All DaemonSets, for what the agents are started with.
pub(super) async fn daemon_sets(cluster: &Cluster) -> Seen<Vec<Workload>> {
    cluster
        .list("list daemonsets", "/apis/apps/v1/daemonsets")
        .await
}

/// All Nodes.
pub(super) async fn nodes(cluster: &Cluster) -> Seen<Vec<super::objects::Node>> {
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
    let (right, path) = match scope {
        None => ("list pods".to_owned(), "/api/v1/pods".to_owned()),
        Some(name) => (
            format!("list pods in {name}"),
            format!("/api/v1/namespaces/{name}/pods"),
        ),
    };
    cluster.list(&right, &format!("{path}?{living}")).await
}

async fn attachments(cluster: &Cluster, scope: Option<&str>) -> Seen<Vec<AttachmentDefinition>> {
    let kind = "network-attachment-definitions";
    let places = match scope {
        None => vec![None],
        Some("default") => vec![Some("default")],
        Some(name) => vec![Some("default"), Some(name)],
    };
    let mut all = Vec::new();
    for place in places {
        let (right, path) = match place {
            None => (format!("list {kind}"), format!("{ATTACHMENTS}/{kind}")),
            Some(name) => (
                format!("list {kind} in {name}"),
                format!("{ATTACHMENTS}/namespaces/{name}/{kind}"),
            ),
        };
        let Some(list) = cluster.list::<Value>(&right, &path).await? else {
            return Ok(None);
        };
        all.extend(
            list.iter()
                .filter_map(|one| AttachmentDefinition::of(one).ok()),
        );
    }
    Ok(Some(all))
}

/// What Multus's daemon reads; thin Multus has arguments alone.
async fn multus(cluster: &Cluster, daemon_sets: &Seen<Vec<Workload>>) -> Seen<ConfigMap> {
    let daemon_sets = daemon_sets.clone()?.unwrap_or_default();
    let Some(multus) = Facts::multus(&daemon_sets) else {
        return Ok(None);
    };
    let volumes = multus.spec.template.spec.volumes.iter();
    let mut maps = volumes.filter_map(|v| v.config_map.as_ref());
    let Some(map) = maps.find(|map| map.name.contains("multus")) else {
        return Ok(None);
    };
    config_map(cluster, &multus.metadata.namespace, &map.name).await
}

async fn config_map(cluster: &Cluster, namespace: &str, name: &str) -> Seen<ConfigMap> {
    let right = format!("get configmap {name} in {namespace}");
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    cluster.get(&right, &path).await
}

/// Istio's injectors, by their webhooks. A revision tag has a webhook of its own, and no configuration.
async fn injectors(cluster: &Cluster) -> Seen<Vec<Injector>> {
    let right = "list mutatingwebhookconfigurations";
    let Some(list) = cluster
        .list::<WebhookConfiguration>(right, WEBHOOKS)
        .await?
    else {
        return Ok(None);
    };
    let mut known: BTreeMap<_, (Service, Vec<String>)> = BTreeMap::new();
    for webhooks in list {
        let (name, labels) = (webhooks.metadata.name, webhooks.metadata.labels);
        let revision = labels.get("istio.io/rev").cloned();
        let fails_open = webhooks
            .webhooks
            .iter()
            .any(|w| w.failure_policy == "Ignore");
        let services = webhooks
            .webhooks
            .into_iter()
            .map(|w| w.client_config.service);
        let service = services.flatten().next().unwrap_or_default();
        let at = (
            revision.unwrap_or_else(|| "default".into()),
            service.namespace.clone(),
        );
        let (_, fail_open) = known.entry(at).or_insert((service, Vec::new()));
        fail_open.extend(fails_open.then_some(name));
    }
    let mut injectors = Vec::new();
    for (at, ((revision, namespace), (service, fail_open))) in known.into_iter().enumerate() {
        let too_many = || Unseen::NotSaid(format!("only {MOST_INJECTORS} injectors are looked at"));
        let is_path = is_name(&namespace) && is_name(&service.name);
        let no_path = || Unseen::NotSaid(format!("revision {revision} names no service"));
        let ready = match namespace.as_str() {
            _ if at >= MOST_INJECTORS => Err(too_many()),
            "" => Ok(None),
            _ if !is_path => Err(no_path()),
            namespace => ready_endpoints(cluster, namespace, &service.name).await,
        };
        let config = match (namespace.as_str(), revision.as_str()) {
            _ if at >= MOST_INJECTORS => Err(too_many()),
            ("", _) => Ok(None),
            _ if !is_path => Err(no_path()),
            (namespace, "default") => {
                config_map(cluster, namespace, "istio-sidecar-injector").await
            }
            (namespace, revision) => {
                let name = format!("istio-sidecar-injector-{revision}");
                config_map(cluster, namespace, &name).await
            }
        };
        injectors.push(Injector {
            revision,
            namespace,
            service: service.name,
            ready,
            fail_open,
            config,
        });
    }
    Ok(Some(injectors))
}

/// How many endpoints of a service are ready; `None` where it has no EndpointSlice.
async fn ready_endpoints(cluster: &Cluster, namespace: &str, service: &str) -> Seen<usize> {
    let right = format!("list endpointslices in {namespace}");
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    );
    let slices = cluster.list::<EndpointSlice>(&right, &path).await?;
    // a service of another kind, such as ExternalName, has none
    let slices = slices.filter(|slices| !slices.is_empty());
    Ok(slices.map(|slices| {
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        endpoints
            .filter(|e| e.conditions.ready != Some(false))
            .count()
    }))
}

/// Tries, as a dry run, to create an attachment that our policies must refuse.
async fn forbidden(cluster: &Cluster) -> Result<super::cluster::Trial, Unseen> {
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
