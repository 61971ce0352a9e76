//! `status`: how much of the cluster is as it should be, by MeshNodes and MeshProfiles.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    cluster::{Cluster, Seen},
    gather,
    objects::{MeshNode, Node, ProfileObject},
};
use crate::terminal::{Color, CommandFailure, Exit, Format, colored, plain, print, table};

/// Arguments of `status`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// How much of something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Share {
    good: usize,
    of: usize,
}

/// The status of a cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusReport {
    nodes: Share,
    versions: Vec<String>,
    profiles: Option<Share>,
    namespaces: Option<Share>,
    pods: Share,
    states: Vec<StateCount>,
    /// Nodes whose pods have not been audited.
    unaudited_nodes: usize,
    node_list: Vec<NodeRow>,
    problems: Vec<ProblemRow>,
    problems_total: usize,
    /// What could not be seen.
    unseen: Vec<String>,
}

#[derive(Debug, Serialize)]
struct StateCount {
    state: &'static str,
    pods: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeRow {
    name: String,
    ready: String,
    version: String,
    redirected: Option<usize>,
    problems: Option<usize>,
    last_report: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct ProblemRow {
    namespace: String,
    pod: String,
    reason: String,
    node: String,
    since: String,
}

/// Shows it.
pub(super) async fn run(
    args: &Args,
    cluster: &Cluster,
    scope: Option<&str>,
) -> Result<Exit, CommandFailure> {
    let (nodes, mesh_nodes, profiles) = tokio::join!(
        gather::nodes(cluster),
        gather::mesh_nodes(cluster),
        gather::profiles(cluster),
    );
    let mesh_nodes = match mesh_nodes {
        Ok(Some(mesh_nodes)) => mesh_nodes,
        Ok(None) => {
            return Err(CommandFailure::failed(
                "the kind MeshNode is not served: mesh-optin is not installed, or without its CRDs",
            ));
        }
        Err(unseen) => return Err(CommandFailure::failed(unseen.to_string())),
    };
    let report = report(&nodes, &mesh_nodes, &profiles, scope, Timestamp::now());
    match args.output {
        Format::Text => print(&text(&report)),
        Format::Json => {
            let json = serde_json::to_string_pretty(&report);
            print(&(json.map_err(|e| CommandFailure::failed(e.to_string()))? + "\n"));
        }
    }
    Ok(Exit::Done)
}

/// What is concluded from these objects.
pub(super) fn report(
    nodes: &Seen<Vec<Node>>,
    mesh_nodes: &[MeshNode],
    profiles: &Seen<Vec<ProfileObject>>,
    scope: Option<&str>,
    now: Timestamp,
) -> StatusReport {
    let unseen = [nodes.as_ref().err(), profiles.as_ref().err()];
    let unseen = unseen.into_iter().flatten().map(ToString::to_string);
    let nodes = nodes.iter().flatten().flatten();
    let nodes = nodes.filter(|node| node.is_linux());
    // an agent that died left its last word
    let is_ready_now = |n: &&MeshNode| n.condition("Ready").0 == "True" && !n.is_silent(now);
    let ready = mesh_nodes.iter().filter(is_ready_now);
    let mut versions: Vec<_> = mesh_nodes
        .iter()
        .map(|n| n.status.version.clone())
        .collect();
    versions.sort();
    versions.dedup();
    let sum = |of: fn(&crate::profile::mesh_node::PodCounts) -> usize| -> usize {
        mesh_nodes
            .iter()
            .filter_map(|n| n.status.pods.as_ref())
            .map(of)
            .sum()
    };
    let redirected = sum(|p| p.redirected);
    let states = [
        ("drifted", sum(|p| p.drifted)),
        ("preempted", sum(|p| p.preempted)),
        ("outdated", sum(|p| p.outdated)),
        ("bypassing", sum(|p| p.bypassing)),
        ("sidecar missing", sum(|p| p.sidecar_missing)),
        ("unaudited", sum(|p| p.unaudited)),
    ];
    let others: usize = states.iter().map(|(_, pods)| pods).sum();
    let states = states.into_iter().filter(|(_, pods)| *pods > 0);
    let profiles = profiles.as_ref().ok().and_then(Option::as_ref);
    StatusReport {
        nodes: Share {
            good: ready.count(),
            of: nodes.count().max(mesh_nodes.len()),
        },
        versions,
        profiles: profiles.map(|all| Share {
            good: all.iter().filter(|p| is_ready(p)).count(),
            of: all.len(),
        }),
        namespaces: profiles.map(|all| {
            let counts = || all.iter().filter_map(|p| p.status.namespaces);
            Share {
                good: counts().map(|c| c.attached).sum(),
                of: counts().map(|c| c.governed).sum(),
            }
        }),
        pods: Share {
            good: redirected,
            of: redirected + others,
        },
        states: states
            .map(|(state, pods)| StateCount { state, pods })
            .collect(),
        unaudited_nodes: mesh_nodes
            .iter()
            .filter(|n| n.status.pods.is_none())
            .count(),
        node_list: mesh_nodes.iter().map(row).collect(),
        problems: problems(mesh_nodes, scope),
        problems_total: mesh_nodes
            .iter()
            .filter_map(|n| n.status.problems_total)
            .sum(),
        unseen: unseen.collect(),
    }
}

fn is_ready(object: &ProfileObject) -> bool {
    let mut conditions = object.status.conditions.iter();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

fn row(node: &MeshNode) -> NodeRow {
    let (ready, message) = node.condition("Ready");
    let dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    NodeRow {
        name: node.metadata.name.clone(),
        ready: dash(ready),
        version: dash(&node.status.version),
        redirected: node.status.pods.as_ref().map(|pods| pods.redirected),
        problems: node.status.problems_total,
        last_report: dash(node.status.last_report.as_deref().unwrap_or_default()),
        message: message.to_owned(),
    }
}

fn problems(nodes: &[MeshNode], scope: Option<&str>) -> Vec<ProblemRow> {
    let mut all = Vec::new();
    for node in nodes {
        let problems = node.status.problems.iter();
        for problem in problems.filter(|p| scope.is_none_or(|only| only == p.namespace)) {
            all.push(ProblemRow {
                namespace: problem.namespace.clone(),
                pod: problem.pod.clone(),
                reason: problem.reason.clone(),
                node: node.metadata.name.clone(),
                since: problem.since.clone(),
            });
        }
    }
    all
}

/// For people.
pub(super) fn text(report: &StatusReport) -> String {
    let share = |share: &Share, what: &str| {
        let text = format!("{} of {} {what}", share.good, share.of);
        let is_all = share.good == share.of && share.of > 0;
        colored(&text, if is_all { Color::Green } else { Color::Yellow })
    };
    let mut out = format!(
        "Nodes       {}\n",
        share(&report.nodes, "have an agent that is ready")
    );
    out += &format!("Versions    {}\n", plain(&report.versions.join(", ")));
    if let Some(profiles) = &report.profiles {
        out += &format!("Profiles    {}\n", share(profiles, "are ready"));
    }
    if let Some(namespaces) = &report.namespaces {
        out += &format!(
            "Namespaces  {}\n",
            share(namespaces, "that profiles govern have their attachment")
        );
    }
    out += &format!(
        "Pods        {}",
        share(&report.pods, "of the mesh are redirected")
    );
    let states: Vec<_> = report
        .states
        .iter()
        .map(|s| format!("{} {}", s.state, s.pods))
        .collect();
    if !states.is_empty() {
        out += &format!("; {}", states.join(", "));
    }
    out += "\n";
    if report.unaudited_nodes > 0 {
        out += &format!(
            "            without the pods of {} nodes, which have not been audited\n",
            report.unaudited_nodes
        );
    }
    for unseen in &report.unseen {
        out += &format!("Not seen    {}\n", plain(unseen));
    }
    out += "\n";
    let number = |number: Option<usize>| number.map_or("-".to_owned(), |n| n.to_string());
    let header = [
        "NODE",
        "READY",
        "VERSION",
        "REDIRECTED",
        "PROBLEMS",
        "LAST REPORT",
        "MESSAGE",
    ];
    let rows = report.node_list.iter().map(|n| {
        [
            n.name.clone(),
            n.ready.clone(),
            n.version.clone(),
            number(n.redirected),
            number(n.problems),
            n.last_report.clone(),
            n.message.clone(),
        ]
    });
    let header = std::iter::once(header.map(str::to_owned));
    out += &table(&header.chain(rows).collect::<Vec<_>>());
    if !report.problems.is_empty() {
        let header = ["NAMESPACE", "POD", "REASON", "NODE", "SINCE"];
        let rows = report.problems.iter();
        let rows =
            rows.map(|p| [&p.namespace, &p.pod, &p.reason, &p.node, &p.since].map(String::clone));
        let header = std::iter::once(header.map(str::to_owned));
        out += &format!("\n{}", table(&header.chain(rows).collect::<Vec<_>>()));
    }
    let more = report.problems_total.saturating_sub(report.problems.len());
    if more > 0 {
        out += &format!("  and {more} more, in other namespaces or beyond what nodes list\n");
    }
    out
}
