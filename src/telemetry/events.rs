//! Events on pods: few, and each reported once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

use crate::{
    cluster::Failure,
    reason::{Explanation, Reason},
    words::words,
};

/// Most Events that wait to be sent; further ones are dropped and counted.
const WAITING: usize = 512;
/// How long an Event may wait; an older one is not sent.
const STALE: Duration = Duration::from_secs(300);
/// How long the same Event of a pod is not sent again.
const AGAIN: Duration = Duration::from_secs(600);
/// The pause between two Events: at most 20 a second.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest note that the API accepts, in bytes.
const LONGEST: usize = 1024;

/// The pod that an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PodKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The sending end of the queue of Events; it never blocks.
pub(crate) struct Events {
    wanted: WantedEvents,
    queue: Sender<PendingEvent>,
}

words! {
    /// Which Events are created.
    pub(crate) enum WantedEvents("kind of events") {
        All = "all",
        Warnings = "warnings",
        None = "none",
    }
}

words! {
    /// The result of sending an Event.
    pub(crate) enum Delivered("result of sending an event") {
        Sent = "sent",
        Failed = "failed",
        /// The queue was full.
        Dropped = "dropped",
        /// It waited for too long.
        Stale = "stale",
    }
}

/// Creates Events, and counts the results.
pub(crate) trait Journal: Sync {
    /// Creates an Event in a namespace.
    fn create(
        &self,
        namespace: &str,
        event: &Value,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Counts an Event with this result.
    fn count(&self, delivered: Delivered);
}

struct PendingEvent {
    about: PodKey,
    explanation: Explanation,
    /// When it happened.
    at: Timestamp,
}

impl Events {
    pub(crate) fn new(wanted: WantedEvents) -> (Self, Queue) {
        let (queue, receive) = channel(WAITING);
        (Self { wanted, queue }, Queue(receive))
    }

