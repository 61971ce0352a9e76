//! Follows the objects of a kind: a list, then a watch, repeatedly.

use futures_util::StreamExt;
use kube::{
    Api, Client,
    core::ApiResource,
    runtime::watcher::{self, Event, ListSemantic, watcher},
};
use tokio::sync::mpsc::unbounded_channel;
use tracing::{info, warn};

use super::{
    Failure,
    accepted::reporting,
    object::Object,
    pauses::{Cause, Pauses},
};

/// How long a watch may last, in seconds, drawn at random: agents that started together must not reopen their watches together.
const WATCH: std::ops::RangeInclusive<u32> = 200..=290;

#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
/// What a watch reports.
pub(crate) enum WatchUpdate {
    Event(Event<Object>),
    /// The API server has accepted it. It continues from what was reported before.
    Watching,
    /// It broke and is retried: what it reported before may be outdated.
    Failed,
    /// The API server does not know the kind.
    NotServed,
}

/// A kind of the API.
pub(crate) fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
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

/// How objects are listed and watched: `resourceVersion=0` without a limit, as kubelet lists its pods. That is answered from the API server's
/// memory, pods by its index of nodes. With a limit kube leaves the version out, and older API servers read all pods of the cluster from
/// etcd. Memory may lag behind: whoever reads the cache compares UIDs.
fn config(selector: Option<String>) -> watcher::Config {
    watcher::Config {
        field_selector: selector,
        list_semantic: ListSemantic::Any,
        page_size: None,
        timeout: Some(fastrand::u32(WATCH)),
        ..watcher::Config::default()
    }
}

