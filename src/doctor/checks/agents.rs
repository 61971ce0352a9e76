use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Facts, Looked, definitions, numbers, unknown_conditions};
use crate::{
    doctor::{
        facts::AGENT,
        objects::{MeshNode, Node, tag},
    },
    profile::{BackendPolicy, VERSION},
    reason::names,
};

const INSTALL: &str = "helm install mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --create-namespace --set platform=kubernetes";
/// The oldest kernel with network namespace cookies.
const OLDEST_KERNEL: (u64, u64) = (5, 14);

pub(super) fn kernels(facts: &Facts, looked: &mut Looked) {
    if let Some(nodes) = looked.list(&facts.nodes) {
        for node in nodes.iter().filter(|node| node.is_linux()) {
            let at = format!("node {}", node.metadata.name);
            let kernel = &node.status.node_info.kernel_version;
            match numbers(kernel) {
                Some(version) if version < OLDEST_KERNEL => match rhel(kernel) {
                    Some(8) => looked.error(
                        at,
                        format!("the kernel is {kernel}, that of RHEL 8: it is older than 5.14, whatever Red Hat has backported to it"),
                        "upgrade the node to RHEL 9 or later, or keep pods of the mesh off it",
                    ),
                    Some(_) | None => looked.error(
                        at,
                        format!("the kernel is {kernel}, which is older than 5.14"),
                        "upgrade the node, or keep pods of the mesh off it",
                    ),
                },
                Some(_) => {}
                None => looked.not_said(format!("{at} does not say its kernel")),
            }
        }
        without_iptables(facts, looked, nodes);
    }
    let by_iptables = |node: &&MeshNode| node.status.backend == "Iptables";
    let nodes = looked.list(&facts.mesh_nodes).unwrap_or_default();
    let nodes: Vec<_> = nodes
        .iter()
        .filter(by_iptables)
        .map(|n| n.metadata.name.as_str())
        .collect();
    if !nodes.is_empty() {
        looked.advice(
            format!("nodes {}", names(&nodes)),
            "they have no nf_tables: pods are redirected by iptables, which distributions drop",
            "load the kernel module nf_tables",
        );
    }
}

/// Says which profiles ask for iptables where nodes have it no longer. The kernel of RHEL 10 comes without its modules: they are in the package
/// kernel-modules-extra, which iptables-nft needs: <https://github.com/kubernetes/kops/pull/17789>
fn without_iptables(facts: &Facts, looked: &mut Looked, nodes: &[Node]) {
    let major = |node: &&Node| rhel(&node.status.node_info.kernel_version);
    let nodes = nodes.iter().filter(|n| major(n).is_some_and(|m| m >= 10));
    let nodes: Vec<_> = nodes.map(|n| n.metadata.name.as_str()).collect();
    if nodes.is_empty() || facts.is_before {
        return;
    }
    for object in looked.list(&facts.profiles).unwrap_or_default() {
        let profile = &object.profile;
        if profile.unreadable.is_none() && profile.spec.redirect.backend == BackendPolicy::Iptables
        {
            looked.advice(
                format!("MeshProfile {}", profile.name),
                format!("redirect.backend is Iptables: on nodes {}, of RHEL 10, that needs the package kernel-modules-extra", names(&nodes)),
                "set redirect.backend to Auto; SelfTestPassed in each MeshNode says what its node can do",
            );
        }
    }
}

/// The major version of RHEL, or of a rebuild of it, that a kernel's release names, such as 9 of 5.14.0-570.12.1.el9_6.x86_64.
fn rhel(kernel: &str) -> Option<u64> {
    let (_, rest) = kernel.split_once(".el")?;
    let (major, build) = rest.split_once(['.', '_']).unwrap_or((rest, ""));
    // ELRepo's are kernel.org's, built for a version of RHEL
    let is_foreign = build.contains("elrepo");
    major.parse().ok().filter(|_| !is_foreign)
}

pub(super) fn ready(facts: &Facts, looked: &mut Looked) {
    if let Some(daemon_sets) = looked.list(&facts.daemon_sets) {
        match Facts::agents(daemon_sets) {
            None => looked.error(
                AGENT,
                "the DaemonSet of the agents is not installed",
                INSTALL,
            ),
            Some(agents) => {
                let (ready, desired) = (
                    agents.status.number_ready,
                    agents.status.desired_number_scheduled,
                );
                if ready < desired || desired == 0 {
                    looked.error(
                        format!("DaemonSet {}", agents.at()),
                        format!("agents are ready on {ready} of {desired} nodes"),
                        format!(
                            "kubectl -n {} describe daemonset {}",
                            agents.metadata.namespace, agents.metadata.name
                        ),
                    );
                }
            }
        }
    }
    let Some(mesh_nodes) = looked.list(&facts.mesh_nodes) else {
        return;
    };
    for node in mesh_nodes {
        of_node(facts.now(), looked, node);
    }
    for kind in OTHERS {
        unknown_conditions(looked, mesh_nodes, kind);
    }
    let Some(nodes) = looked.list(&facts.nodes) else {
        return;
    };
    let reporting: BTreeSet<_> = mesh_nodes.iter().map(|n| &n.metadata.name).collect();
    let without: Vec<_> = nodes
        .iter()
        .filter(|node| node.is_linux())
        .map(|n| &n.metadata.name)
        .filter(|name| !reporting.contains(name))
        .collect();
    if !without.is_empty() {
        looked.error(
            format!("nodes {}", names(&without)),
            "no agent has reported from there: pods that name the attachment do not start",
            "tolerate the nodes' taints by the chart's value tolerations, or see the DaemonSet's Events",
        );
    }
}

