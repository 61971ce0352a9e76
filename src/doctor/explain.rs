//! `explain`: the decision on a pod of the cluster, by the objects that the cluster has now.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{
    cluster::{Cluster, Seen, is_name},
    connect::ClusterTarget,
    facts::Facts,
    gather,
    objects::MeshNode,
};
use crate::{
    explain::{Case, Objects, OnNode, report_of, text},
    mesh::{Namespace, Pod, annotation},
    multus::{AttachmentDefinition, parse_networks},
    profile::DefaultProfile,
    terminal::{CommandFailure, Exit, Format, print, print_json},
};

/// Most attachments that are read for a pod.
const MOST_ATTACHMENTS: usize = 32;

/// Arguments of `explain`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The name of a pod
    pod: String,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

impl Args {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self, target: &ClusterTarget) -> Result<(), CommandFailure> {
        target.check(true)?;
        if is_name(&self.pod) {
            return Ok(());
        }
        let pod = &self.pod;
        Err(CommandFailure::usage(format!(
            "{pod:?} is no name of a pod"
        )))
    }
}

/// Explains one pod.
pub(super) async fn run(
    args: &Args,
    cluster: &Cluster,
    namespace: &str,
) -> Result<Exit, CommandFailure> {
    let case = case(cluster, namespace, &args.pod).await?;
    let report = report_of(&case);
    match args.output {
        Format::Text => print(&text(&report)),
        Format::Json => print_json(&[&report])?,
    }
    Ok(report.exit())
}

async fn case(cluster: &Cluster, namespace: &str, name: &str) -> Result<Case, CommandFailure> {
    let path = format!("/api/v1/namespaces/{namespace}");
    let (right, at) = (
        format!("get pods in {namespace}"),
        format!("{path}/pods/{name}"),
    );
    let pod = cluster.get::<Pod>(&right, &at).await;
    let mut pod = needed(pod, &format!("there is no pod {namespace}/{name}"))?;
    let right = format!("get namespace {namespace}");
    let of_pod = cluster.get::<Namespace>(&right, &path).await;
    let of_pod = needed(of_pod, &format!("there is no namespace {namespace}"))?;
    pod.spec.runtime_handler = handler(cluster, &pod.spec.runtime_class_name).await?;
    let profiles = seen(gather::profiles(cluster).await)?;
    let is_served = profiles.is_some();
    let profiles = profiles.unwrap_or_default();
    let default = if profiles.is_empty() {
        default_profile(cluster).await?
    } else {
        DefaultProfile::default()
    };
    let decides = match default {
        DefaultProfile::Required => Vec::new(),
        DefaultProfile::Auto if is_served => Vec::new(),
        DefaultProfile::Auto | DefaultProfile::BuiltIn => Facts::deciding(&profiles),
    };
    let objects = Objects {
        pods: Vec::new(),
        namespaces: vec![of_pod],
        attachments: attachments(cluster, &pod).await?,
        profiles: decides,
    };
    let no_namespace = |_no_namespace| CommandFailure::failed("the pod's namespace is another one");
    let mut case = Case::of(&pod, &objects, None).map_err(no_namespace)?;
    case.on_node = Some(OnNode::Reported(on_node(cluster, &pod).await));
    Ok(case)
}

fn seen<T>(seen: Seen<T>) -> Result<Option<T>, CommandFailure> {
    seen.map_err(|unseen| CommandFailure::failed(unseen.to_string()))
}

fn needed<T>(object: Seen<T>, or: &str) -> Result<T, CommandFailure> {
    seen(object)?.ok_or_else(|| CommandFailure::failed(or))
}

/// What the pod's runtime class stands for; empty where there is none.
async fn handler(cluster: &Cluster, class: &str) -> Result<String, CommandFailure> {
    #[derive(Deserialize)]
    struct RuntimeClass {
        handler: String,
    }
    if class.is_empty() {
        return Ok(String::new());
    }
    let path = format!("/apis/node.k8s.io/v1/runtimeclasses/{class}");
    let class = cluster
        .get::<RuntimeClass>("get runtimeclasses", &path)
        .await;
    Ok(seen(class)?.map(|class| class.handler).unwrap_or_default())
}