/// Follows the objects of a kind until it is canceled: those of the first of these field selectors that the API server supports, or all if
/// there are none. A failed list or watch is retried after a growing pause. Only a completed list resets the pause, or ten minutes without a
/// failure: the watcher announces each list before it asks for it, also one that then fails. A watch of a kind that is gone begins again with
/// a list. A failure is logged when it begins or changes, and its end when a list has succeeded.
pub(crate) async fn follow(
    client: Client,
    kind: &ApiResource,
    selectors: &[String],
    each: &mut (dyn FnMut(WatchUpdate) + Send),
) {
    // a watch that resumes after a failure sends nothing until something changes
    let (accepted, mut watches) = unbounded_channel();
    let api = Api::<Object>::all_with(reporting(client, accepted), kind);
    let mut selectors = selectors.iter();
    let follow =
        |selector: Option<&String>| Box::pin(watcher(api.clone(), config(selector.cloned())));
    let mut selector = selectors.next();
    let mut events = follow(selector);
    let mut pauses = Pauses::new();
    let mut failure: Option<String> = None;
    // the next list comes after a watch of a kind that is gone, and says nothing of the next watch
    let mut is_doubted = false;
    loop {
        let event = tokio::select! {
            Some(()) = watches.recv() => {
                each(WatchUpdate::Watching);
                continue;
            }
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        let (error, cause) = match event {
            Ok(event) => {
                if matches!(event, Event::InitDone) && !std::mem::take(&mut is_doubted) {
                    pauses = Pauses::new();
                    if failure.take().is_some() {
                        info!("watching {}: the list succeeded again", kind.plural);
                    }
                }
                each(WatchUpdate::Event(event));
                continue;
            }
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if status.code == 404 =>
            {
                each(WatchUpdate::NotServed);
                is_doubted = false; // it is gone: the next list that succeeds has it again
                ("the cluster does not know them".to_owned(), Cause::Unserved)
            }
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if status.code == 400 && selectors.len() > 0 =>
            {
                info!("watching {}: {}", kind.plural, status.message);
                selector = selectors.next();
                events = follow(selector);
                continue;
            }
            // a list says whether the kind is gone; the watcher itself would only repeat the watch
            Err(watcher::Error::WatchStartFailed(kube::Error::Api(status)))
                if status.code == 404 =>
            {
                each(WatchUpdate::Failed);
                is_doubted = true;
                events = follow(selector);
                let error = "the cluster no longer knows them".to_owned();
                (error, Cause::Failed(None))
            }
            Err(error) => {
                each(WatchUpdate::Failed);
                let (what, failure) = describe(error);
                let cause = Cause::Failed(failure.retry_after());
                (format!("{what}: {failure}"), cause)
            }
        };
        if failure.as_ref() != Some(&error) {
            warn!("watching {}: {error}", kind.plural);
            failure = Some(error);
        }
        tokio::time::sleep(pauses.after_failure(cause)).await;
    }
}

/// What failed, and why.
fn describe(error: watcher::Error) -> (&'static str, Failure) {
    match error {
        watcher::Error::InitialListFailed(error) => ("the list failed", error.into()),
        watcher::Error::WatchStartFailed(error) => ("the watch did not start", error.into()),
        watcher::Error::WatchFailed(error) => ("the watch broke", error.into()),
        watcher::Error::WatchError(status) => {
            ("the watch was ended", kube::Error::Api(status).into())
        }
        watcher::Error::NoResourceVersion => (
            "the list failed",
            Failure::Answer("it has no resourceVersion".into()),
        ),
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
        super::pauses::{FIRST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE_UNSERVED},
        *,
    };
    use http::{Request, Response};
    use kube::client::Body;
    use tokio::time::Instant;

    const POD_LIST: &str =
        r#"{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}"#;

    /// Status and body of the answer to the nth request, by what it asks for.
    type Answer = fn(usize, &str) -> (u16, &'static str);

    /// Follows pods for a while of virtual time. The API server answers the nth request with this status and body. Gives when each request
    /// came, and what it asked for.
    async fn requests(seconds: u64, answer: Answer) -> Vec<(Duration, String)> {
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
        let kind = kind("", "v1", "Pod", "pods");
        let selectors = ["spec.nodeName=n1,narrow", "spec.nodeName=n1"].map(str::to_owned);
        let client = Client::new(server, "default");
        tokio::time::timeout(
            Duration::from_secs(seconds),
            follow(client, &kind, &selectors, &mut |_| {}),
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

    /// Pauses are drawn at random: the average time of each request over this many runs.
    async fn mean_gaps(seconds: u64, answer: Answer) -> Vec<f64> {
        const RUNS: usize = 60;
        let mut sums = Vec::new();
        for _ in 0..RUNS {
            for (n, gap) in gaps(&requests(seconds, answer).await)
                .into_iter()
                .enumerate()
            {
                sums.resize(sums.len().max(n + 1), (0.0, 0));
                let (sum, count): &mut (f64, usize) = &mut sums[n];
                (*sum, *count) = (*sum + gap.as_secs_f64(), *count + 1);
            }
        }
        let whole = sums.iter().take_while(|(_, count)| *count == RUNS);
        whole.map(|(sum, _)| sum / RUNS as f64).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn failed_lists_are_retried_after_pauses_that_double() {
        let answers: [(Answer, Duration); 4] = [
            (|_, _| (429, "Too many requests"), LONGEST_PAUSE),
            (|_, _| (403, "{}"), LONGEST_PAUSE),
            (|_, _| (500, ""), LONGEST_PAUSE),
            (|_, _| (404, "404 page not found"), LONGEST_PAUSE_UNSERVED),
        ];
        for (answer, longest) in answers {
            let means = mean_gaps(1800, answer).await;
            assert!(means.len() >= 8, "{means:?}");
            for (n, mean) in means.into_iter().enumerate() {
                let most = longest.min(FIRST_PAUSE * (1 << n.min(12))).as_secs_f64();
                let expected = 0.3 * most..0.7 * most + 0.1;
                assert!(expected.contains(&mean), "pause {n} is {mean} s of {most}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_the_api_server_asks_to_wait_is_waited() {
        const STATUS: &str = r#"{"kind":"Status","code":429,"details":{"retryAfterSeconds":20}}"#;
        let answer = |n: usize, _: &str| if n == 0 { (429, STATUS) } else { (500, "") };
        let first = gaps(&requests(100, answer).await)[0];
        let asked = Duration::from_secs(20);
        assert!(
            asked <= first && first <= asked + FIRST_PAUSE * 2,
            "{first:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_completed_list_resets_the_pause() {
        // six failed lists, one that succeeds, a watch that cannot be started, twice
        let answer = |n: usize, uri: &str| match (uri.contains("watch=true"), n) {
            (false, 6) => (200, POD_LIST),
            (false, _) => (429, "Too many requests"),
            (true, _) => (500, ""),
        };
        let means = mean_gaps(400, answer).await;
        assert!(means[5] > 4.0, "{means:?}");
        assert!(means[6] < 0.01, "the watch follows the list: {means:?}");
        assert!(means[7] < 0.5 && means[8] < 1.0, "{means:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_of_a_kind_that_is_gone_begins_again_with_a_list() {
        const GONE: (u16, &str) = (404, "404 page not found");
        let gone = |n: usize, _: &str| if n == 0 { (200, POD_LIST) } else { GONE };
        let requests_then = requests(60, gone).await;
        let is_watch = |n: usize| requests_then[n].1.contains("watch=true");
        assert!(
            is_watch(1) && !is_watch(2) && !is_watch(3),
            "{requests_then:?}"
        );
        // once the kind is back, the first failure is a first one
        let back: Answer = |n, uri| match (n, uri.contains("watch=true")) {
            (0 | 8.., false) => (200, POD_LIST),
            (0..8, _) => GONE,
            (_, true) => (500, ""),
        };
        let means = mean_gaps(600, back).await;
        assert!(means[7] > 4.0 && means[8] < 0.01, "{means:?}");
        assert!(means[9] < 0.5, "the pause begins again: {means:?}");
        // where only watches fail so, lists do not hurry them
        let unwatched: Answer = |_, uri| match uri.contains("watch=true") {
            true => GONE,
            false => (200, POD_LIST),
        };
        let count = requests(600, unwatched).await.len();
        assert!((8..=80).contains(&count), "{count}");
    }

    #[tokio::test(start_paused = true)]
    async fn not_all_agents_end_their_watches_at_the_same_time() {
        let mut asked = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let answer = |_: usize, uri: &str| match uri.contains("watch=true") {
                true => (500, ""),
                false => (200, POD_LIST),
            };
            let requests = requests(1, answer).await;
            let watch = requests.iter().find(|(_, uri)| uri.contains("watch=true"));
            let uri = watch.unwrap().1.clone();
            let (_, timeout) = uri.split_once("timeoutSeconds=").unwrap();
            asked.insert(timeout.split('&').next().unwrap().parse::<u32>().unwrap());
        }
        assert!(asked.len() > 10 && asked.iter().all(|seconds| WATCH.contains(seconds)));
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_listed_from_the_memory_of_the_api_server() {
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
            list.contains("resourceVersion=0")
                && list.contains("fieldSelector=spec.nodeName%3Dn1%2Cnarrow"),
            "{list}"
        );
        assert!(!list.contains("limit="), "{list}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsupported_field_selector_is_replaced_by_the_next() {
        let answer =
            |_: usize, uri: &str| match (uri.contains("narrow"), uri.contains("watch=true")) {
                (true, _) => (
                    400,
                    r#"{"kind":"Status","code":400,"message":"field label not supported"}"#,
                ),
                (false, false) => (200, POD_LIST),
                (false, true) => (500, ""),
            };
        let requests = requests(5, answer).await;
        let narrow = requests.iter().filter(|(_, uri)| uri.contains("narrow"));
        assert_eq!(narrow.count(), 1, "{requests:?}");
        assert_eq!(requests[1].0, Duration::ZERO, "at once");
        // the last one is not given up
        let always: Answer = |_, _| (400, r#"{"kind":"Status","code":400}"#);
        let count = super::tests::requests(100, always).await.len();
        assert!((4..=40).contains(&count), "{count}");
    }
}
