//! Audits this node's pods: whether each is still what its ADD was meant to create. One pod after the other, spread over the audit
//! period.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::warn;

use super::{Agent, bypass};
use crate::{
    deadline::Deadline,
    node::attachments::{self, Processes, Record},
    profile::DriftPolicy,
    reason::{Explanation, Reason},
    redirection::{Located, Verdict, locate, repair, verify},
    telemetry::About,
};

/// For what is left of pods that are gone.
const SWEEP: Duration = Duration::from_secs(1);
/// For one pod.
const LOOK: Duration = Duration::from_secs(10);
/// Longest pause between two pods, so that few pods are looked at soon after each other.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What was found of a pod of the mesh. Each is in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PodState {
    /// Of its redirection; also of one that has none where it should have one.
    Redirection(Verdict),
    /// It had drifted.
    Repaired,
    /// Injected, left alone by its own word, and not redirected.
    OptedOut,
    /// Of the mesh, without a sidecar.
    SidecarMissing,
    /// What it is could not be told.
    Unaudited,
}

impl PodState {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Repaired,
            Self::OptedOut,
            Self::SidecarMissing,
            Self::Unaudited,
        ];
        Verdict::ALL
            .map(Self::Redirection)
            .into_iter()
            .chain(others)
    }

    /// As the metric has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Redirection(verdict) => verdict.as_str(),
            Self::Repaired => "repaired",
            Self::OptedOut => "opted-out",
            Self::SidecarMissing => "sidecar-missing",
            Self::Unaudited => "unaudited",
        }
    }
}

/// What an audit of the whole node has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Pods in each state.
    states: BTreeMap<PodState, usize>,
    /// Pods that run by policy that has changed: recreated, they would be refused. They are in a state as well.
    pub(super) policy_changed: usize,
    pub(super) unreadable_records: usize,
    /// Pods that are not as they should be.
    pub(super) wrong: Vec<Wrong>,
    /// The profiles by which pods are decided: names and versions.
    pub(super) profiles: BTreeSet<(String, String)>,
}

/// What is wrong with a pod, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ProblemKind {
    Bypassing,
    Drifted,
    Preempted,
    Unaudited,
    SidecarMissing,
    PolicyChanged,
}

impl ProblemKind {
    /// As an Event has it, where there is one.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bypassing => Reason::Bypassing.as_str(),
            Self::Drifted => Reason::Drifted.as_str(),
            Self::Preempted => Reason::Preempted.as_str(),
            Self::Unaudited => "Unaudited",
            Self::SidecarMissing => Reason::SidecarMissing.as_str(),
            Self::PolicyChanged => Reason::PolicyChanged.as_str(),
        }
    }

    fn of(state: PodState) -> Option<Self> {
        match state {
            PodState::Redirection(Verdict::Bypassing) => Some(Self::Bypassing),
            PodState::Redirection(Verdict::Drifted) => Some(Self::Drifted),
            PodState::Redirection(Verdict::Preempted) => Some(Self::Preempted),
            PodState::Unaudited => Some(Self::Unaudited),
            PodState::SidecarMissing => Some(Self::SidecarMissing),
            PodState::Redirection(Verdict::Consistent | Verdict::Outdated)
            | PodState::Repaired
            | PodState::OptedOut => None,
        }
    }
}

/// A pod that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: ProblemKind,
    pub(super) about: About,
    /// The audit that saw it first.
    pub(super) since: Timestamp,
}

impl Counts {
    pub(super) fn add(&mut self, state: PodState, about: About) {
        *self.states.entry(state).or_default() += 1;
        if let Some(what) = ProblemKind::of(state) {
            self.is_wrong(what, about);
        }
    }

    pub(super) fn is_wrong(&mut self, what: ProblemKind, about: About) {
        let since = Timestamp::now();
        self.wrong.push(Wrong { what, about, since });
    }

    /// What an earlier audit saw already is so since then.
    fn since(&mut self, earlier: &Self) {
        let known: HashMap<_, _> = earlier
            .wrong
            .iter()
            .map(|wrong| ((wrong.what, &wrong.about.uid), wrong.since))
            .collect();
        for wrong in &mut self.wrong {
            let known = known.get(&(wrong.what, &wrong.about.uid));
            wrong.since = known.copied().unwrap_or(wrong.since);
        }
        self.wrong.sort_by(|a, b| {
            let by_name = |wrong: &Wrong| (wrong.about.namespace.clone(), wrong.about.name.clone());
            (a.what, by_name(a)).cmp(&(b.what, by_name(b)))
        });
    }

    pub(super) fn of(&self, state: PodState) -> usize {
        self.states.get(&state).copied().unwrap_or_default()
    }
}

