mod report;

use std::path::{Path, PathBuf};

use self::report::{PodReport, VerifyOutcome, text};
use super::root::Root;
use crate::{
    deadline::Deadline,
    kernel::Netns,
    node::{
        Installed, NodeConfig,
        attachments::{self, Processes, Record},
        paths,
    },
    reason::{Explanation, Reason},
    redirection::{Findings, Located, Verdict, locate, verify},
    source::{bypassing, wire::Bypassing},
    terminal::{CommandFailure, Exit, Format, complain, print, print_json},
};

/// Arguments of `verify`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    root: Root,
    /// The pod's namespace, needed if several namespaces have a pod of that name
    #[arg(short, long, requires = "pod")]
    namespace: Option<String>,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// What to verify.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// A pod of this node
    pod: Option<String>,
    /// The path of a network namespace, such as /run/netns/cni-...
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Every redirected pod of this node and, if the agent is running, every pod that should be redirected and is not
    #[arg(long)]
    all: bool,
}

/// Compares live redirections with what their ADDs were meant to create. Changes nothing.
pub(super) fn run(args: &Args) -> Result<Exit, CommandFailure> {
    args.root.enter()?;
    let deadline = || Deadline::after(NodeConfig::load().unwrap_or_default().deadline);
    let mut reports: Vec<_> = args
        .records()?
        .iter()
        .map(|record| report_of(record, args.which.netns.as_ref(), deadline()))
        .collect();
    if args.which.all {
        let bypassing = bypassing(deadline()).map_err(|e| CommandFailure::failed(e.to_string()))?;
        if bypassing.is_none() {
            complain("the agent is not running: pods that bypass the mesh were not looked for");
        }
        reports.extend(bypassing.unwrap_or_default().into_iter().map(bypasses));
    }
    match args.output {
        Format::Json => print_json(&reports)?,
        Format::Text if reports.is_empty() => print("No pod of this node is redirected.\n"),
        Format::Text => reports.iter().for_each(|report| print(&text(report))),
    }
    match attachments::unreadable() {
        unreadable if unreadable > 0 && args.which.all => Err(CommandFailure::failed(format!(
            "{unreadable} of the records in {} cannot be read",
            paths::ATTACHMENTS
        ))),
        _ => Ok(Exit::worst(
            reports.iter().map(|report| report.outcome.exit()),
        )),
    }
}

impl Args {
    /// One for each network namespace: two attachments of a pod are one redirection.
    fn records(&self) -> Result<Vec<Record>, CommandFailure> {
        if !nix::unistd::geteuid().is_root() {
            return Err(CommandFailure::failed(
                "verify looks into pods of this node: run it as root",
            ));
        }
        if self.which.all {
            ensure_something_to_look_at()?;
        }
        let mut records: Vec<Record> = attachments::all().into_iter().filter(|r| r.done).collect();
        let mut seen = std::collections::BTreeSet::new();
        records.retain(|r| seen.insert(r.netns_cookie));
        if let Some(path) = &self.which.netns {
            let cookie = Netns::open(path)
                .and_then(|n| Ok(n.cookie()?))
                .map_err(|e| CommandFailure::failed(e.to_string()))?;
            records.retain(|r| r.netns_cookie == cookie);
        }
        if let Some(pod) = &self.which.pod {
            records.retain(|r| {
                r.pod == *pod && self.namespace.as_ref().is_none_or(|n| *n == r.namespace)
            });
            let namespaces: std::collections::BTreeSet<_> =
                records.iter().map(|r| r.namespace.as_str()).collect();
            if namespaces.len() > 1 {
                let namespaces: Vec<_> = namespaces.into_iter().collect();
                return Err(CommandFailure::usage(format!(
                    "pods of namespaces {} have this name: give --namespace",
                    namespaces.join(", ")
                )));
            }
        }
        if records.is_empty() && !self.which.all {
            let what = "nothing on this node says that it was redirected: see `mesh-optin explain` for whether it should be";
            return Err(CommandFailure::failed(what));
        }
        Ok(records)
    }
}

/// Fails if an empty result would not mean that no pod is redirected.
fn ensure_something_to_look_at() -> Result<(), CommandFailure> {
    let installed = Installed::load().map_err(|e| CommandFailure::failed(e.to_string()))?;
    if installed.is_none() && !Path::new(paths::RUN).exists() {
        let (run, file) = (paths::RUN, paths::INSTALLED);
        let what =
            format!("nothing of mesh-optin is installed here: neither {run} nor {file} exists");
        return Err(CommandFailure::failed(format!(
            "{what}; run it on the node or in the agent's container, or give the node's root directory with --root"
        )));
    }
    attachments::ensure_listable().map_err(|e| CommandFailure::failed(e.to_string()))
}

fn report_of(record: &Record, netns: Option<&PathBuf>, deadline: Deadline) -> PodReport {
    let report = |outcome, explanation: Option<&Explanation>, findings: Findings| PodReport {
        namespace: record.namespace.clone(),
        name: record.pod.clone(),
        netns: netns.unwrap_or(&record.netns).clone(),
        backend: Some(record.backend),
        outcome,
        reason: explanation.map(|e| e.reason.as_str()),
        message: explanation.map(ToString::to_string),
        differences: findings.differences,
        in_front: findings.in_front,
    };
    let nothing = || Findings {
        differences: vec![],
        in_front: vec![],
        bypassed: vec![],
        outdated: false,
    };
    let looked = match locate(record, netns.map(PathBuf::as_path), Processes::Seen) {
        Located::Gone => Ok(None),
        Located::Unknown(why) => Err(why),
        Located::Alive(netns) => verify(record, &netns, deadline).map(Some),
    };
    match looked {
        Err(failure) => report(VerifyOutcome::Failed, Some(&failure), nothing()),
        Ok(None) => report(VerifyOutcome::Gone, None, nothing()),
        Ok(Some(found)) => {
            let verdict = found.verdict();
            let why = match verdict {
                Verdict::Bypassing => found.problem(),
                // the differences follow
                Verdict::Consistent | Verdict::Outdated | Verdict::Drifted | Verdict::Preempted => {
                    verdict.reason().map(Into::into)
                }
            };
            report(VerifyOutcome::Found(verdict), why.as_ref(), found)
        }
    }
}

fn bypasses(pod: Bypassing) -> PodReport {
    let explanation = Explanation::from(Reason::Bypassing);
    PodReport {
        namespace: pod.namespace,
        name: pod.name,
        netns: pod.netns,
        backend: None,
        outcome: VerifyOutcome::Found(Verdict::Bypassing),
        reason: Some(explanation.reason.as_str()),
        message: Some(explanation.to_string()),
        differences: vec![],
        in_front: vec![],
    }
}
