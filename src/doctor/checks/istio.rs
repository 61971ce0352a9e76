use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Facts, Looked};
use crate::{
    doctor::{
        facts::{Injector, InjectorService},
        objects::{IstioCni, Workload},
    },
    mesh::Namespace,
    reason::names,
};

pub(super) fn other_cni(facts: &Facts, looked: &mut Looked) {
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    if ztunnel(daemon_sets).is_some() {
        return; // ambient mode needs it
    }
    if let Some(cni) = istio_cni(daemon_sets) {
        looked.warning(
            format!("DaemonSet {}", cni.at()),
            "Istio's own CNI plugin puts its configuration back on each node",
            "remove it, in the order that deploy/README.md gives under \"Coming from istio-cni\"",
        );
    }
    for IstioCni { metadata } in looked.list(&facts.istio_cnis).unwrap_or_default() {
        looked.warning(
            format!("IstioCNI {}", metadata.name),
            "the Sail operator installs Istio's own CNI plugin by it, also where its DaemonSet was deleted",
            format!("in the order that deploy/README.md gives under \"Coming from istio-cni\": kubectl delete istiocnis.sailoperator.io {}", metadata.name),
        );
    }
}

pub(super) fn ambient(facts: &Facts, looked: &mut Looked) {
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    let Some(namespaces) = looked.list(&facts.namespaces) else {
        return;
    };
    let is_ambient = |labels: &BTreeMap<String, String>| {
        labels
            .get("istio.io/dataplane-mode")
            .is_some_and(|mode| mode == "ambient")
    };
    let in_use: Vec<_> = namespaces
        .iter()
        .filter(|n| is_ambient(&n.metadata.labels))
        .map(|n| n.metadata.name.as_str())
        .collect();
    let ztunnel = ztunnel(daemon_sets);
    if in_use.is_empty() && ztunnel.is_none() {
        return;
    }
    let what = match (in_use.as_slice(), ztunnel) {
        ([], Some(ztunnel)) => format!("DaemonSet {}", ztunnel.at()),
        (namespaces, _) => format!("namespaces {}", names(namespaces)),
    };
    match istio_cni(daemon_sets) {
        Some(cni) => looked.advice(
            what,
            format!("ambient mode is in use, and needs DaemonSet {}", cni.at()),
            "do not remove Istio's CNI plugin",
        ),
        None => looked.warning(
            what,
            "ambient mode is in use without Istio's CNI plugin: its pods are not in the mesh",
            "install Istio's CNI plugin again, or take the label istio.io/dataplane-mode from the namespaces",
        ),
    }
}

pub(super) fn provider(facts: &Facts, looked: &mut Looked) {
    let Some(injectors) = looked.list(&facts.injectors) else {
        return;
    };
    if injectors.is_empty() {
        looked.warning(
            "MutatingWebhookConfigurations",
            "there is no sidecar injector of Istio: pods get no sidecar",
            "install Istio's control plane",
        );
    }
    for injector in injectors {
        of_injector(facts, looked, injector);
    }
}

fn of_injector(facts: &Facts, looked: &mut Looked, injector: &Injector) {
    let at = format!(
        "injector of revision {} in {}",
        injector.revision, injector.namespace
    );
    let Some(config) = looked.see(&injector.config) else {
        return;
    };
    let values = config.and_then(|map| map.data.get("values"));
    let values = values.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(values) = values else {
        looked.not_said(format!("the {at} does not show its settings"));
        return;
    };
    // older versions have istio_cni
    let cni = [&values["pilot"]["cni"], &values["istio_cni"]];
    let cni = cni
        .into_iter()
        .find(|v| v.is_object())
        .unwrap_or(&Value::Null);
    let remedy = || {
        let (istio, namespace) = ("helm upgrade istiod istio/istiod", &injector.namespace);
        format!(
            "{istio} -n {namespace} --reuse-values --set pilot.cni.enabled=true --set pilot.cni.provider=multus"
        )
    };
    if cni["enabled"] != true {
        let message = "pilot.cni.enabled is not set: pods get the init container istio-init, which redirects itself";
        looked.error(at, message, remedy());
    } else if cni["provider"] != "multus" {
        let Some(policy) = looked.see(&facts.networks_policy) else {
            return;
        };
        if policy.is_none() {
            let message =
                "pilot.cni.provider is not multus: pods get no attachment, and are not redirected";
            looked.error(at, message, remedy());
        }
    }
}

