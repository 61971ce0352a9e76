//! Notices when the API server accepts a watch, which kube does not report.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use kube::{Client, Error, client::Body};
use tokio::sync::mpsc::UnboundedSender;
use tower_service::Service;

/// A client that reports each watch that the API server accepts.
pub(super) fn reporting(client: Client, accepted: UnboundedSender<()>) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Reporting { client, accepted }, namespace)
}

struct Reporting {
    client: Client,
    accepted: UnboundedSender<()>,
}

impl Service<Request<Body>> for Reporting {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(())) // sending waits for the client
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query();
        let is_watch = query.is_some_and(|query| query.contains("watch=true"));
        let (client, accepted) = (self.client.clone(), self.accepted.clone());
        Box::pin(async move {
            let answer = client.send(request).await?;
            if is_watch && answer.status().is_success() {
                accepted.send(()).ok(); // else nobody follows any more
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::stream::{Pending, pending};
    use http_body_util::{Either, Full, StreamBody};
    use hyper::body::{Bytes, Frame};
    use kube::runtime::watcher::Event;

    use super::{
        super::follow::{WatchUpdate, follow, kind},
        *,
    };

    /// A watch that says nothing.
    type Silence = StreamBody<Pending<Result<Frame<Bytes>, Infallible>>>;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_resumes_after_a_failure_is_reported() {
        const LIST: &str =
            r#"{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}"#;
        let asked = AtomicUsize::default();
        let server = tower::service_fn(move |request: Request<Body>| {
            let is_watch = request.uri().to_string().contains("watch=true");
            let (status, body) = match (is_watch, asked.fetch_add(1, Ordering::Relaxed)) {
                (false, _) => (200, Either::Left(Full::from(LIST))),
                (true, 1) => (500, Either::Left(Full::default())),
                (true, _) => (200, Either::Right(Silence::new(pending()))),
            };
            let answer = Response::builder().status(status).body(body);
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        let (client, pods) = (
            Client::new(server, "default"),
            kind("", "v1", "Pod", "pods"),
        );
        let mut all = Vec::new();
        let mut each = |heard| match heard {
            WatchUpdate::Event(Event::InitDone) => all.push("listed"),
            WatchUpdate::Event(_) => {}
            WatchUpdate::Watching => all.push("watching"),
            WatchUpdate::Failed => all.push("failed"),
            WatchUpdate::NotServed => all.push("not served"),
        };
        let following = follow(client, &pods, &[], &mut each);
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, following).await.is_err());
        assert_eq!(all, ["listed", "failed", "watching"]);
    }
}