/// Conditions that say why an agent may soon not be ready.
const OTHERS: [&str; 2] = ["SelfTestPassed", "ProfilesKnown"];

fn of_node(now: Timestamp, looked: &mut Looked, node: &MeshNode) {
    let at = format!("node {}", node.metadata.name);
    let see = format!("kubectl get meshnode {} -o yaml", node.metadata.name);
    match node.condition("Ready") {
        ("True", _) => {}
        ("False", why) => looked.error(&at, format!("the agent is not ready: {why}"), &see),
        (_, why) => looked.error(
            &at,
            format!("whether the agent is ready is not known: {why}"),
            &see,
        ),
    }
    for kind in OTHERS {
        if let ("False", why) = node.condition(kind) {
            looked.error(&at, format!("{kind} is False: {why}"), &see);
        }
    }
    if node.is_silent(now) && node.condition("Reporting").0 != "False" {
        let since = node
            .status
            .last_report
            .as_deref()
            .unwrap_or("its MeshNode was made");
        looked.warning(
            &at,
            format!("the agent has not reported since {since}"),
            &see,
        );
    }
}

pub(super) fn credentials(facts: &Facts, looked: &mut Looked) {
    let nodes = looked.list(&facts.mesh_nodes).unwrap_or_default();
    unknown_conditions(looked, nodes, "HostCredential");
    for node in nodes {
        if let ("False", why) = node.condition("HostCredential") {
            looked.error(
                format!("node {}", node.metadata.name),
                why,
                "see the log of the node's agent",
            );
        }
    }
}

pub(super) fn versions(facts: &Facts, looked: &mut Looked) {
    let Some(nodes) = looked.list(&facts.mesh_nodes) else {
        return;
    };
    let mut of_agents = BTreeSet::new();
    let mut namespace = "mesh-optin";
    for node in nodes {
        let (agent, program) = (&node.status.version, &node.status.program_version);
        of_agents.insert(agent.as_str());
        if agent != program {
            looked.error(
                format!("node {}", node.metadata.name),
                format!("the agent is {agent}, and the program that Multus calls is {program:?}"),
                "see the condition ProgramInstalled of the MeshNode",
            );
        }
    }
    if let Some(agents) = looked.list(&facts.daemon_sets).and_then(Facts::agents) {
        namespace = &agents.metadata.namespace;
        let (updated, desired) = (
            agents.status.updated_number_scheduled,
            agents.status.desired_number_scheduled,
        );
        if updated < desired {
            looked.warning(
                format!("DaemonSet {}", agents.at()),
                format!("{updated} of {desired} agents run its current version"),
                format!(
                    "kubectl -n {namespace} rollout status daemonset/{}",
                    agents.metadata.name
                ),
            );
        }
    }
    if of_agents.len() > 1 {
        let all: Vec<_> = of_agents.iter().collect();
        looked.warning(
            "agents",
            format!("their versions differ: {}", names(&all)),
            format!("kubectl -n {namespace} rollout status daemonset/{AGENT}"),
        );
    }
    for controller in looked.list(&facts.controllers).unwrap_or_default() {
        for container in controller.containers() {
            let Some(version) = tag(&container.image) else {
                looked.not_said(format!(
                    "the tag of image {} names no version",
                    container.image
                ));
                continue;
            };
            for agent in of_agents.iter().filter(|agent| !fit(agent, version)) {
                looked.warning(
                    format!("Deployment {}", controller.at()),
                    format!("the controller is {version}, and agents are {agent}"),
                    "install both from one release",
                );
            }
        }
    }
    definitions::compare(facts, looked, &of_agents);
    for agent in of_agents.iter().filter(|agent| !fit(agent, VERSION)) {
        looked.advice(
            "this program",
            format!("it is {VERSION}, and agents are {agent}"),
            "use the kubectl-mesh_optin of the agents' release",
        );
    }
}

/// Whether versions are the same or next to each other.
fn fit(one: &str, other: &str) -> bool {
    match (numbers(one), numbers(other)) {
        (Some((major, minor)), Some(other)) => major == other.0 && minor.abs_diff(other.1) <= 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::rhel;

    #[test]
    fn kernels_of_rhel_say_its_major_version() {
        for (kernel, major) in [
            ("4.18.0-553.el8", Some(8)),
            ("4.18.0-553.16.1.el8_10.x86_64", Some(8)),
            ("5.14.0-570.12.1.el9_6.x86_64", Some(9)),
            ("6.12.0-124.13.1.el10_1.x86_64", Some(10)),
            ("5.15.0-300.163.18.el8uek.x86_64", None), // Oracle's own
            ("6.12.0", None),
            ("6.1.0-37-cloud-amd64", None),
            ("6.9.7-1.el9.elrepo.x86_64", None),
            ("5.4.278-1.el8.elrepo.x86_64", None),
            ("6.1.0-1.el99999999999999999999", None),
        ] {
            assert_eq!(rhel(kernel), major, "{kernel}");
        }
    }
}
