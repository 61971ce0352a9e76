//! Whether this node's pods still are what their ADDs made of them. One pod after the other, spread over the period: little at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{Agent, bypass, events::About};
use crate::{
    deadline::Deadline,
    kernel::Netns,
    mesh::DriftPolicy,
    node::attachments::{self, Record},
    reason::{Explanation, Reason},
    redirection::{repair, verify},
    words::words,
};

/// For what is left of pods that are gone.
const SWEEP: Duration = Duration::from_secs(1);
/// For one pod.
const LOOK: Duration = Duration::from_secs(10);
/// Longest pause between two pods, so that few pods are looked at soon after each other.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

words! {
    /// What was found of a redirected pod.
    enum State("state of a redirected pod") {
        Consistent = "consistent",
        Drifted = "drifted",
        Repaired = "repaired",
        Outdated = "outdated",
        Preempted = "preempted",
        Bypassing = "bypassing",
        Gone = "gone",
        Failed = "failed",
    }
}

/// Audits the node again and again, for ever.
pub(super) async fn audit(agent: Arc<Agent>, period: Duration) {
    // the UIDs of pods that were reported already
    let mut known = HashSet::new();
    loop {
        let started = Instant::now();
        let records = tokio::task::spawn_blocking(records)
            .await
            .unwrap_or_default();
        let pause = (period / (records.len() as u32 + 1)).min(LONGEST_PAUSE);
        let mut counts: BTreeMap<&'static str, usize> =
            State::ALL.iter().map(|s| (s.as_str(), 0)).collect();
        let mut alive = HashSet::new();
        for record in records {
            let (of_agent, uid) = (agent.clone(), record.uid.clone());
            let state = tokio::task::spawn_blocking(move || look(&of_agent, &record))
                .await
                .unwrap_or(State::Failed);
            *counts.entry(state.as_str()).or_default() += 1;
            if state != State::Gone {
                alive.insert(uid);
            }
            tokio::time::sleep(pause).await;
        }
        let of_agent = agent.clone();
        let judge = move || {
            let judged = bypass::look(&of_agent, &alive, &mut known);
            (judged, known)
        };
        let judged;
        (judged, known) = tokio::task::spawn_blocking(judge).await.unwrap_or_default();
        for (state, count) in [
            ("bypassing", judged.bypassing.len()),
            ("opted-out", judged.opted_out),
            ("sidecar-missing", judged.sidecar_missing),
            ("policy-changed", judged.policy_changed),
        ] {
            *counts.entry(state).or_default() += count;
        }
        counts.insert(
            "unreadable",
            tokio::task::spawn_blocking(attachments::unreadable)
                .await
                .unwrap_or_default(),
        );
        agent.audited(judged.bypassing);
        agent
            .metrics
            .audited(counts.iter().map(|(outcome, count)| (*outcome, count)));
        tokio::time::sleep(period.saturating_sub(started.elapsed()).max(LONGEST_PAUSE)).await;
    }
}

/// The records of redirections. Version 0.1.0 wrote one for each attachment.
fn records() -> Vec<Record> {
    attachments::sweep(Deadline::after(SWEEP));
    let mut seen = BTreeSet::new();
    attachments::all()
        .into_iter()
        .filter(|r| r.done && seen.insert(r.netns_cookie))
        .collect()
}

/// Looks at one, tells what is wrong, and puts it right where the profile says so.
fn look(agent: &Agent, record: &Record) -> State {
    // it was read when the audit began
    let now = attachments::get(&record.container_id).ok().flatten();
    let now = now.filter(|now| now.done && now.netns_cookie == record.netns_cookie);
    let record = now.as_ref().unwrap_or(record);
    let netns = match opened(record) {
        Ok(Some(netns)) => netns,
        Ok(None) => {
            attachments::remove(&record.container_id);
            return State::Gone;
        }
        Err(error) => return failed(record, &error),
    };
    let found = match verify(record, &netns, Deadline::after(LOOK)) {
        Ok(found) => found,
        // it may have ended meanwhile
        Err(_) if matches!(opened(record), Ok(None)) => return State::Gone,
        Err(error) => return failed(record, &error),
    };
    let state = match found.wrong() {
        None => return State::Consistent,
        Some(Reason::Outdated) => State::Outdated,
        Some(Reason::Preempted) => State::Preempted,
        Some(Reason::Bypassing) => State::Bypassing,
        Some(_) => State::Drifted,
    };
    let about = About {
        namespace: record.namespace.clone(),
        name: record.pod.clone(),
        uid: record.uid.clone(),
    };
    let tell = |explanation: Explanation| {
        warn!(
            namespace = record.namespace,
            name = record.pod,
            reason = explanation.reason.as_str(),
            "{explanation}"
        );
        agent
            .events
            .tell(about.clone(), explanation, &agent.metrics);
    };
    let repairs = || {
        agent
            .profiles
            .named(&record.profile)
            .is_some_and(|p| p.spec.drift == DriftPolicy::Repair)
    };
    if state != State::Drifted || !repairs() {
        found.told().into_iter().for_each(tell);
        return state;
    }
    let repaired = repair(record, &netns, Deadline::after(LOOK));
    let is_right = repaired
        .as_ref()
        .is_ok_and(|found| found.differences.is_empty());
    agent.metrics.repaired(is_right);
    let told = found.told().unwrap_or_else(|| Reason::Drifted.into());
    tell(told.remedy(match &repaired {
        Ok(_) if is_right => "none: it was repaired".to_owned(),
        Ok(_) => "it could not be repaired: delete the pod so that it is recreated".to_owned(),
        Err(error) => {
            format!("it could not be repaired ({error}): delete the pod so that it is recreated")
        }
    }));
    if is_right {
        State::Repaired
    } else {
        State::Drifted
    }
}

/// The record's network namespace; `None` where it is gone, or its path leads to another.
fn opened(record: &Record) -> Result<Option<Netns>, Explanation> {
    if !record.netns.exists() {
        return Ok(None);
    }
    let netns = Netns::open(Path::new(&record.netns))?;
    let is_it = netns.cookie()? == record.netns_cookie;
    Ok(is_it.then_some(netns))
}

fn failed(record: &Record, error: &Explanation) -> State {
    warn!(
        namespace = record.namespace,
        name = record.pod,
        reason = error.reason.as_str(),
        "the redirection could not be looked at: {error}"
    );
    State::Failed
}