/// What agents do without a MeshProfile.
async fn default_profile(cluster: &Cluster) -> Result<DefaultProfile, CommandFailure> {
    let daemon_sets = seen(gather::daemon_sets(cluster).await)?.unwrap_or_default();
    Facts::default_profile(&daemon_sets)
        .map_err(|why| CommandFailure::failed(format!("--default-profile of the agents: {why}")))
}

/// Namespace and name of each attachment that the pod names.
fn named(networks: &str, namespace: &str) -> Result<BTreeSet<(String, String)>, CommandFailure> {
    // what cannot be read is the decision's to say
    let named = parse_networks(networks, namespace).unwrap_or_default();
    let named: BTreeSet<_> = named
        .into_iter()
        .filter(|(namespace, name)| is_name(namespace) && is_name(name))
        .collect();
    match named.len() {
        ..=MOST_ATTACHMENTS => Ok(named),
        more => Err(CommandFailure::failed(format!(
            "the pod names {more} attachments"
        ))),
    }
}

/// The attachments that the pod names.
async fn attachments(
    cluster: &Cluster,
    pod: &Pod,
) -> Result<Vec<AttachmentDefinition>, CommandFailure> {
    let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
    let named = named(networks, &pod.metadata.namespace)?;
    let mut found = Vec::new();
    for (namespace, name) in named {
        let kind = "network-attachment-definitions";
        let right = format!("get {kind} in {namespace}");
        let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/{kind}/{name}");
        let one = seen(cluster.get::<Value>(&right, &path).await)?;
        found.extend(one.and_then(|one| AttachmentDefinition::of(&one).ok()));
    }
    Ok(found)
}

/// What the agent of the pod's node reports of it.
async fn on_node(cluster: &Cluster, pod: &Pod) -> String {
    let node = &pod.spec.node_name;
    if node.is_empty() {
        return "the pod is bound to no node yet".into();
    }
    let path = format!("/apis/meshoptin.dev/v1alpha1/meshnodes/{node}");
    match cluster.get::<MeshNode>("get meshnodes", &path).await {
        Err(unseen) => format!("not seen: {unseen}"),
        Ok(None) => format!("no agent has reported from {node}"),
        Ok(Some(report)) => reported(&report, pod),
    }
}

/// What a node's report says of a pod. It lists problems, not pods, and not all of them.
pub(super) fn reported(report: &MeshNode, pod: &Pod) -> String {
    let (node, status) = (&report.metadata.name, &report.status);
    let Some(audit) = &status.last_audit else {
        return format!("the agent of {node} has not audited its pods yet");
    };
    let of_pod = |p: &&crate::profile::mesh_node::Problem| {
        p.namespace == pod.metadata.namespace && p.pod == pod.metadata.name
    };
    if let Some(problem) = status.problems.iter().find(of_pod) {
        return format!(
            "{} since {}, as the agent of {node} reports by its audit of {audit}",
            problem.reason, problem.since
        );
    }
    let more = status.problems_total.unwrap_or_default();
    match more.saturating_sub(status.problems.len()) {
        0 => format!("the audit of {audit} found nothing wrong with it on {node}"),
        more => format!(
            "the audit of {audit} found {more} pods of {node} that it does not list; this may be one"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_32_attachments_of_a_pod_are_read_and_no_path_that_it_makes_up() {
        let networks = |count: usize| {
            let names: Vec<_> = (0..count).map(|n| format!("mesh-{n}")).collect();
            names.join(",")
        };
        assert_eq!(named(&networks(32), "a").unwrap().len(), 32);
        assert!(named(&networks(33), "a").is_err());
        let twice = format!("{},{}", networks(32), networks(32));
        assert_eq!(named(&twice, "a").unwrap().len(), 32);
        let hostile = r#"[{"name":"../../secrets/x"},{"name":"x?watch=1"},{"name":"mesh","namespace":".."},{"name":"mesh"}]"#;
        let only = BTreeSet::from([("a".to_owned(), "mesh".to_owned())]);
        assert_eq!(named(hostile, "a").unwrap(), only);
    }
}