/// Audits the node again and again, until canceled.
pub(super) async fn audit(agent: Arc<Agent>, period: Duration) {
    // the UIDs of pods that were reported already
    let mut known = HashSet::new();
    loop {
        let started = Instant::now();
        let records = tokio::task::spawn_blocking(records)
            .await
            .unwrap_or_default();
        let pause = (period / (records.len() as u32 + 1)).min(LONGEST_PAUSE);
        let (mut counts, mut alive) = (Counts::default(), HashSet::new());
        for record in records {
            let (of_agent, about) = (agent.clone(), about(&record));
            let state = tokio::task::spawn_blocking(move || look(&of_agent, &record))
                .await
                .unwrap_or(Some(PodState::Unaudited));
            if let Some(state) = state {
                alive.insert(about.uid.clone());
                counts.add(state, about);
            }
            tokio::time::sleep(pause).await;
        }
        let of_agent = agent.clone();
        let judge = move || {
            counts.unreadable_records = attachments::unreadable();
            let bypassing = bypass::look(&of_agent, &alive, &mut known, &mut counts);
            (bypassing, counts, known)
        };
        let (bypassing, mut counts);
        match tokio::task::spawn_blocking(judge).await {
            Ok(judged) => (bypassing, counts, known) = judged,
            Err(error) => {
                tracing::error!("auditing: {error}");
                return;
            }
        }
        counts.since(&agent.health.last_audit().counts);
        agent.metrics.audited(&counts);
        agent.health.audited(bypassing, counts);
        tokio::time::sleep(period.saturating_sub(started.elapsed()).max(LONGEST_PAUSE)).await;
    }
}

/// The records of redirections. Version 0.1.0 wrote one for each attachment.
fn records() -> Vec<Record> {
    attachments::sweep(Deadline::after(SWEEP), Processes::MayBeHidden);
    let mut seen = BTreeSet::new();
    attachments::all()
        .into_iter()
        .filter(|r| r.done && seen.insert(r.netns_cookie))
        .collect()
}

/// Looks at one, tells what is wrong, and puts it right where the profile says so. `None`: it is gone.
fn look(agent: &Agent, record: &Record) -> Option<PodState> {
    // it was read when the audit began
    let now = attachments::get(&record.container_id).ok().flatten();
    let now = now.filter(|now| now.done && now.netns_cookie == record.netns_cookie);
    let record = now.as_ref().unwrap_or(record);
    let netns = match locate(record, None, Processes::MayBeHidden) {
        Located::Alive(netns) => netns,
        Located::Gone => {
            attachments::remove(&record.container_id);
            return None;
        }
        Located::Unknown(why) => return Some(failed(record, &why)),
    };
    let is_gone = || {
        let now = locate(record, None, Processes::MayBeHidden);
        matches!(now, Located::Gone)
    };
    let found = match verify(record, &netns, Deadline::after(LOOK)) {
        Ok(found) => found,
        // it may have ended meanwhile
        Err(_) if is_gone() => return None,
        Err(error) => return Some(failed(record, &error)),
    };
    let verdict = found.verdict();
    let about = about(record);
    let tell = |explanation: Explanation| {
        warn!(
            namespace = record.namespace,
            name = record.pod,
            reason = explanation.reason.as_str(),
            "{explanation}"
        );
        agent.tell(about.clone(), explanation);
    };
    let repairs = || {
        agent
            .profiles
            .named(&record.profile)
            .is_some_and(|p| p.spec.drift == DriftPolicy::Repair)
    };
    if verdict != Verdict::Drifted || !repairs() {
        found.problem().into_iter().for_each(tell);
        return Some(PodState::Redirection(verdict));
    }
    let repaired = repair(record, &netns, Deadline::after(LOOK));
    let is_right = repaired
        .as_ref()
        .is_ok_and(|found| found.differences.is_empty());
    agent.metrics.repaired(is_right);
    let told = found.problem().unwrap_or_else(|| Reason::Drifted.into());
    tell(told.remedy(match &repaired {
        Ok(_) if is_right => "none: it was repaired".to_owned(),
        Ok(_) => "it could not be repaired: delete the pod so that it is recreated".to_owned(),
        Err(error) => {
            format!("it could not be repaired ({error}): delete the pod so that it is recreated")
        }
    }));
    Some(if is_right {
        PodState::Repaired
    } else {
        PodState::Redirection(verdict)
    })
}

fn about(record: &Record) -> About {
    About {
        namespace: record.namespace.clone(),
        name: record.pod.clone(),
        uid: record.uid.clone(),
    }
}

fn failed(record: &Record, error: &Explanation) -> PodState {
    warn!(
        namespace = record.namespace,
        name = record.pod,
        reason = error.reason.as_str(),
        "the redirection could not be looked at: {error}"
    );
    PodState::Unaudited
}
