use std::collections::BTreeSet;

use serde_json::Value;

use super::{Facts, Looked, istio::istio_cni};
use crate::{
    mesh::annotation,
    multus::{AttachmentDefinition, parse_networks},
};

pub(super) fn attachments(facts: &Facts, looked: &mut Looked) {
    let seen = looked
        .list(&facts.attachments)
        .zip(looked.list(&facts.profiles));
    let Some((attachments, profiles)) = seen else {
        return;
    };
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    let profiles = Facts::deciding(profiles);
    let of_profiles = profiles.iter().map(|p| p.spec.attachment.name.as_str());
    let agents = Facts::agents(daemon_sets).into_iter();
    let containers = agents.flat_map(|agents| agents.containers());
    let of_agents = containers.flat_map(|c| c.flags("--attachment"));
    let given: BTreeSet<_> = of_profiles.chain(of_agents).collect();
    let is_left =
        |a: &&AttachmentDefinition| calls_istio_cni(a) && !given.contains(a.name.as_str());
    let istios: Vec<_> = attachments.iter().filter(is_left).collect();
    if istios.is_empty() {
        return;
    }
    if let Some(cni) = istio_cni(daemon_sets) {
        return looked.not_said(format!(
            "whether DaemonSet {} still needs its attachments",
            cni.at()
        ));
    }
    if facts.scope.is_some() {
        return looked.not_said("pods of other namespaces may name an attachment");
    }
    let Some(pods) = looked.list(&facts.pods) else {
        return;
    };
    let mut named = BTreeSet::new();
    for pod in pods {
        let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
        // Multus has not started a pod whose annotation it cannot read
        named.extend(parse_networks(networks, &pod.metadata.namespace).unwrap_or_default());
    }
    for AttachmentDefinition {
        namespace, name, ..
    } in istios
    {
        if !named.contains(&(namespace.clone(), name.clone())) {
            looked.advice(
                format!("NetworkAttachmentDefinition {namespace}/{name}"),
                "it is for istio-cni, and no running pod names it",
                format!("once no injector adds it, and no workload that has no pod now needs it: kubectl -n {namespace} delete network-attachment-definition {name}"),
            );
        }
    }
}

/// Whether it calls Istio's plugin, or has a name that Istio gives and no configuration.
fn calls_istio_cni(attachment: &AttachmentDefinition) -> bool {
    let Some(config) = &attachment.config else {
        return attachment.name.ends_with("istio-cni");
    };
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let parts = config["plugins"].as_array();
    let mut types = parts
        .into_iter()
        .flatten()
        .chain([&config])
        .map(|part| &part["type"]);
    types.any(|kind| {
        kind.as_str()
            .is_some_and(|kind| kind.ends_with("istio-cni"))
    })
}
