//! Writes the MeshNode of this node, the agent's report. Writes are few, however many nodes there are: soon after something has
//! changed, and otherwise at long intervals as a sign of life.

mod pace;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tracing::{info, warn};

use self::pace::{LEAST, Pace};
use super::{
    conditions::Since,
    counts::{PodState, Wrong},
    health::Audited,
    shared::Agent,
};
use crate::{
    cluster::{Cause, Failure, Pauses},
    multus::Multus,
    node::Installed,
    profile::{
        BackendPolicy, VERSION,
        mesh_node::{
            MOST_OF_NAMESPACE, MOST_PROBLEMS, MOST_PROFILES, MultusStatus, NodeCondition,
            NodeStatus, PodCounts, Problem, ProfileInUse,
        },
    },
    redirection::Verdict,
};

const API_VERSION: &str = "meshoptin.dev/v1alpha1";
const PATH: &str = "/apis/meshoptin.dev/v1alpha1/meshnodes";
/// How often changes are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Reports until it is canceled.
pub(super) async fn report(agent: &Arc<Agent>) {
    let (mut pace, mut since, mut pauses) = (Pace::new(), Since::default(), Pauses::new());
    let (mut is_made, mut failing) = (false, None::<String>);
    loop {
        tokio::time::sleep(LOOK).await;
        let status = status(agent, &mut since).await;
        if !pace.is_due(&status) {
            continue;
        }
        let written = async {
            if !is_made {
                make(agent).await?;
            }
            write(agent, &status).await
        };
        match written.await {
            Ok(()) => {
                is_made = true;
                pauses = Pauses::new();
                pace.written(status);
                if failing.take().is_some() {
                    info!("the MeshNode can be written again");
                }
            }
            Err(failure) => {
                is_made = false; // it may have been deleted
                let cause = if matches!(failure, Failure::Status { code: 404, .. }) {
                    Cause::Unserved
                } else {
                    Cause::Failed(failure.retry_after())
                };
                let failure = failure.to_string();
                if failing.as_ref() != Some(&failure) {
                    warn!("the MeshNode cannot be written: {failure}");
                    failing = Some(failure);
                }
                tokio::time::sleep(pauses.after_failure(cause).max(LEAST)).await;
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a NodeStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<OwnerReference>,
}

/// The owner reference to the Node, so that the object is deleted with it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    uid: String,
}

/// Creates the object, or makes sure that its Node owns it.
async fn make(agent: &Agent) -> Result<(), Failure> {
    let owner = agent.cluster.node().map(|(name, uid)| OwnerReference {
        api_version: "v1",
        kind: "Node",
        name,
        uid,
    });
    let object = Object {
        api_version: API_VERSION,
        kind: "MeshNode",
        metadata: Metadata {
            name: &agent.node,
            owner_references: owner.into_iter().collect(),
        },
        status: None,
    };
    let path = format!("{PATH}/{}", agent.node);
    agent.cluster.apply(&path, &object).await
}

async fn write(agent: &Agent, status: &NodeStatus) -> Result<(), Failure> {
    let object = Object {
        api_version: API_VERSION,
        kind: "MeshNode",
        metadata: Metadata {
            name: &agent.node,
            owner_references: Vec::new(),
        },
        status: Some(status),
    };
    let path = format!("{PATH}/{}/status", agent.node);
    agent.cluster.apply(&path, &object).await
}

/// The current report.
async fn status(agent: &Arc<Agent>, since: &mut Since) -> NodeStatus {
    let found = agent.health.findings().multus.clone();
    let bin_dir = agent.installer.args().cni_bin_dir.clone();
    let from_files = move || {
        let installed = Installed::load().ok().flatten();
        let multus = found.map(|multus| status_of(multus, &bin_dir));
        (installed, multus.unwrap_or_default())
    };
    let read = tokio::task::spawn_blocking(from_files).await;
    let (installed, multus) = read.unwrap_or_default();
    let conditions = agent.health.conditions().into_iter().map(|condition| {
        let since = since.of(&condition);
        NodeCondition {
            kind: condition.kind.to_string(),
            status: condition.status.to_string(),
            reason: condition.reason.to_owned(),
            message: condition.message,
            last_transition_time: time(since),
        }
    });
    let Audited { counts, at, .. } = agent.health.last_audit().clone();
    let of = |state| counts.of(state);
    NodeStatus {
        version: VERSION.into(),
        program_version: installed.map(|i| i.version).unwrap_or_default(),
        kernel: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default(),
        backend: agent
            .health
            .findings()
            .backend
            .map(BackendPolicy::as_str)
            .unwrap_or_default()
            .to_owned(),
        multus,
        conditions: conditions.collect(),
        pods: at.map(|_| PodCounts {
            redirected: of(PodState::Redirection(Verdict::Consistent)) + of(PodState::Repaired),
            drifted: of(PodState::Redirection(Verdict::Drifted)),
            preempted: of(PodState::Redirection(Verdict::Preempted)),
            outdated: of(PodState::Redirection(Verdict::Outdated)),
            bypassing: of(PodState::Redirection(Verdict::Bypassing)),
            sidecar_missing: of(PodState::SidecarMissing),
            opted_out: of(PodState::OptedOut),
            policy_changed: counts.policy_changed,
            unaudited: of(PodState::Unaudited),
        }),
        last_audit: at.map(time),
        last_heard: agent.metrics.last_heard().map(time),
        last_report: Some(time(Timestamp::now())),
        profiles: counts
            .profiles
            .iter()
            .take(MOST_PROFILES)
            .map(|(name, version)| ProfileInUse {
                name: name.clone(),
                resource_version: version.clone(),
            })
            .collect(),
        problems: problems(&counts.wrong),
        problems_total: at.map(|_| counts.wrong.len()),
    }
    .within_bounds()
}

fn status_of(multus: Multus, cni_bin_dir: &Path) -> MultusStatus {
    let path = |path: Option<PathBuf>| path.map(|p| p.display().to_string()).unwrap_or_default();
    MultusStatus {
        mode: multus.mode.to_string(),
        version: multus.version(cni_bin_dir),
        bin_dir: path(multus.bin_dir),
        conf_dir: path(multus.conf_dir),
    }
}

/// As many problems as are shown, the worst first.
fn problems(all: &[Wrong]) -> Vec<Problem> {
    let mut shown = Vec::<Problem>::new();
    for Wrong { what, about, since } in all {
        let of_namespace = shown.iter().filter(|p| p.namespace == about.namespace);
        if shown.len() < MOST_PROBLEMS && of_namespace.count() < MOST_OF_NAMESPACE {
            shown.push(Problem {
                namespace: about.namespace.clone(),
                pod: about.name.clone(),
                reason: what.as_str().to_owned(),
                since: time(*since),
            });
        }
    }
    shown
}

/// As the API writes times.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::counts::ProblemKind, telemetry::PodKey};

    #[test]
    fn no_namespace_hides_the_problems_of_others() {
        let wrong = |namespace: &str, n: usize| Wrong {
            what: ProblemKind::Drifted,
            about: PodKey {
                namespace: namespace.into(),
                name: format!("p{n}"),
                uid: format!("{namespace}{n}"),
            },
            since: Timestamp::UNIX_EPOCH,
        };
        let mut all: Vec<_> = (0..100).map(|n| wrong("loud", n)).collect();
        all.extend((0..40).map(|n| wrong(&format!("n{n}"), 0)));
        let shown = problems(&all);
        assert_eq!(shown.len(), MOST_PROBLEMS);
        let loud = shown.iter().filter(|p| p.namespace == "loud").count();
        assert_eq!(loud, MOST_OF_NAMESPACE);
        assert_eq!(shown[0].since, "1970-01-01T00:00:00Z");
    }
}
