use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::cache::Size;

/// What the agent counts, in the form that Prometheus reads.
pub(super) struct Metrics {
    registry: Registry,
    add_seconds: Family<Phase, Histogram>,
    decisions: Family<Reason, Counter>,
    look_ups: Family<Source, Counter>,
    api_errors: Family<What, Counter>,
    cached_pods: Gauge<i64, AtomicI64>,
    cached_namespaces: Gauge<i64, AtomicI64>,
    audited: Family<Outcome, Gauge>,
    audits: Counter,
    repairs: Family<Result, Counter>,
    token_left: Gauge<i64, AtomicI64>,
    host_token_left: Gauge<i64, AtomicI64>,
    installs: Family<Installed, Counter>,
    events: Family<Result, Counter>,
    unreported: Counter<u64, AtomicU64>,
}

/// The labels of each family.
macro_rules! labels {
    ($($family:ident { $($label:ident: $type:ty),* })*) => {
        $(#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $family { $($label: $type),* })*
    };
}

labels! {
    Phase { phase: &'static str }
    Reason { reason: &'static str }
    Source { source: &'static str }
    What { verb: &'static str }
    Outcome { outcome: &'static str }
    Result { result: &'static str }
    Installed { what: &'static str, result: &'static str }
}

/// Upper bounds of ADD's phases in seconds: an ADD takes a millisecond, one that waits up to a minute.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0, 15.0, 60.0,
];

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("mesh_optin");
        macro_rules! register {
            ($name:ident, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register(stringify!($name), $help, metric.clone());
                metric
            }};
        }
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let add_seconds = register!(
            add_seconds,
            "How long ADDs took, by phase",
            Family::new_with_constructor(histogram)
        );
        Self {
            add_seconds,
            decisions: register!(
                decisions,
                "What ADDs ended with, by reason",
                Family::default()
            ),
            look_ups: register!(
                look_ups,
                "Pods that were answered for: from the cache, after waiting for the watch, by the API",
                Family::default()
            ),
            api_errors: register!(
                api_errors,
                "Requests that the API server did not answer well",
                Family::default()
            ),
            cached_pods: register!(
                cached_pods,
                "Pods of this node that are known",
                Gauge::default()
            ),
            cached_namespaces: register!(
                cached_namespaces,
                "Namespaces of this node's pods that are known",
                Gauge::default()
            ),
            audited: register!(
                audited_pods,
                "Redirected pods at the last audit, by what was found, and those that bypass",
                Family::default()
            ),
            audits: register!(audits, "Audits of the whole node", Counter::default()),
            repairs: register!(
                repairs,
                "Redirections that had changed and were repaired",
                Family::default()
            ),
            token_left: register!(
                token_seconds_left,
                "For how long the agent's token is still valid",
                Gauge::default()
            ),
            host_token_left: register!(
                host_token_seconds_left,
                "For how long the host's token is still valid",
                Gauge::default()
            ),
            installs: register!(installs, "What was put onto the node", Family::default()),
            events: register!(events, "Events on pods", Family::default()),
            unreported: register!(
                unreported,
                "ADDs that were answered for and never told what came of it",
                Counter::default()
            ),
            registry,
        }
    }

    /// All of it as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear(); // a String takes all that is written
        }
        text
    }

    pub(super) fn added(&self, reason: crate::reason::Reason, look_up: Duration, apply: Duration) {
        self.decisions
            .get_or_create(&Reason {
                reason: reason.as_str(),
            })
            .inc();
        self.add_seconds
            .get_or_create(&Phase { phase: "look_up" })
            .observe(look_up.as_secs_f64());
        self.add_seconds
            .get_or_create(&Phase { phase: "apply" })
            .observe(apply.as_secs_f64());
    }

    /// A look-up that was refused.
    pub(super) fn refused(&self, reason: crate::reason::Reason) {
        self.decisions
            .get_or_create(&Reason {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// A pod that was answered for, and from where.
    pub(super) fn looked_up(&self, source: &'static str) {
        self.look_ups.get_or_create(&Source { source }).inc();
    }

    pub(super) fn api_error(&self, verb: &'static str) {
        self.api_errors.get_or_create(&What { verb }).inc();
    }

    pub(super) fn cached(&self, size: Size) {
        self.cached_pods.set(size.pods as i64);
        self.cached_namespaces.set(size.namespaces as i64);
    }

    /// How many pods an audit found in each state.
    pub(super) fn audited<'a>(&self, counts: impl IntoIterator<Item = (&'static str, &'a usize)>) {
        for (outcome, count) in counts {
            self.audited
                .get_or_create(&Outcome { outcome })
                .set(*count as i64);
        }
        self.audits.inc();
    }

    pub(super) fn repaired(&self, worked: bool) {
        self.repairs
            .get_or_create(&Result {
                result: result(worked),
            })
            .inc();
    }

    pub(super) fn token_left(&self, seconds: Option<i64>) {
        self.token_left.set(seconds.unwrap_or_default());
    }

    pub(super) fn host_token_left(&self, seconds: i64) {
        self.host_token_left.set(seconds);
    }

    pub(super) fn installed(&self, what: &'static str, worked: bool) {
        self.installs
            .get_or_create(&Installed {
                what,
                result: result(worked),
            })
            .inc();
    }

    pub(super) fn event(&self, result: &'static str) {
        self.events.get_or_create(&Result { result }).inc();
    }

    pub(super) fn unreported(&self) {
        self.unreported.inc();
    }
}

fn result(worked: bool) -> &'static str {
    if worked { "ok" } else { "failed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_by_its_documented_name() {
        let metrics = Metrics::new();
        metrics.added(
            crate::reason::Reason::Redirected,
            Duration::from_micros(300),
            Duration::from_millis(1),
        );
        metrics.looked_up("cache");
        metrics.audited([("drifted", &2)]);
        let text = metrics.text();
        for line in [
            r#"mesh_optin_decisions_total{reason="Redirected"} 1"#,
            r#"mesh_optin_add_seconds_bucket{le="0.0005",phase="look_up"} 1"#,
            r#"mesh_optin_look_ups_total{source="cache"} 1"#,
            r#"mesh_optin_audited_pods{outcome="drifted"} 2"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
