//! What is counted.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::difference::AttachmentState;
use crate::telemetry::{TextFormat, of_program};

/// All of it.
pub(super) struct Metrics {
    registry: Registry,
    pub(super) leader: Gauge,
    pub(super) suspended_profiles: Gauge,
    reconcile_duration: Histogram,
    attachments: Family<OfState, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

/// A pass that changes nothing takes milliseconds, one over a whole cluster seconds.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0];

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("mesh_optin");
        let (leader, suspended_profiles) = (Gauge::default(), Gauge::default());
        let reconcile_duration = Histogram::new(SECONDS);
        let attachments = Family::<OfState, Gauge>::default();
        for state in AttachmentState::ALL {
            drop(attachments.get_or_create(&OfState {
                state: state.as_str(),
            }));
        }
        registry.register(
            "controller_leader",
            "Whether this replica leads",
            leader.clone(),
        );
        registry.register(
            "controller_suspended_profiles",
            "MeshProfiles that are suspended",
            suspended_profiles.clone(),
        );
        registry.register(
            "controller_reconcile_duration_seconds",
            "How long a look at the whole cluster took, with what was written",
            reconcile_duration.clone(),
        );
        registry.register(
            "attachments",
            "NetworkAttachmentDefinitions that MeshProfiles want, or wanted, by state",
            attachments.clone(),
        );
        Self {
            registry,
            leader,
            suspended_profiles,
            reconcile_duration,
            attachments,
        }
    }

    pub(super) fn reconciled(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    pub(super) fn attachments<'a>(
        &self,
        states: impl Iterator<Item = &'a AttachmentState> + Clone,
    ) {
        for state in AttachmentState::ALL {
            let count = states.clone().filter(|s| **s == state).count();
            let gauge = self.attachments.get_or_create(&OfState {
                state: state.as_str(),
            });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Renders all metrics.
    pub(super) fn text(&self, form: TextFormat) -> String {
        of_program(&self.registry, form)
    }
}
