//! For how long this replica is known to hold the Lease. It writes only meanwhile.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::coordination::v1;
use kube::{Client, Error, client::Body};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tower_service::Service;

/// For how long it counts as held after a renewal was sent. Others wait for [`super::leader::DURATION`], by clocks that may be ahead of
/// ours; and what was written last may still be on its way.
const HELD: Duration = Duration::from_secs(10);
/// For a request about the Lease and its whole answer: one that comes later is worth nothing.
const ANSWER: Duration = Duration::from_secs(4);

/// What is known of the Lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// Since when this replica has led without a gap.
    since: watch::Sender<Option<Instant>>,
    /// When the last request was sent after whose answer the Lease was ours.
    renewed: Mutex<Option<Instant>>,
}

impl Lease {
    pub(super) fn new() -> Self {
        Self {
            since: watch::Sender::new(None),
            renewed: Mutex::default(),
        }
    }

    /// How long it is known to be held from now on; zero: nothing may be written.
    pub(super) fn left(&self) -> Duration {
        let held = self.since.borrow().and(self.renewed());
        held.map_or(Duration::ZERO, |renewed| {
            (renewed + HELD).saturating_duration_since(Instant::now())
        })
    }

    /// For how long this replica has led, and so has reached the API server.
    pub(super) fn led_for(&self) -> Duration {
        self.since
            .borrow()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Tells of each time at which this replica begins or ceases to lead.
    pub(super) fn changes(&self) -> watch::Receiver<Option<Instant>> {
        self.since.subscribe()
    }

    /// Takes in whether this replica leads; whether that is a change.
    pub(super) fn set(&self, leads: bool) -> bool {
        self.since.send_if_modified(|since| {
            let is_change = since.is_some() != leads;
            if is_change {
                *since = leads.then(Instant::now);
            }
            is_change
        })
    }

    #[cfg(test)]
    pub(super) fn renew_now(&self) {
        self.note_answer(Instant::now(), true);
    }

    fn renewed(&self) -> Option<Instant> {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the answer to a request that was sent at this time. After a gap the time of leading starts again.
    fn note_answer(&self, sent: Instant, is_ours: bool) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        // until the answer came nothing was written, and what waits must be woken
        let is_gap = renewed.is_none_or(|before| before + HELD <= Instant::now());
        *renewed = is_ours.then_some(sent);
        drop(renewed);
        self.since.send_if_modified(|since| {
            let restarts = is_ours && is_gap && since.is_some();
            if restarts {
                *since = Some(Instant::now());
            }
            restarts
        });
    }
}

/// The client for requests about the Lease: each has a deadline, and its answer says whether this replica holds the Lease.
pub(super) fn client(client: Client, identity: &str, lease: &Arc<Lease>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let heard = LeaseObserver {
        client,
        identity: identity.into(),
        lease: lease.clone(),
    };
    Client::new(heard, namespace)
}

struct LeaseObserver {
    client: Client,
    identity: Arc<str>,
    lease: Arc<Lease>,
}

impl Service<Request<Body>> for LeaseObserver {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, identity, lease) = (
            self.client.clone(),
            self.identity.clone(),
            self.lease.clone(),
        );
        Box::pin(async move {
            let (sent, is_write) = (Instant::now(), request.method() == Method::PATCH);
            let answered = async {
                let (head, body) = client.send(request).await?.into_parts();
                Ok::<_, Error>((head, body.collect().await?.to_bytes()))
            };
            let (head, body) = timeout(ANSWER, answered)
                .await
                .unwrap_or_else(|_| Err(Error::Service("no answer in time".into())))?;
            if head.status.is_success() {
                let said = serde_json::from_slice::<v1::Lease>(&body).unwrap_or_default();
                let holder = said.spec.and_then(|spec| spec.holder_identity);
                let is_ours = holder.as_deref() == Some(&*identity);
                // that it is ours says nothing of for how long, unless we have just renewed it
                if is_write || !is_ours {
                    lease.note_answer(sent, is_ours);
                }
            }
            Ok(Response::from_parts(head, Body::from(body.to_vec())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_held_only_as_long_as_a_renewal_says() {
        let lease = Lease::new();
        let seconds = Duration::from_secs;
        assert!(lease.set(true) && lease.left().is_zero(), "not renewed yet");
        lease.note_answer(Instant::now(), true);
        assert_eq!(lease.left(), HELD);
        tokio::time::advance(seconds(6)).await;
        assert_eq!(lease.left(), seconds(4));
        lease.note_answer(Instant::now() - seconds(2), true);
        assert_eq!((lease.left(), lease.led_for()), (seconds(8), seconds(6)));
        tokio::time::advance(seconds(9)).await;
        assert!(lease.left().is_zero(), "nothing was heard");
        // it was held throughout, but nothing was known of the cluster
        let mut changes = lease.changes();
        changes.mark_unchanged();
        tokio::time::advance(seconds(5)).await;
        lease.note_answer(Instant::now(), true);
        assert_eq!((lease.left(), lease.led_for()), (HELD, seconds(0)));
        assert!(changes.has_changed().unwrap(), "what waits is woken");
        lease.note_answer(Instant::now(), false);
        assert!(lease.left().is_zero(), "another replica's");
        lease.note_answer(Instant::now(), true);
        assert!(!lease.set(true) && lease.set(false) && lease.left().is_zero());
    }
}