    /// Queues an Event about something that happened at that time.
    pub(crate) fn tell(
        &self,
        about: PodKey,
        explanation: Explanation,
        at: Timestamp,
        journal: &impl Journal,
    ) {
        let is_wanted = match self.wanted {
            WantedEvents::All => true,
            WantedEvents::Warnings => !explanation.reason.is_redirected(),
            WantedEvents::None => false,
        };
        let pending = PendingEvent {
            about,
            explanation,
            at,
        };
        if is_wanted && self.queue.try_send(pending).is_err() {
            journal.count(Delivered::Dropped);
        }
    }
}

/// The receiving end of the queue.
pub(crate) struct Queue(Receiver<PendingEvent>);

impl Queue {
    /// Sends Events until it is canceled.
    pub(crate) async fn send(mut self, journal: &impl Journal, node: &str) {
        let mut sent: HashMap<(PodKey, Reason), Instant> = HashMap::new();
        while let Some(PendingEvent {
            about,
            explanation,
            at,
        }) = self.0.recv().await
        {
            sent.retain(|_, at| at.elapsed() < AGAIN);
            // a cause may contain a duration, and so differ each time
            let key = (about.clone(), explanation.reason);
            if sent.contains_key(&key) {
                continue;
            }
            let age = Timestamp::now().duration_since(at);
            if Duration::try_from(age).is_ok_and(|age| age > STALE) {
                journal.count(Delivered::Stale);
                continue;
            }
            let event = event(&about, &explanation, at, node);
            match journal.create(&about.namespace, &event).await {
                Ok(()) => {
                    sent.insert(key, Instant::now());
                    journal.count(Delivered::Sent);
                }
                Err(error) => {
                    journal.count(Delivered::Failed);
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

fn event(about: &PodKey, explanation: &Explanation, at: Timestamp, node: &str) -> Value {
    let text = explanation.to_string();
    let end = (0..=LONGEST.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    let PodKey {
        namespace,
        name,
        uid,
    } = about;
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": event_name(name, at), "namespace": namespace},
        "eventTime": format!("{at:.6}"),
        "action": "Redirect",
        "reason": explanation.reason.as_str(),
        "note": text[..end],
        "type": if explanation.reason.is_redirected() { "Normal" } else { "Warning" },
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid},
        "reportingController": "mesh-optin",
        "reportingInstance": node,
    })
}

/// A unique name that the API server accepts: no part of a name ends with a dash or a dot.
fn event_name(pod: &str, at: Timestamp) -> String {
    let pod = format!("{pod:.200}");
    let pod = pod.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let unique = fastrand::u16(..);
    format!("{pod}.{:x}{unique:04x}", at.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_name_of_an_event_is_valid_for_the_api_server() {
        let at = Timestamp::from_second(1).unwrap();
        for pod in [
            "web-0".to_owned(),
            format!("{}-{}", "a".repeat(199), "b".repeat(50)),
        ] {
            let name = event_name(&pod, at);
            let parts: Vec<_> = name.split('.').collect();
            assert!(
                name.len() <= 253
                    && parts
                        .iter()
                        .all(|p| p.ends_with(|c: char| c.is_ascii_alphanumeric())),
                "{name}"
            );
        }
    }

    /// Keeps what is created, after this number of failures.
    #[derive(Default)]
    struct Kept {
        failing: AtomicUsize,
        created: Mutex<Vec<String>>,
        counted: Mutex<Vec<Delivered>>,
    }

    impl Journal for Kept {
        async fn create(&self, namespace: &str, event: &Value) -> Result<(), Failure> {
            let less = |n: usize| n.checked_sub(1);
            if self.failing.fetch_update(Relaxed, Relaxed, less).is_ok() {
                return Err(Failure::Timeout);
            }
            let created = format!("{namespace} {}", event["reason"].as_str().unwrap());
            self.created.lock().unwrap().push(created);
            Ok(())
        }

        fn count(&self, delivered: Delivered) {
            self.counted.lock().unwrap().push(delivered);
        }
    }

    fn pod(name: &str) -> PodKey {
        PodKey {
            namespace: "a".into(),
            name: name.into(),
            uid: "u".into(),
        }
    }

    #[test]
    fn unwanted_events_are_not_sent() {
        let now = Timestamp::now();
        for (wanted, queued) in [
            (WantedEvents::All, 2),
            (WantedEvents::Warnings, 1),
            (WantedEvents::None, 0),
        ] {
            let (events, queue) = Events::new(wanted);
            let kept = Kept::default();
            events.tell(pod("a"), Reason::Redirected.into(), now, &kept);
            events.tell(pod("b"), Reason::Drifted.into(), now, &kept);
            assert_eq!(queue.0.len(), queued, "{wanted}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_event_is_sent_once_and_failed_or_stale_ones_are_counted() {
        use Delivered::{Dropped, Failed, Sent, Stale};
        let (now, long_ago) = (
            Timestamp::now(),
            Timestamp::now() - SignedDuration::from_secs(301),
        );
        let (events, queue) = Events::new(WantedEvents::All);
        let kept = Kept {
            failing: 1.into(),
            ..Kept::default()
        };
        let tell = |name, reason: Reason, at| events.tell(pod(name), reason.into(), at, &kept);
        tell("a", Reason::Drifted, now); // fails
        tell("a", Reason::Drifted, now);
        tell("a", Reason::Drifted, now); // the same
        tell("a", Reason::Bypassing, now);
        tell("b", Reason::Drifted, long_ago);
        for _ in 5..=WAITING {
            tell("c", Reason::Drifted, now);
        }
        drop(events);
        queue.send(&kept, "n").await;
        assert_eq!(
            *kept.created.lock().unwrap(),
            ["a Drifted", "a Bypassing", "a Drifted"]
        );
        assert_eq!(
            *kept.counted.lock().unwrap(),
            [Dropped, Failed, Sent, Sent, Stale, Sent]
        );
    }
}
