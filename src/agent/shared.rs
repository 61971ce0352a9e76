//! What the agent's tasks share.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    cache::Cache, cluster::Cluster, health::Health, install::Installer, metrics::Metrics,
    namespaces::Namespaces, outcomes::Outcomes, profiles::Profiles,
};
use crate::{
    cluster::Failure,
    reason::Explanation,
    telemetry::{Delivered, Events, Journal, Observed, PodKey, TextFormat},
};

/// What the agent's parts share.
pub(super) struct Agent {
    /// This node's name.
    pub(super) node: String,
    pub(super) cache: Arc<Cache>,
    pub(super) namespaces: Arc<Namespaces<Cluster>>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) profiles: Arc<Profiles>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: Events,
    pub(super) health: Health,
    pub(super) installer: Installer,
    pub(super) outcomes: Outcomes,
}

impl Agent {
    /// Creates an Event about the current state of a pod.
    pub(super) fn tell(&self, about: PodKey, explanation: Explanation) {
        self.events.tell(about, explanation, Timestamp::now(), self);
    }
}

impl Observed for Agent {
    fn not_ready(&self) -> Option<String> {
        self.health.not_ready()
    }

    fn metrics(&self, form: TextFormat) -> String {
        self.metrics.set_cached(self.cache.size());
        self.metrics.set_conditions(&self.health.conditions());
        self.metrics.text(form)
    }
}

impl Journal for Agent {
    async fn create(&self, namespace: &str, event: &Value) -> Result<(), Failure> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let created = self.cluster.post(&path, event).await;
        created.map(|IgnoredAny| ())
    }

    fn count(&self, delivered: Delivered) {
        self.metrics.count_event(delivered);
    }
}
