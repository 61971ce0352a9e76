use super::{Facts, Looked};
use crate::{
    doctor::objects::MeshNode,
    explain::{Case, Objects},
    mesh::{Decision, Pod, annotation},
    reason::{Reason, names},
};

pub(super) fn without_attachment(facts: &Facts, looked: &mut Looked) {
    let seen = looked.list(&facts.pods).zip(looked.list(&facts.namespaces));
    let Some((pods, namespaces)) = seen else {
        return;
    };
    let seen = looked
        .list(&facts.profiles)
        .zip(looked.list(&facts.attachments));
    let Some((profiles, attachments)) = seen else {
        return;
    };
    let objects = Objects {
        pods: Vec::new(),
        namespaces: namespaces.to_vec(),
        attachments: attachments.to_vec(),
        profiles: Facts::deciding(profiles),
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
