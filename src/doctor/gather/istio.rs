//! Istio's injectors.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{config_map, list_of};
use crate::doctor::{
    cluster::{Cluster, Seen, Unseen, is_name},
    facts::{Injector, InjectorService},
    objects::{EndpointSlice, IstioCni, Metadata, Webhook, WebhookConfiguration},
};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?labelSelector=app%3Dsidecar-injector";
const SAIL: &str = "/apis/sailoperator.io/v1";
/// Most services of injectors that are looked at.
const MOST_SERVICES: usize = 16;

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

/// Istio's injectors, by their webhooks: one for each revision and namespace. A revision tag has a webhook of its own, and no configuration.
pub(super) async fn injectors(cluster: &Cluster) -> Seen<Vec<Injector>> {
    let right = "list mutatingwebhookconfigurations";
    let Some(list) = cluster
        .list::<WebhookConfiguration>(right, WEBHOOKS)
        .await?
    else {
        return Ok(None);
    };
    let mut known: BTreeMap<_, Known> = BTreeMap::new();
    for configuration in list {
        let Metadata { name, labels, .. } = configuration.metadata;
        let revision = labels.get("istio.io/rev").map_or("default", String::as_str);
        for webhook in configuration.webhooks {
            let service = webhook.client_config.service.clone().unwrap_or_default();
            let at = (revision.to_owned(), service.namespace);
            let (services, webhooks) = known.entry(at).or_default();
            services.insert(service.name);
            webhooks.push((name.clone(), webhook));
        }
    }
    let mut injectors = Vec::new();
    let mut asked = 0;
    for ((revision, namespace), (names, webhooks)) in known {
        let mut services = Vec::new();
        for name in names {
            asked += 1;
            let ready = match namespace.as_str() {
                "" => Ok(None),
                _ if asked > MOST_SERVICES => Err(too_many()),
                _ if !is_name(&namespace) || !is_name(&name) => Err(no_path(&revision)),
                namespace => ready_endpoints(cluster, namespace, &name).await,
            };
            services.push(InjectorService { name, ready });
        }
        let config = match (namespace.as_str(), revision.as_str()) {
            ("", _) => Ok(None),
            _ if asked > MOST_SERVICES => Err(too_many()),
            _ if !is_name(&namespace) => Err(no_path(&revision)),
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
            services,
            webhooks,
            config,
        });
    }
    Ok(Some(injectors))
}

/// The services and webhooks of an injector.
type Known = (BTreeSet<String>, Vec<(String, Webhook)>);

fn too_many() -> Unseen {
    Unseen::NotSaid(format!(
        "only {MOST_SERVICES} services of injectors are looked at"
    ))
}

fn no_path(revision: &str) -> Unseen {
    Unseen::NotSaid(format!("revision {revision} names no service"))
}

/// How many endpoints of a service are ready; `None` where it has no EndpointSlice.
async fn ready_endpoints(cluster: &Cluster, namespace: &str, service: &str) -> Seen<usize> {
    let api = "/apis/discovery.k8s.io/v1";
    let (right, path) = list_of(api, "endpointslices", Some(namespace));
    let of_service = format!("{path}?labelSelector=kubernetes.io%2Fservice-name%3D{service}");
    let slices = cluster.list::<EndpointSlice>(&right, &of_service).await?;
    // a service of another kind, such as ExternalName, has none
    let slices = slices.filter(|slices| !slices.is_empty());
    Ok(slices.map(|slices| {
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        endpoints
            .filter(|e| e.conditions.ready != Some(false))
            .count()
    }))
}
