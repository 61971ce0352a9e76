use std::collections::BTreeMap;

use super::{Facts, Looked};
use crate::{
    doctor::objects::MeshNode,
    explain::{Case, Objects},
    mesh::{Decision, Namespace, Pod, annotation, is_namespace_enrolled},
    profile::Enrollment,
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
        let is_unattached = !case.assumed && objects.named_by(pod).is_ok_and(|n| n.is_empty());
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
        let namespace = &pod.metadata.namespace;
        let is_in_mesh = |n: &Namespace| {
            n.metadata.name == *namespace && is_namespace_enrolled(&Enrollment::default(), n)
        };
        let Ok(case) = Case::of(pod, &objects, None) else {
            continue; // its namespace is newer than the list of them
        };
        if let Some(why) = opt_out(&case.decided.decision)
            && objects.namespaces.iter().any(is_in_mesh)
        {
            let pod = format!("{namespace}/{}", pod.metadata.name);
            out.entry(why).or_default().push(pod);
        }
    }
    for (why, pods) in out {
        looked.advice(
            format!("pods {}", names(&pods)),
            format!("{} of an enrolled namespace: {why}", pods.len()),
            "where that is not meant to be possible, set tenants.mayOptOut: false in a MeshProfile with a selector for the namespace",
        );
    }
}

/// How a pod stays out of the mesh, or takes its connections past it.
fn opt_out(decision: &Decision) -> Option<&'static str> {
    match decision {
        Decision::Redirect(intent) => {
            let mut excluded = intent.outbound.exclude_ranges.iter();
            let all = excluded.any(|range| range.prefix_len() == 0);
            all.then_some("the pod excludes all outbound destinations")
        }
        Decision::Skip(e) => e.reason.is_opt_out().then_some(e.reason.sentence()),
        Decision::Refuse(_) => None, // the audit's to say
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
