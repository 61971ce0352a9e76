//! The metric families, their labels and their help texts.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

/// The agent's metrics.
pub(in crate::agent) struct Metrics {
    /// The metrics with the prefix `mesh_optin`.
    pub(super) own: Registry,
    pub(super) installed_version: Family<Version, Gauge>,
    pub(super) adds: Family<Add, Counter>,
    pub(super) outcomes_dropped: Counter,
    pub(super) unreported: Counter,
    pub(super) warnings: Family<ReasonLabel, Counter>,
    pub(super) add_duration: Family<Phase, Histogram>,
    pub(super) look_ups: Family<SourceLabel, Counter>,
    pub(super) cached_pods: Gauge<i64, AtomicI64>,
    pub(super) cached_namespaces: Gauge<i64, AtomicI64>,
    pub(super) audit_pods: Family<PodState, Gauge>,
    pub(super) bypassing: Family<Nothing, Gauge>,
    pub(super) unaudited: Family<Nothing, Gauge>,
    pub(super) policy_changed: Family<Nothing, Gauge>,
    pub(super) unreadable_records: Family<Nothing, Gauge>,
    pub(super) audits: Counter,
    pub(super) last_audit: Family<Nothing, Gauge>,
    pub(super) conditions: Family<OfCondition, Gauge>,
    pub(super) api_requests: Family<Request, Counter>,
    pub(super) last_heard: Family<Watch, Gauge>,
    /// When the API server was last heard, in seconds since 1970.
    pub(super) heard_at: AtomicI64,
    pub(super) token_expiry: Family<Which, Gauge>,
    pub(super) repairs: Family<ResultLabel, Counter>,
    pub(super) installs: Family<Installed, Counter>,
    pub(super) events: Family<ResultLabel, Counter>,
}

/// The labels of each family.
macro_rules! labels {
    ($($family:ident { $($label:ident: $type:ty),* })*) => {
        $(#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $family { $(pub(super) $label: $type),* })*
    };
}

/// No labels. A family without a member is not exported: before the first audit there is no number, since 0 would say that all is well.
pub(super) type Nothing = [(&'static str, &'static str); 0];

labels! {
    Version { version: String }
    Add { outcome: &'static str, reason: &'static str, source: &'static str }
    ReasonLabel { reason: &'static str }
    Phase { phase: &'static str }
    SourceLabel { source: &'static str }
    PodState { state: &'static str }
    OfCondition { r#type: &'static str, status: &'static str }
    Request { verb: &'static str, code: u16 }
    Watch { watch: String }
    Which { which: &'static str }
    ResultLabel { result: &'static str }
    Installed { what: &'static str, result: &'static str }
}

/// Upper bounds of ADD's phases in seconds: an ADD takes a millisecond, one that waits up to a minute.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0, 15.0, 60.0,
];

impl Metrics {
    pub(in crate::agent) fn new() -> Self {
        let mut own = Registry::with_prefix("mesh_optin");
        macro_rules! register {
            ($name:ident, $help:literal, $metric:expr) => {
                registered(&mut own, stringify!($name), $help, $metric)
            };
            ($name:ident, $help:literal) => {
                register!($name, $help, Default::default())
            };
        }
        let build = register!(
            build_info,
            "The version of this agent, in its label",
            Family::<Version, Gauge>::default()
        );
        let version = crate::profile::VERSION.to_owned();
        build.get_or_create(&Version { version }).set(1);
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let all = Self {
            installed_version: register!(
                installed_info,
                "The version of the program that is installed on the node, in its label"
            ),
            adds: register!(
                adds,
                "ADDs that ended, by outcome, reason, and source of the pod"
            ),
            outcomes_dropped: register!(
                outcomes_dropped,
                "ADDs that ended while no agent was running, beyond the number that is kept"
            ),
            unreported: register!(
                unreported,
                "ADDs that the agent answered and whose outcome was never reported"
            ),
            warnings: register!(warnings, "Warnings of ADDs"),
            add_duration: register!(
                add_duration_seconds,
                "How long ADDs took, by phase",
                Family::new_with_constructor(histogram)
            ),
            look_ups: register!(
                look_ups,
                "Pods that the agent looked up: in memory, after waiting for the watch, or at the API server"
            ),
            cached_pods: register!(cached_pods, "Pods of this node in memory"),
            cached_namespaces: register!(
                cached_namespaces,
                "Namespaces of this node's pods in memory"
            ),
            audit_pods: register!(
                audit_pods,
                "Pods of the mesh at the last audit, each in one state"
            ),
            bypassing: register!(
                bypassing_pods,
                "Pods that should be redirected and are not, at the last audit"
            ),
            unaudited: register!(
                unaudited_pods,
                "Pods that should be redirected and could not be audited, at the last audit"
            ),
            policy_changed: register!(
                policy_changed_pods,
                "Running pods that would be refused if they were recreated, at the last audit"
            ),
            unreadable_records: register!(
                unreadable_records,
                "Records of redirections that cannot be read, at the last audit"
            ),
            audits: register!(audits, "Audits of the whole node"),
            last_audit: register!(
                last_audit_timestamp_seconds,
                "When the last audit ended, in seconds since 1970"
            ),
            conditions: register!(
                condition,
                "1 for the status that each condition of the node has, 0 for the others"
            ),
            api_requests: register!(
                api_requests,
                "Requests to the API server, by its answer; 0 where there was none"
            ),
            last_heard: register!(
                watch_last_heard_timestamp_seconds,
                "When a watch last received anything, in seconds since 1970"
            ),
            token_expiry: register!(
                token_expiry_timestamp_seconds,
                "When the agent's and the host's token expire, in seconds since 1970"
            ),
            repairs: register!(repairs, "Repairs of redirections that had changed"),
            installs: register!(installs, "Files installed on the node"),
            events: register!(events, "Events on pods"),
            heard_at: AtomicI64::default(),
            own,
        };
        all.begin();
        all
    }
}

fn registered<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: M) -> M {
    to.register(name, help, metric.clone());
    metric
}
