//! The agent's metrics, in Prometheus's formats. Counters exist from the start, as 0, so that the first event of a kind shows as a
//! step.

mod families;

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;

pub(super) use self::families::Metrics;
use self::families::{
    Add, Installed, OfCondition, Phase, PodState, ReasonLabel, Request, ResultLabel, SourceLabel,
    Version, Watch, Which,
};
use super::{
    cache::Size,
    conditions::{self, Condition},
    counts::{Counts, PodState as Audited},
};
use crate::{
    cluster::{Asked, Observer},
    node::SourceKind,
    reason::Reason,
    redirection::Verdict,
    telemetry::{Delivered, TextFormat, of_program},
    words::words,
};

words! {
    /// How an ADD ended.
    pub(super) enum End("outcome") {
        Redirected = "redirected",
        Skipped = "skipped",
        Refused = "refused",
    }
}

const RESULTS: [&str; 2] = ["ok", "failed"];

impl Metrics {
    /// Creates the counters that alerts use.
    fn begin(&self) {
        for reason in Reason::ALL {
            let warning = reason.as_str();
            drop(
                self.warnings
                    .get_or_create(&ReasonLabel { reason: warning }),
            );
            if !reason.ends_an_add() {
                continue;
            }
            let by_agent = Some(SourceKind::Agent);
            let ends: &[(End, Option<SourceKind>)] = if reason.is_redirected() {
                &[(End::Redirected, by_agent)]
            } else {
                &[(End::Refused, None), (End::Refused, by_agent)]
            };
            for (end, source) in ends {
                self.add(*end, *reason, *source);
            }
            self.add(End::Skipped, *reason, by_agent);
        }
        for what in ["program", "conf", "token"] {
            for result in RESULTS {
                drop(self.installs.get_or_create(&Installed { what, result }));
            }
        }
        for result in RESULTS {
            drop(self.repairs.get_or_create(&ResultLabel { result }));
        }
        for delivered in Delivered::ALL {
            let result = delivered.as_str();
            drop(self.events.get_or_create(&ResultLabel { result }));
        }
    }

    /// Renders all metrics.
    pub(super) fn text(&self, form: TextFormat) -> String {
        of_program(&self.own, form)
    }

    fn add(&self, end: End, reason: Reason, source: Option<SourceKind>) -> Counter {
        let add = Add {
            outcome: end.as_str(),
            reason: reason.as_str(),
            source: source.map_or("none", SourceKind::as_str),
        };
        self.adds.get_or_create(&add).clone()
    }

    /// An ADD has ended.
    pub(super) fn count_add(&self, end: End, reason: Reason, source: Option<SourceKind>) {
        self.add(end, reason, source).inc();
    }

    /// An ADD took this long.
    pub(super) fn observe_durations(&self, look_up: Duration, apply: Duration) {
        for (phase, took) in [("look_up", look_up), ("apply", apply)] {
            let phase = self.add_duration.get_or_create(&Phase { phase });
            phase.observe(took.as_secs_f64());
        }
    }

