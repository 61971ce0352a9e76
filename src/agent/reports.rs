//! How ADDs ended, as plugins report it: each outcome is counted, logged and, if someone should know, reported as an Event. Outcomes from
//! while no agent was running are read from files.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use tracing::{info, warn};

use super::{metrics::End, shared::Agent};
use crate::{
    node::{SourceKind, outcomes},
    reason::Explanation,
    source::wire::{self, Ask, Outcome, Question},
    telemetry::PodKey,
};

/// How often files of outcomes are looked for.
const LOOK: Duration = Duration::from_secs(15);

/// Collects outcomes that were kept while no agent was running, until it is canceled.
pub(super) async fn collect(agent: &Agent) {
    loop {
        let taken = tokio::task::spawn_blocking(outcomes::take).await;
        let (lines, dropped) = taken.unwrap_or_default();
        agent.metrics.count_dropped(dropped);
        if dropped > 0 {
            warn!(
                dropped,
                "more ADDs ended while no agent listened than are kept"
            );
        }
        for line in lines {
            match serde_json::from_str(&line) {
                Ok(Question {
                    version,
                    ask: Ask::Report(outcome),
                }) if wire::is_spoken(version) => take(agent, *outcome),
                Ok(_) | Err(_) => agent.metrics.count_dropped(1),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Handles the outcome of an ADD.
pub(super) fn take(agent: &Agent, outcome: Outcome) {
    agent.outcomes.remember(outcome.clone());
    let Outcome {
        at,
        namespace,
        name,
        uid,
        source,
        report,
    } = outcome;
    agent.health.was_called.store(true, Ordering::Relaxed);
    let explanation = Explanation::from(report.outcome);
    let end = match (report.refused, explanation.reason.is_redirected()) {
        (true, _) => End::Refused,
        (false, true) => End::Redirected,
        (false, false) => End::Skipped,
    };
    let Agent {
        metrics, profiles, ..
    } = agent;
    metrics.count_add(end, explanation.reason, source);
    metrics.observe_durations(report.look_up, report.apply);
    let warnings: Vec<_> = report.warnings.into_iter().map(Explanation::from).collect();
    warnings
        .iter()
        .for_each(|w| metrics.count_warning(w.reason));
    info!(
        namespace,
        name,
        uid = uid.as_deref().unwrap_or_default(),
        %at,
        outcome = end.as_str(),
        reason = explanation.reason.as_str(),
        profile = report.profile,
        profile_version = profiles.version(&report.profile).unwrap_or_default(),
        source = source.map_or("none", SourceKind::as_str),
        look_up_micros = report.look_up.as_micros() as u64,
        apply_micros = report.apply.as_micros() as u64,
        "{explanation}"
    );
    // an Event needs a UID: names are reused
    let Some(uid) = uid.filter(|uid| !uid.is_empty()) else {
        return;
    };
    let about = PodKey {
        namespace,
        name,
        uid,
    };
    let is_reported = match end {
        End::Refused => true,
        End::Redirected => explanation.reason.is_news(),
        End::Skipped => false,
    };
    let mut told = BTreeSet::new();
    let explanation = is_reported.then_some(explanation);
    for explanation in warnings.into_iter().chain(explanation) {
        if told.insert(explanation.reason) {
            agent.events.tell(about.clone(), explanation, at, agent);
        }
    }
}
