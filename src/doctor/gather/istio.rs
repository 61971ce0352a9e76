//! Istio's injectors.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config_map;
use crate::doctor::{
    cluster::{Cluster, Seen, Unseen, is_name},
    facts::Injector,
    objects::{EndpointSlice, IstioCni, Service, WebhookConfiguration},
};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?labelSelector=app%3Dsidecar-injector";
const SAIL: &str = "/apis/sailoperator.io/v1";
/// Most injectors that are looked at.
const MOST_INJECTORS: usize = 16;

/// All IstioCNIs. Where the Sail operator's kind is not served, nobody needs the right to list it.
pub(super) async fn istio_cnis(cluster: &Cluster) -> Seen<Vec<IstioCni>> {
    let group = cluster.get::<Value>("get sailoperator.io/v1", SAIL).await;
    if matches!(group, Ok(None)) {
        return Ok(None);
    }
    cluster
        .list("list istiocnis", &format!("{SAIL}/istiocnis"))
        .await
}

/// Istio's injectors, by their webhooks. A revision tag has a webhook of its own, and no configuration.
pub(super) async fn injectors(cluster: &Cluster) -> Seen<Vec<Injector>> {
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
