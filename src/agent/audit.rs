//! Audits this node's pods: whether each is still what its ADD was meant to create. One pod after the other, spread over the audit
//! period.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    bypass,
    counts::{Counts, PodState},
    shared::Agent,
};
use crate::{
    deadline::Deadline,
    node::attachments::{self, Processes, Record},
    profile::DriftPolicy,
    reason::{Explanation, Reason},
    redirection::{Located, Verdict, locate, repair, verify},
    telemetry::PodKey,
};

/// For what is left of pods that are gone.
const SWEEP: Duration = Duration::from_secs(1);
/// For one pod.
const LOOK: Duration = Duration::from_secs(10);
/// Longest pause between two pods, so that few pods are looked at soon after each other.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
            let (of_agent, about) = (agent.clone(), key_of(&record));
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
        counts.sort_and_date(&agent.health.last_audit().counts);
        agent.metrics.set_audited(&counts);
        agent.health.set_audited(bypassing, counts);
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
        Located::Unknown(why) => return Some(report_unaudited(record, &why)),
    };
    let is_gone = || {
        let now = locate(record, None, Processes::MayBeHidden);
        matches!(now, Located::Gone)
    };
    let found = match verify(record, &netns, Deadline::after(LOOK)) {
        Ok(found) => found,
        // it may have ended meanwhile
        Err(_) if is_gone() => return None,
        Err(error) => return Some(report_unaudited(record, &error)),
    };
    let verdict = found.verdict();
    let about = key_of(record);
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
            .get(&record.profile)
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
    agent.metrics.count_repair(is_right);
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

fn key_of(record: &Record) -> PodKey {
    PodKey {
        namespace: record.namespace.clone(),
        name: record.pod.clone(),
        uid: record.uid.clone(),
    }
}

fn report_unaudited(record: &Record, error: &Explanation) -> PodState {
    warn!(
        namespace = record.namespace,
        name = record.pod,
        reason = error.reason.as_str(),
        "the redirection could not be looked at: {error}"
    );
    PodState::Unaudited
}
