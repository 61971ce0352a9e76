//! `explain`: what is decided on a pod and why, for people and machines, from whatever objects there are.

mod case;
mod objects;

use ipnet::IpNet;
use serde::Serialize;

pub(crate) use self::{
    case::{Case, OnNode},
    objects::Objects,
};
use crate::{
    mesh::{Decision, Input, Pod},
    plan::PodNetwork,
    reason::{Explanation, Reason},
    terminal::{Color, Exit, colored, plain, table},
    words::words,
};

/// A pod as it is reported, the same for people and machines.
#[derive(Serialize)]
pub(crate) struct PodReport<'a> {
    namespace: &'a str,
    name: &'a str,
    outcome: PodOutcome,
    reason: &'static str,
    message: String,
    remedy: Option<String>,
    assumed: bool,
    inputs: &'a [Input],
    captures: Vec<String>,
    warnings: Vec<String>,
    /// For a pod that has run: the reason why it would be refused if it were recreated.
    #[serde(skip_serializing_if = "Option::is_none", rename = "refusedIfRecreated")]
    refused_if_recreated: Option<&'static str>,
    /// For a pod of this node: what its ADD created, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<Option<&'a str>>,
    /// How its last ADD ended, if it created nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<&'a str>,
    /// For a pod of this node: when the pod and its namespace were read, and who has read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<&'a str>,
    /// For a pod of a cluster: what the agent of its node reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<&'a str>,
}

words! {
    /// What happens to a pod.
    enum PodOutcome("outcome") {
        Redirect = "redirect",
        Skip = "skip",
        Refuse = "refuse",
    }
}

/// A case as it is reported.
pub(crate) fn report_of(case: &Case) -> PodReport<'_> {
    let because = |e: &Explanation| {
        (
            e.reason,
            e.cause.clone(),
            e.remedy.as_ref().map(ToString::to_string),
        )
    };
    let (outcome, (reason, message, remedy)) = match &case.decided.decision {
        Decision::Redirect(_) => (PodOutcome::Redirect, because(&Reason::Redirected.into())),
        Decision::Skip(e) => (PodOutcome::Skip, because(e)),
        Decision::Refuse(e) => (PodOutcome::Refuse, because(e)),
    };
    PodReport {
        namespace: &case.pod.metadata.namespace,
        name: &case.pod.metadata.name,
        outcome,
        reason: reason.as_str(),
        message,
        remedy,
        assumed: case.assumed,
        inputs: &case.decided.inputs,
        captures: case
            .plan
            .as_ref()
            .map(crate::plan::Plan::captures)
            .unwrap_or_default(),
        warnings: case
            .decided
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect(),
        refused_if_recreated: case
            .decided
            .tolerated
            .as_ref()
            .map(|why| why.reason.as_str()),
        made: case.on_node.as_ref().and_then(|on_node| match on_node {
            OnNode::Made(made) => Some(Some(made.as_str())),
            OnNode::Decided(_) | OnNode::Nothing => Some(None),
            OnNode::Reported(_) => None,
        }),
        decided: case.on_node.as_ref().and_then(|on_node| match on_node {
            OnNode::Decided(how) => Some(how.as_str()),
            OnNode::Made(_) | OnNode::Nothing | OnNode::Reported(_) => None,
        }),
        read: case.read.as_deref(),
        reported: case.on_node.as_ref().and_then(|on_node| match on_node {
            OnNode::Reported(what) => Some(what.as_str()),
            OnNode::Made(_) | OnNode::Decided(_) | OnNode::Nothing => None,
        }),
    }
}

/// For people.
pub(crate) fn text(report: &PodReport<'_>) -> String {
    // for a pod of this node: what its ADD did, and what one would do now
    let made = report.made.or(report.reported.map(|_| None));
    let (word, color) = match (report.outcome, made) {
        (PodOutcome::Redirect, None) => ("is redirected", Color::Green),
        (PodOutcome::Redirect, Some(Some(_))) => ("was redirected", Color::Green),
        (PodOutcome::Redirect, Some(None)) => ("would be redirected", Color::Yellow),
        (PodOutcome::Skip, None) => ("is left alone", Color::Yellow),
        (PodOutcome::Skip, Some(_)) => ("would be left alone", Color::Yellow),
        (PodOutcome::Refuse, None) => ("is refused", Color::Red),
        (PodOutcome::Refuse, Some(_)) => ("would be refused", Color::Red),
    };
    let mut out = format!(
        "Pod {}/{} {}.\n",
        plain(report.namespace),
        plain(report.name),
        colored(word, color)
    );
    out += &format!(
        "  {}: {}\n",
        colored(report.reason, Color::Bold),
        plain(&report.message)
    );
    if let Some(reported) = report.reported {
        out += &format!("  On its node: {}\n", plain(reported));
    }
    match report.made {
        Some(Some(made)) => out += &format!("  On this node: {}\n", plain(made)),
        Some(None) => {
            let how = report.decided.unwrap_or("nothing was made for it");
            out += &format!("  On this node: {}\n", plain(how));
        }
        None => {}
    }
    if let Some(read) = report.read {
        out += &format!("  Read: {read}\n");
    }
    if let Some(reason) = report.refused_if_recreated {
        out += &format!("  Recreated, it would be refused: {reason}\n");
    }
    if let Some(remedy) = &report.remedy {
        out += &format!("  To do: {}\n", plain(remedy));
    }
    if report.assumed {
        out += "  Assumed: the manifest has not been through admission; it is decided as Istio's injector would make it by default.\n";
    }
    for warning in &report.warnings {
        out += &format!(
            "  {}: {}\n",
            colored("Warning", Color::Yellow),
            plain(warning)
        );
    }
    if !report.inputs.is_empty() {
        let header = [["INPUT", "VALUE", "SAID BY"].map(str::to_owned)];
        let rows = report
            .inputs
            .iter()
            .map(|i| [i.name.clone(), i.value.clone(), i.source.to_string()]);
        out += &format!(
            "\n{}",
            table(&header.into_iter().chain(rows).collect::<Vec<_>>())
        );
    }
    if !report.captures.is_empty() {
        out += &format!("\n  {}\n", report.captures.join("\n  "));
    }
    out + "\n"
}

impl PodReport<'_> {
    /// How a command that reports it ends.
    pub(crate) fn exit(&self) -> Exit {
        match self.outcome {
            PodOutcome::Redirect => Exit::Done,
            PodOutcome::Skip => Exit::Skipped,
            PodOutcome::Refuse => Exit::Refused,
        }
    }
}

/// The families that a pod's eth0 has or will have, as far as is known.
pub(crate) fn network(pod: &Pod) -> PodNetwork {
    let ips: Vec<IpNet> = pod
        .status
        .pod_ips
        .iter()
        .filter_map(|ip| Some(ip.ip.parse::<std::net::IpAddr>().ok()?.into()))
        .collect();
    let ipv6 = ips.iter().any(|ip| matches!(ip, IpNet::V6(_)));
    let ipv4 = ips.iter().any(|ip| matches!(ip, IpNet::V4(_)));
    PodNetwork::of_eth0(ipv4 || ips.is_empty(), ipv6)
}