pub(super) fn answers(facts: &Facts, looked: &mut Looked) {
    let Some(injectors) = looked.list(&facts.injectors) else {
        return;
    };
    if injectors.is_empty() {
        looked.not_said("there is no injector that could answer");
    }
    for injector in injectors {
        let Injector {
            namespace,
            revision,
            ..
        } = injector;
        for InjectorService { name, ready } in &injector.services {
            match looked.see(ready) {
                Some(Some(0)) => looked.error(
                    format!("service {namespace}/{name}"),
                    format!("the injector of revision {revision} has no endpoint that is ready: pods that it would inject are refused, or created without a sidecar where failurePolicy is Ignore"),
                    format!("kubectl -n {namespace} get endpointslices -l kubernetes.io/service-name={name}"),
                ),
                Some(None) => looked.not_said(format!(
                    "whether the injector of revision {revision} answers: it has no EndpointSlice in this cluster"
                )),
                Some(Some(_)) | None => {}
            }
        }
        let webhooks = injector.webhooks.iter();
        let fail_open = webhooks.filter(|(_, webhook)| webhook.failure_policy == "Ignore");
        for name in fail_open.map(|(name, _)| name).collect::<BTreeSet<_>>() {
            looked.warning(
                format!("MutatingWebhookConfiguration {name}"),
                "failurePolicy is Ignore: while the injector does not answer, pods are created without a sidecar",
                "set failurePolicy to Fail, as Istio's chart does",
            );
        }
    }
    if injectors.len() > 1 {
        rivals(facts, looked, injectors);
    }
}

/// Says in which namespaces the webhooks of several injectors select the same pods. A revision tag is of the injector of its revision.
fn rivals(facts: &Facts, looked: &mut Looked, injectors: &[Injector]) {
    let mut several: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut conditional = Vec::new();
    for Namespace { metadata } in looked.list(&facts.namespaces).unwrap_or_default() {
        let selecting: Vec<_> = injectors
            .iter()
            .filter_map(|injector| selecting(injector, &metadata.labels))
            .collect();
        let certain: BTreeSet<_> = selecting.iter().filter_map(|webhook| *webhook).collect();
        if certain.len() > 1 {
            several.entry(certain).or_default().push(&metadata.name);
        } else if selecting.len() > 1 {
            conditional.push(&metadata.name);
        }
    }
    for (by, namespaces) in several {
        let by: Vec<_> = by.into_iter().collect();
        looked.warning(
            format!("namespaces {}", names(&namespaces)),
            format!("several control planes inject the same pods, by MutatingWebhookConfigurations {}: which sidecar a pod gets is not certain", names(&by)),
            "label each namespace with the istio.io/rev of one revision, or uninstall the other control plane",
        );
    }
    if !conditional.is_empty() {
        looked.not_said(format!(
            "whether several control planes inject the pods of namespaces {}: matchConditions of a webhook decide",
            names(&conditional)
        ));
    }
}

/// The MutatingWebhookConfiguration by which an injector gets the pods of a namespace with these labels: `Some(None)` where a webhook's
/// own conditions decide, and `None` where no webhook selects them.
fn selecting<'a>(
    injector: &'a Injector,
    namespace: &BTreeMap<String, String>,
) -> Option<Option<&'a str>> {
    let webhooks = injector.webhooks.iter();
    let selecting: Vec<_> = webhooks.filter(|(_, w)| w.selects(namespace)).collect();
    let mut plain = selecting
        .iter()
        .filter(|(_, w)| w.match_conditions.is_empty());
    let certain = plain.next().map(|(name, _)| name.as_str());
    (!selecting.is_empty()).then_some(certain)
}

/// Istio's own CNI plugin, which OpenShift Service Mesh 2 names by its version.
pub(super) fn istio_cni(daemon_sets: &[Workload]) -> Option<&Workload> {
    daemon_sets
        .iter()
        .find(|d| d.metadata.name.starts_with("istio-cni-node"))
}

fn ztunnel(daemon_sets: &[Workload]) -> Option<&Workload> {
    daemon_sets.iter().find(|d| d.metadata.name == "ztunnel")
}
