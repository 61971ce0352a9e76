use std::collections::BTreeMap;

use serde_json::Value;

use super::{Facts, Looked, numbers, unknown_conditions};
use crate::{
    doctor::objects::{Container, ContainerStatus, MultusPod, Workload, tag},
    reason::names,
};

const INSTALL: &str =
    "install Multus 4 and its CRD: https://github.com/k8snetworkplumbingwg/multus-cni";
const PATHS: &str = "set the chart's values platform or paths to the directories that Multus uses";
/// Where Multus and agents look, unless configured otherwise.
const BIN_DIR: &str = "/opt/cni/bin";
const CONF_DIR: &str = "/etc/cni/multus/net.d";

pub(super) fn installed(facts: &Facts, looked: &mut Looked) {
    if let Some(None) = looked.see(&facts.attachments) {
        let message = "the kind NetworkAttachmentDefinition is not served";
        looked.error("k8s.cni.cncf.io/v1", message, INSTALL);
    }
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    let Some(multus) = Facts::multus(daemon_sets) else {
        let mut nodes = facts.mesh_nodes.iter().flatten().flatten();
        // a distribution may run it otherwise
        if !nodes.any(|node| !node.status.multus.mode.is_empty()) {
            looked.error("DaemonSets", "none of them runs Multus", INSTALL);
        }
        return;
    };
    let (ready, desired) = (
        multus.status.number_ready,
        multus.status.desired_number_scheduled,
    );
    if ready < desired {
        let (namespace, name) = (&multus.metadata.namespace, &multus.metadata.name);
        looked.warning(
            format!("DaemonSet {}", multus.at()),
            format!("Multus is ready on {ready} of {desired} nodes; on the others no pod starts"),
            format!("kubectl -n {namespace} rollout status daemonset/{name}"),
        );
    }
}

pub(super) fn version(facts: &Facts, looked: &mut Looked) {
    // what nodes report is on them; a tag may name anything, or be a digest
    let mut reported = BTreeMap::<_, Vec<_>>::new();
    let nodes = facts.mesh_nodes.iter().flatten().flatten();
    for node in nodes.filter(|node| !node.is_silent(facts.now())) {
        let version = numbers(&node.status.multus.version);
        let nodes = reported.entry(version).or_default();
        nodes.push(&node.metadata.name);
    }
    let all_say = !reported.is_empty() && !reported.contains_key(&None);
    for (version, nodes) in reported {
        if let Some(version) = version {
            judge(version, format!("nodes {}", names(&nodes)), looked);
        }
    }
    if all_say {
        return;
    }
    let Some((_, container)) = container(facts, looked) else {
        return;
    };
    let at = format!("image {}", container.image);
    match tag(&container.image).and_then(numbers) {
        Some(version) => judge(version, at, looked),
        None => looked.not_said(format!("the tag of {at} names no version")),
    }
}

fn judge((major, minor): (u64, u64), at: String, looked: &mut Looked) {
    let older = |than: &str| format!("Multus {major}.{minor} is older than {than}");
    let upgrade = "upgrade Multus to 4.3 or later";
    match (major, minor) {
        (..4, _) => looked.error(at, older("4.0"), upgrade),
        (4, ..3) => looked.warning(at, older("4.3"), upgrade),
        _ => {}
    }
}

pub(super) fn bin_dir(facts: &Facts, looked: &mut Looked) {
    directory(facts, looked, "binDir", "--cni-bin-dir", BIN_DIR);
    condition(facts, looked, "ProgramInstalled");
}

pub(super) fn conf_dir(facts: &Facts, looked: &mut Looked) {
    if !facts.is_before {
        condition(facts, looked, "PathsVerified");
        directory(facts, looked, "confDir", "--multus-conf-dir", CONF_DIR);
    }
    let Some((multus, container)) = container(facts, looked) else {
        return;
    };
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    let directory = Facts::agent_flag(daemon_sets, "--multus-conf-dir").unwrap_or(CONF_DIR);
    let mut mounts = container.volume_mounts.iter();
    if is_thick(container)
        && !mounts.any(|m| directory.starts_with(m.mount_path.trim_end_matches('/')))
    {
        looked.warning(
            format!("DaemonSet {}", multus.at()),
            format!("Multus does not mount {directory}: attachments without a configuration are not found"),
            format!("mount {directory} of the node there, as Multus's own manifest does"),
        );
    }
}

