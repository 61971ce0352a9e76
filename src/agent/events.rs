//! Events on pods: few, and each once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

use super::metrics::Metrics;
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
    pub(super) async fn send(mut self, client: Client, node: String, metrics: &Metrics) {
        let mut told: HashMap<(About, Reason, String), Instant> = HashMap::new();
        while let Some(Told { about, explanation }) = self.0.recv().await {
            told.retain(|_, at| at.elapsed() < AGAIN);
            let key = (about.clone(), explanation.reason, explanation.cause.clone());
            if told.contains_key(&key) {
                continue;
            }
            let events: Api<Event> = Api::namespaced(client.clone(), &about.namespace);
            match events.create(&PostParams::default(), &event(&about, &explanation, &node)).await {
                Ok(_) => {
                    told.insert(key, Instant::now());
                    metrics.event("sent");
                }
                Err(error) => {
                    metrics.event("failed");
                    metrics.api_error("create");
                    warn!(namespace = about.namespace, name = about.name, "the event {explanation} cannot be sent: {error}");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn event(about: &About, explanation: &Explanation, node: &str) -> Event {
    let now = jiff::Timestamp::now();
    let is_normal = matches!(explanation.reason, Reason::Redirected | Reason::AlreadyRedirected);
    let text = explanation.to_string();
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", about.name, now.as_nanosecond())),
            namespace: Some(about.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Redirect".into()),
        event_time: Some(MicroTime(now)),
        note: Some(text[..end].to_owned()),
        reason: Some(explanation.reason.to_string()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(about.name.clone()),
            namespace: Some(about.namespace.clone()),
            uid: Some(about.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("mesh-optin".into()),
        reporting_instance: Some(node.to_owned()),
        type_: Some(if is_normal { "Normal" } else { "Warning" }.into()),
        ..Event::default()
    }
}
