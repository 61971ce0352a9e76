//! Follows the objects of a kind: a list, then a watch, again and again.

use std::pin::pin;

use futures_util::StreamExt;
use kube::{
    Api, Client,
    core::ApiResource,
    runtime::watcher::{self, Event, ListSemantic, watcher},
};
use tracing::{info, warn};

use super::{object::Object, pause::Pauses};
use crate::agent::metrics::Metrics;

/// Objects of one page of a list that is read from etcd: what is held as text at a time.
const PAGE: u32 = 20;

#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
/// What a watch gives.
pub(in crate::agent) enum Heard {
    Event(Event<Object>),
    /// It broke, and is tried again: what it gave before may be old.
    Trouble,
    /// The API server does not know the kind.
    Unknown,
}

/// A kind of the API.
pub(in crate::agent) fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version,
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// How the objects of a kind are listed and watched.
fn config(kind: &ApiResource, selector: Option<String>) -> watcher::Config {
    let config = watcher::Config {
        field_selector: selector,
        ..watcher::Config::default()
    };
    if kind.plural == "pods" {
        // `resourceVersion=0` without a limit, as kubelet lists its pods: from the API server's memory, by its index of nodes. With a
        // limit kube leaves the version out, and older API servers read the pods of the whole cluster from etcd. Memory may lag behind:
        // whoever reads the cache compares UIDs.
        watcher::Config {
            list_semantic: ListSemantic::Any,
            page_size: None,
            ..config
        }
    } else {
        watcher::Config {
            list_semantic: ListSemantic::MostRecent,
            page_size: Some(PAGE),
            ..config
        }
    }
}

/// Follows the objects of a kind that the field selector selects, until it is cancelled. A failed list or watch is tried again after a
/// growing pause. Only a completed list resets it, or five minutes without a failure: the watcher announces each list before it asks for it, also one that then
/// fails. A failure is logged when it begins or changes, and once more when a list has succeeded.
pub(in crate::agent) async fn follow(
    client: Client,
    kind: &ApiResource,
    selector: Option<String>,
    metrics: &Metrics,
    each: &mut (dyn FnMut(Heard) + Send),
) {
    let mut events = pin!(watcher(
        Api::<Object>::all_with(client, kind),
        config(kind, selector)
    ));
    let mut pauses = Pauses::new();
    let mut failure: Option<String> = None;
    while let Some(event) = events.next().await {
        let error = match event {
            Ok(event) => {
                if matches!(event, Event::InitDone) {
                    pauses = Pauses::new();
                    if failure.take().is_some() {
                        info!("watching {}: the list succeeded again", kind.plural);
                    }
                }
                each(Heard::Event(event));
                continue;
            }
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if status.code == 404 =>
            {
                each(Heard::Unknown);
                "the cluster does not know them".to_owned()
            }
            Err(error) => {
                metrics.api_error("watch");
                each(Heard::Trouble);
                error.to_string()
            }
        };
        if failure.as_ref() != Some(&error) {
            warn!("watching {}: {error}", kind.plural);
            failure = Some(error);
        }
        tokio::time::sleep(pauses.after_failure()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::{
        super::pause::{FIRST_PAUSE, LONGEST_PAUSE},
        *,
    };
    use http::{Request, Response};
    use kube::client::Body;
    use tokio::time::Instant;

    const POD_LIST: &str =
        r#"{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}"#;

    /// Follows pods for a while of virtual time. The API server answers the nth request with this status and body. Gives when each request
    /// came, and what it asked for.
    async fn requests(
        seconds: u64,
        answer: fn(usize, &str) -> (u16, &'static str),
    ) -> Vec<(Duration, String)> {
        let (started, asked) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let seen = asked.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let uri = request.uri().to_string();
            let mut asked = seen.lock().unwrap();
            let (status, body) = answer(asked.len(), &uri);
            asked.push((started.elapsed(), uri));
            std::future::ready(Ok::<_, Infallible>(
                Response::builder()
                    .status(status)
                    .body(Body::from(body.as_bytes().to_vec()))
                    .unwrap(),
            ))
        });
        let (kind, metrics) = (kind("", "v1", "Pod", "pods"), Metrics::new());
        let selector = Some("spec.nodeName=n1".to_owned());
        let client = Client::new(server, "default");
        tokio::time::timeout(
            Duration::from_secs(seconds),
            follow(client, &kind, selector, &metrics, &mut |_| {}),
        )
        .await
        .unwrap_err();
        let asked = asked.lock().unwrap();
        asked.clone()
    }

    fn gaps(requests: &[(Duration, String)]) -> Vec<Duration> {
        requests
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn failed_lists_are_tried_again_after_pauses_that_double() {
        for status in [429, 404, 403, 500] {
            let requests = match status {
                429 => requests(300, |_, _| (429, "Too many requests")).await,
                404 => requests(300, |_, _| (404, "404 page not found")).await,
                403 => requests(300, |_, _| (403, "{}")).await,
                _ => requests(300, |_, _| (500, "")).await,
            };
            for (n, gap) in gaps(&requests).into_iter().enumerate() {
                let pause = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << n.min(10)));
                assert!(
                    pause <= gap && gap <= 2 * pause + Duration::from_millis(10),
                    "{status}: pause {n} is {gap:?}"
                );
            }
            assert!(
                (8..=14).contains(&requests.len()),
                "{status}: {} lists in five minutes",
                requests.len()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_completed_list_resets_the_pause() {
        // six failed lists, one that succeeds, a watch that cannot be started, twice
        let answer = |n: usize, uri: &str| match (uri.contains("watch=true"), n) {
            (false, 6) => (200, POD_LIST),
            (false, _) => (429, "Too many requests"),
            (true, _) => (500, ""),
        };
        let gaps = gaps(&requests(200, answer).await);
        assert!(gaps[5] >= Duration::from_secs(16), "{gaps:?}");
        assert!(
            gaps[6] < Duration::from_millis(10),
            "the watch follows the list: {gaps:?}"
        );
        assert!(
            (FIRST_PAUSE..=2 * FIRST_PAUSE)
                .contains(&gaps[7].saturating_sub(Duration::from_millis(1))),
            "{gaps:?}"
        );
        assert!(gaps[8] >= 2 * FIRST_PAUSE, "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_listed_from_the_api_server_s_memory() {
        let requests = requests(5, |_, uri| {
            if uri.contains("watch=true") {
                (500, "")
            } else {
                (200, POD_LIST)
            }
        })
        .await;
        let list = &requests[0].1;
        assert!(
            list.contains("resourceVersion=0") && list.contains("fieldSelector=spec.nodeName%3Dn1"),
            "{list}"
        );
        assert!(!list.contains("limit="), "{list}");
    }
}
