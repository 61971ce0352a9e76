use std::collections::BTreeMap;

use super::{Facts, Looked};
use crate::{
    doctor::objects::MeshNode,
    explain::{Case, Objects},
    mesh::{Decision, Pod, annotation, expects, governing},
    reason::{Reason, names},
};

pub(super) fn without_attachment(facts: &Facts, looked: &mut Looked) {
    let Some((pods, objects)) = decided_by(facts, looked) else {
        return;
    };
    for pod in pods.iter().filter(|pod| has_proxy(pod)) {
        let Ok(case) = Case::of(pod, &objects, None) else {
            continue; // its namespace is newer than the list of them
        };
        // the injector may add the attachment to a pod that it has not seen yet
        let is_unattached =
            !case.assumed && objects.attachments_of(pod).is_ok_and(|n| n.is_empty());
        if is_unattached && matches!(case.decided.decision, Decision::Redirect(_)) {
            looked.error(
                format!("pod {}/{}", pod.metadata.namespace, pod.metadata.name),
                format!("it has a sidecar and names no attachment of type mesh-optin in {}: it is not redirected", annotation::NETWORKS),
                "name default/istio-cni there in the workload's template, and delete the pod",
            );
        }
    }
}

/// All pods, and what decides on them; `None` if not all of that was seen.
fn decided_by<'a>(facts: &'a Facts, looked: &mut Looked) -> Option<(&'a [Pod], Objects)> {
    let seen = looked.list(&facts.pods).zip(looked.list(&facts.namespaces));
    let (pods, namespaces) = seen?;
    let seen = looked
        .list(&facts.profiles)
        .zip(looked.list(&facts.attachments));
    let (profiles, attachments) = seen?;
    let objects = Objects {
        pods: Vec::new(),
        namespaces: namespaces.to_vec(),
        attachments: attachments.to_vec(),
        profiles: Facts::deciding(profiles),
    };
    Some((pods, objects))
}

pub(super) fn opted_out(facts: &Facts, looked: &mut Looked) {
    let Some((pods, objects)) = decided_by(facts, looked) else {
        return;
    };
    let mut out = BTreeMap::<_, Vec<_>>::new();
    for pod in pods {
        let at = &pod.metadata.namespace;
        let namespace = objects.namespaces.iter().find(|n| n.metadata.name == *at);
        let Some(namespace) = namespace else {
            continue; // newer than the list of them
        };
        let Ok((profile, _)) = governing(&objects.profiles, namespace, pod, None) else {
            continue; // ProfilesAccepted says so
        };
        if !expects(profile, namespace, pod) {
            continue;
        }
        if let Ok(case) = Case::of(pod, &objects, None)
            && let Some(how) = opt_out(&case.decided.decision)
        {
            let pod = format!("{at}/{}", pod.metadata.name);
            out.entry(how).or_default().push(pod);
        }
    }
    for ((why, remedy), pods) in out {
        let message = format!("{} of enrolled namespaces: {why}", pods.len());
        looked.advice(format!("pods {}", names(&pods)), message, remedy);
    }
}

/// How a pod stays out of the mesh, or takes its connections past it, and what forbids that.
fn opt_out(decision: &Decision) -> Option<(&'static str, &'static str)> {
    match decision {
        Decision::Redirect(intent) => {
            let mut excluded = intent.outbound.exclude_ranges.iter();
            excluded.any(|range| range.prefix_len() == 0).then_some((
                "all outbound destinations of a family are excluded",
                "where that is not meant to be possible, leave excludeOutboundIPRanges out of tenants.mayOverride in the MeshProfile",
            ))
        }
        Decision::Skip(e) => {
            let remedy = e.reason.remedy_of_opt_out()?;
            Some((e.reason.sentence(), remedy))
        }
        Decision::Refuse(_) => None, // the audit says so
    }
}

fn has_proxy(pod: &Pod) -> bool {
    let mut containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    containers.any(|c| c.name == "istio-proxy")
}

pub(super) fn redirected(facts: &Facts, looked: &mut Looked) {
    let Some(nodes) = looked.list(&facts.mesh_nodes) else {
        return;
    };
    for node in nodes {
        of_node(facts, looked, node);
    }
    let now = facts.now();
    let unaudited = nodes.iter().filter(|node| node.is_unaudited(now));
    let mut unaudited: Vec<_> = unaudited.map(|node| &node.metadata.name).collect();
    // that nodes cannot be listed is AgentsReady's to say
    let all = facts.nodes.iter().flatten().flatten();
    let all = all.filter(|node| node.is_linux());
    let silent = all.map(|node| &node.metadata.name);
    unaudited.extend(silent.filter(|name| nodes.iter().all(|node| node.metadata.name != **name)));
    if !unaudited.is_empty() {
        looked.not_said(format!(
            "pods have not been audited lately on nodes {}",
            names(&unaudited)
        ));
    }
}

fn of_node(facts: &Facts, looked: &mut Looked, node: &MeshNode) {
    let name = &node.metadata.name;
    let is_looked_at =
        |namespace: &str| facts.scope.as_deref().is_none_or(|only| only == namespace);
    for problem in node
        .status
        .problems
        .iter()
        .filter(|p| is_looked_at(&p.namespace))
    {
        let reason = problem.reason.parse::<Reason>().ok();
        let sentence = reason.map_or("", Reason::sentence);
        let remedy = reason
            .and_then(Reason::remedy)
            .unwrap_or("see the pod's Events");
        let object = format!("pod {}/{}", problem.namespace, problem.pod);
        let message = format!(
            "{} on node {name} since {}: {sentence}",
            problem.reason, problem.since
        );
        match reason {
            Some(Reason::Outdated) => {
                looked.advice(object, message, "delete the pod when that suits you")
            }
            Some(Reason::PolicyChanged | Reason::FamilyNotCaptured) => {
                looked.warning(object, message, remedy)
            }
            Some(_) | None => looked.error(object, message, remedy),
        }
    }
    let more = node.status.problems_total.unwrap_or_default();
    let more = more.saturating_sub(node.status.problems.len());
    if more > 0 {
        looked.error(
            format!("node {name}"),
            format!(
                "{more} more of its pods are not as they should be; it lists {}",
                node.status.problems.len()
            ),
            "see the Events of its pods",
        );
    }
    let unaudited = node.status.pods.as_ref().map_or(0, |pods| pods.unaudited);
    if unaudited > 0 {
        looked.warning(
            format!("node {name}"),
            format!(
                "{unaudited} pods could not be audited: whether they are redirected is not known"
            ),
            "see the log of the node's agent",
        );
    }
}