pub(super) fn isolation(facts: &Facts, looked: &mut Looked) {
    let Some((multus, container)) = container(facts, looked) else {
        return;
    };
    let Some(config) = config(facts, looked) else {
        return;
    };
    let flag = |flag| container.flag(flag).map(str::to_owned);
    let is_isolated = config["namespaceIsolation"] == true
        || flag("--namespace-isolation").is_some_and(|v| v == "true");
    let global = config["globalNamespaces"].as_str().map(str::to_owned);
    let global = global.or(flag("--global-namespaces"));
    let is_shared = |namespaces: &str| namespaces.split(',').any(|n| n.trim() == "default");
    if is_isolated && global.as_deref().is_some_and(|n| !is_shared(n)) {
        looked.error(
            format!("DaemonSet {}", multus.at()),
            "namespaceIsolation is on and default is not among globalNamespaces: pods may not name the shared attachment",
            "add default to Multus's globalNamespaces, or set attachment.placement: PerNamespace in the MeshProfiles",
        );
    }
}

/// What Multus's own manifest limits its daemon to, which takes some 50 MB at rest, and more for each pod that starts.
const LITTLE_MEMORY: u64 = 50 << 20;
/// With more pods on a node that is too little: <https://github.com/k8snetworkplumbingwg/multus-cni/issues/1346>
const MANY_PODS: usize = 50;
/// What its container is advised to have.
const ENOUGH_MEMORY: u64 = 200 << 20;
const MORE_MEMORY: &str = "set resources.limits.memory of its container to 200Mi or more";
/// A container is also started again at each reboot of its node.
const MANY_RESTARTS: u64 = 10;

pub(super) fn memory(facts: &Facts, looked: &mut Looked) {
    let Some((multus, container)) = container(facts, looked) else {
        return;
    };
    if !is_thick(container) {
        return; // its plugin is a process of the runtime's
    }
    let limit = container.resources.memory();
    let remedy = match limit {
        Ok(Some(..ENOUGH_MEMORY)) => MORE_MEMORY,
        Ok(Some(_)) => "raise resources.limits.memory of its container",
        Ok(None) => "see what else needs memory on these nodes: its container has no limit",
        Err(_) => "see resources.limits.memory of its container",
    };
    restarts(facts, looked, (multus, container), remedy);
    if let Err(limit) = &limit {
        looked.not_said(format!("the limit of Multus's memory, {limit}"));
    }
    if !matches!(limit, Ok(Some(..=LITTLE_MEMORY))) {
        return;
    }
    if facts.scope.is_some() {
        return looked.not_said("how many pods a node has: pods of one namespace are looked at");
    }
    let Some(pods) = looked.list(&facts.pods) else {
        return;
    };
    let mut on_node = BTreeMap::<_, usize>::new();
    for pod in pods.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
        *on_node.entry(pod.spec.node_name.as_str()).or_default() += 1;
    }
    on_node.retain(|_, pods| *pods > MANY_PODS);
    let full: Vec<_> = on_node.into_keys().collect();
    if !full.is_empty() {
        looked.warning(
            format!("DaemonSet {}", multus.at()),
            format!("its memory is limited to 50Mi or less, so the kernel may kill it when many pods start at once; there are more than {MANY_PODS} pods on nodes {}", names(&full)),
            MORE_MEMORY,
        );
    }
}