    /// An ADD ended with a warning.
    pub(super) fn count_warning(&self, reason: Reason) {
        let reason = reason.as_str();
        self.warnings.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// This number of outcomes was lost.
    pub(super) fn count_dropped(&self, outcomes: u64) {
        self.outcomes_dropped.inc_by(outcomes);
    }

    pub(super) fn count_unreported(&self) {
        self.unreported.inc();
    }

    /// A plugin was answered from this source.
    pub(super) fn count_look_up(&self, source: &'static str) {
        self.look_ups.get_or_create(&SourceLabel { source }).inc();
    }

    pub(super) fn set_cached(&self, size: Size) {
        self.cached_pods.set(size.pods as i64);
        self.cached_namespaces.set(size.namespaces as i64);
    }

    /// What an audit of the whole node has found.
    pub(super) fn set_audited(&self, found: &Counts) {
        for state in Audited::all() {
            let pods = self.audit_pods.get_or_create(&PodState {
                state: state.as_str(),
            });
            pods.set(found.of(state) as i64);
        }
        for (gauge, value) in [
            (
                &self.bypassing,
                found.of(Audited::Redirection(Verdict::Bypassing)) as i64,
            ),
            (&self.unaudited, found.of(Audited::Unaudited) as i64),
            (&self.policy_changed, found.policy_changed as i64),
            (&self.unreadable_records, found.unreadable_records as i64),
            (&self.last_audit, Timestamp::now().as_second()),
        ] {
            gauge.get_or_create(&[]).set(value);
        }
        self.audits.inc();
    }

    pub(super) fn count_repair(&self, worked: bool) {
        let result = result(worked);
        self.repairs.get_or_create(&ResultLabel { result }).inc();
    }

    /// The node's conditions as they are now.
    pub(super) fn set_conditions(&self, conditions: &[Condition]) {
        for Condition { kind, status, .. } in conditions {
            for each in conditions::ConditionStatus::ALL {
                let labels = OfCondition {
                    r#type: kind.as_str(),
                    status: each.as_str(),
                };
                let is_it = i64::from(each == *status);
                self.conditions.get_or_create(&labels).set(is_it);
            }
        }
    }

    /// Which version of the program is installed on the node.
    pub(super) fn set_installed_version(&self, version: &str) {
        self.installed_version.clear();
        let version = version.to_owned();
        self.installed_version
            .get_or_create(&Version { version })
            .set(1);
    }

    /// When a token expires; there is no number where there is no token, or it does not say.
    pub(super) fn token_expires(&self, which: &'static str, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                let seconds = self.token_expiry.get_or_create(&Which { which });
                seconds.set(at.as_second());
            }
            None => drop(self.token_expiry.remove(&Which { which })),
        }
    }

    pub(super) fn count_install(&self, what: &'static str, worked: bool) {
        let result = result(worked);
        self.installs
            .get_or_create(&Installed { what, result })
            .inc();
    }

    pub(super) fn count_event(&self, delivered: Delivered) {
        let result = delivered.as_str();
        self.events.get_or_create(&ResultLabel { result }).inc();
    }

    /// When the API server was last heard.
    pub(super) fn last_heard(&self) -> Option<Timestamp> {
        let at = self.heard_at.load(Ordering::Relaxed);
        Timestamp::from_second(at).ok().filter(|_| at > 0)
    }
}

impl Observer for Metrics {
    fn count_answer(&self, asked: &Asked, code: u16) {
        let verb = asked.verb;
        self.api_requests
            .get_or_create(&Request { verb, code })
            .inc();
        if code != 0 {
            let now = Timestamp::now().as_second();
            self.heard_at.store(now, Ordering::Relaxed);
        }
    }

    fn note_event(&self, asked: &Asked) {
        let (watch, now) = (asked.resource.clone(), Timestamp::now().as_second());
        self.last_heard.get_or_create(&Watch { watch }).set(now);
        self.heard_at.store(now, Ordering::Relaxed);
    }
}

fn result(worked: bool) -> &'static str {
    if worked { "ok" } else { "failed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_audit_its_gauges_are_absent_and_counters_are_0() {
        let metrics = Metrics::new();
        let text = metrics.text(TextFormat::Prometheus);
        let has = |text: &str, line: &str| text.lines().any(|l| l == line);
        assert!(!text.contains("\nmesh_optin_bypassing_pods"), "{text}");
        assert!(!text.contains("\nmesh_optin_last_audit_timestamp_seconds"));
        let refused =
            r#"mesh_optin_adds_total{outcome="refused",reason="Preempted",source="agent"} 0"#;
        assert!(has(&text, refused), "{text}");
        metrics.set_audited(&Counts::default());
        let text = metrics.text(TextFormat::Prometheus);
        assert!(has(&text, "mesh_optin_bypassing_pods 0"), "{text}");
        assert!(
            has(&text, r#"mesh_optin_audit_pods{state="unaudited"} 0"#),
            "{text}"
        );
    }
}
