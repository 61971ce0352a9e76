//! Multus and its attachments.

use serde_json::Value;

use super::{config_map, list_of};
use crate::{
    doctor::{
        cluster::{Cluster, Seen, Unseen},
        facts::{Facts, MOST_EVENTS},
        objects::{ConfigMap, MultusPod, NotFoundEvent, Workload},
    },
    multus::AttachmentDefinition,
};

/// Where NetworkAttachmentDefinitions are.
pub(super) const ATTACHMENTS: &str = "/apis/k8s.cni.cncf.io/v1";

pub(super) async fn attachments(
    cluster: &Cluster,
    scope: Option<&str>,
) -> Seen<Vec<AttachmentDefinition>> {
    let kind = "network-attachment-definitions";
    let places = match scope {
        None => vec![None],
        Some("default") => vec![Some("default")],
        Some(name) => vec![Some("default"), Some(name)],
    };
    let mut all = Vec::new();
    for place in places {
        let (right, path) = list_of(ATTACHMENTS, kind, place);
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

/// Events of Multus on pods whose attachment it has not found. They are kept for an hour, usually.
pub(super) async fn not_found(cluster: &Cluster, scope: Option<&str>) -> Seen<Vec<NotFoundEvent>> {
    let of_multus =
        format!("fieldSelector=type%3DWarning%2Creason%3DNoNetworkFound&limit={MOST_EVENTS}");
    let (right, path) = list_of("/api/v1", "events", scope);
    cluster.list(&right, &format!("{path}?{of_multus}")).await
}

/// The pods of Multus's DaemonSet, by its selector.
pub(super) async fn pods(
    cluster: &Cluster,
    daemon_sets: &Seen<Vec<Workload>>,
) -> Seen<Vec<MultusPod>> {
    let daemon_sets = daemon_sets.clone()?.unwrap_or_default();
    let Some(multus) = Facts::multus(&daemon_sets) else {
        return Ok(None);
    };
    let Some(selector) = multus.spec.selector.parameter() else {
        let what = format!("which pods are those of DaemonSet {}", multus.at());
        return Err(Unseen::NotSaid(what));
    };
    let namespace = multus.metadata.namespace.as_str();
    let (right, path) = list_of("/api/v1", "pods", Some(namespace));
    let selected = format!("{path}?labelSelector={selector}");
    cluster.list(&right, &selected).await
}

/// What Multus's daemon reads; thin Multus has arguments alone.
pub(super) async fn config(
    cluster: &Cluster,
    daemon_sets: &Seen<Vec<Workload>>,
) -> Seen<ConfigMap> {
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