/// Says where Multus's daemon was killed for want of memory, and where it was restarted often, which new pods wait for.
fn restarts(
    facts: &Facts,
    looked: &mut Looked,
    (multus, container): (&Workload, &Container),
    remedy: &str,
) {
    let pods = looked.list(&facts.multus_pods).unwrap_or_default();
    let (mut killed, mut restarted) = (Vec::new(), Vec::new());
    for MultusPod {
        metadata,
        spec,
        status,
    } in pods
    {
        let of_daemon = |status: &&ContainerStatus| status.name == container.name;
        let mut containers = status.container_statuses.iter().filter(of_daemon);
        if containers.clone().any(ContainerStatus::was_out_of_memory) {
            killed.push(spec.node_name.as_str());
        } else if containers.any(|c| c.restart_count > MANY_RESTARTS) {
            restarted.push(metadata.name.as_str());
        }
    }
    let at = format!("DaemonSet {}", multus.at());
    if !killed.is_empty() {
        looked.warning(
            &at,
            format!("the kernel has killed it for want of memory on nodes {}: no pod starts there meanwhile", names(&killed)),
            remedy,
        );
    }
    if let Some(first) = restarted.first() {
        looked.advice(
            &at,
            format!("its pods {} were restarted more than {MANY_RESTARTS} times, reboots of their nodes included", names(&restarted)),
            format!("see why: kubectl -n {} logs --previous {first}", multus.metadata.namespace),
        );
    }
}

/// The DaemonSet of Multus and its container, where they were seen.
fn container<'a>(facts: &'a Facts, looked: &mut Looked) -> Option<(&'a Workload, &'a Container)> {
    let multus = Facts::multus(looked.list(&facts.daemon_sets)?);
    let found = multus.and_then(|multus| {
        let is_multus = |c: &&Container| c.name.ends_with("multus") || c.image.contains("multus");
        Some((multus, multus.containers().iter().find(is_multus)?))
    });
    if found.is_none() {
        looked.not_said("Multus's DaemonSet was not found");
    }
    found
}

fn is_thick(container: &Container) -> bool {
    let mut words = container.command.iter().chain(&container.args);
    words.any(|word| word.contains("multus-daemon")) || container.image.contains("thick")
}

/// What Multus's daemon is configured with; null where it has arguments alone.
fn config(facts: &Facts, looked: &mut Looked) -> Option<Value> {
    let Some(map) = looked.see(&facts.multus)? else {
        return Some(Value::Null);
    };
    let Some(text) = map
        .data
        .get("daemon-config.json")
        .or(map.data.get("cni-conf.json"))
    else {
        return Some(Value::Null);
    };
    match serde_json::from_str(text) {
        Ok(config) => Some(config),
        Err(error) => {
            looked.error(
                "Multus's ConfigMap",
                format!("its configuration cannot be read: {error}"),
                "correct it",
            );
            None
        }
    }
}

/// A directory that Multus's configuration names, and the agents' flag for the same.
fn directory(facts: &Facts, looked: &mut Looked, key: &str, flag: &str, usual: &str) {
    let Some((multus, _)) = container(facts, looked) else {
        return;
    };
    let Some(config) = config(facts, looked) else {
        return;
    };
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    if Facts::agents(daemon_sets).is_none() {
        return;
    }
    let trimmed = |path: &str| path.trim_end_matches('/').to_owned();
    let theirs = config[key].as_str().map(trimmed);
    let theirs = theirs.unwrap_or_else(|| usual.to_owned());
    let ours = trimmed(Facts::agent_flag(daemon_sets, flag).unwrap_or(usual));
    if theirs != ours {
        looked.error(
            format!("DaemonSet {}", multus.at()),
            format!("Multus looks in {theirs}, and agents use {ours}"),
            PATHS,
        );
    }
}

/// A condition of all nodes.
fn condition(facts: &Facts, looked: &mut Looked, kind: &str) {
    let Some(nodes) = looked.list(&facts.mesh_nodes) else {
        return;
    };
    for node in nodes {
        if let ("False", why) = node.condition(kind) {
            looked.error(format!("node {}", node.metadata.name), why, PATHS);
        }
    }
    unknown_conditions(looked, nodes, kind);
}
