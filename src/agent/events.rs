//! Events on pods: few, and each once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

use super::{cluster::Cluster, metrics::Metrics};
use crate::reason::{Explanation, Reason};

/// What waits to be sent; what comes above it is dropped, and counted.
const WAITING: usize = 512;
/// The same of a pod is not told again before.
const AGAIN: Duration = Duration::from_secs(600);
/// Between two events: at most 20 a second.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest note that the API takes, in bytes.
const LONGEST: usize = 1024;

/// Whose event it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct About {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// Where events are handed in; it never waits.
#[derive(Clone)]
pub(super) struct Events(Sender<Told>);

struct Told {
    about: About,
    explanation: Explanation,
}

impl Events {
    pub(super) fn new() -> (Self, Queue) {
        let (send, receive) = channel(WAITING);
        (Self(send), Queue(receive))
    }

    pub(super) fn tell(&self, about: About, explanation: Explanation, metrics: &Metrics) {
        if self.0.try_send(Told { about, explanation }).is_err() {
            metrics.event("dropped");
        }
    }
}

/// What was handed in.
pub(super) struct Queue(Receiver<Told>);

impl Queue {
    /// Sends it on, for ever.
    pub(super) async fn send(mut self, cluster: &Cluster, node: &str, metrics: &Metrics) {
        let mut told: HashMap<(About, Reason, String), Instant> = HashMap::new();
        while let Some(Told { about, explanation }) = self.0.recv().await {
            told.retain(|_, at| at.elapsed() < AGAIN);
            let key = (about.clone(), explanation.reason, explanation.cause.clone());
            if told.contains_key(&key) {
                continue;
            }
            let path = format!(
                "/apis/events.k8s.io/v1/namespaces/{}/events",
                about.namespace
            );
            match cluster
                .post(&path, &event(&about, &explanation, node))
                .await
            {
                Ok(IgnoredAny) => {
                    told.insert(key, Instant::now());
                    metrics.event("sent");
                }
                Err(error) => {
                    metrics.event("failed");
                    metrics.api_error("create");
                    warn!(
                        namespace = about.namespace,
                        name = about.name,
                        "the event {explanation} cannot be sent: {error:?}"
                    );
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn event(about: &About, explanation: &Explanation, node: &str) -> Value {
    let now = jiff::Timestamp::now();
    let is_normal = matches!(
        explanation.reason,
        Reason::Redirected | Reason::AlreadyRedirected
    );
    let text = explanation.to_string();
    let end = (0..=LONGEST.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    let About {
        namespace,
        name,
        uid,
    } = about;
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": format!("{name:.200}.{:x}", now.as_nanosecond()), "namespace": namespace},
        "eventTime": format!("{now:.6}"),
        "action": "Redirect",
        "reason": explanation.reason.as_str(),
        "note": text[..end],
        "type": if is_normal { "Normal" } else { "Warning" },
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid},
        "reportingController": "mesh-optin",
        "reportingInstance": node,
    })
}
