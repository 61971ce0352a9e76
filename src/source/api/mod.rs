//! The API server, asked with a credential: GET pod, GET namespace, one connection.

mod client;
mod credential;
mod failure;
mod slots;

use std::{path::Path, time::Duration};

use http::{HeaderValue, Request, header::CONTENT_TYPE};
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::{
    client::{Bearer, client},
    credential::Credential,
    failure::Failure,
};
use super::{Found, PodSource, delays};
use crate::{
    cni::PodRef,
    deadline::Deadline,
    node::paths,
    reason::{Explanation, Reason},
};

/// How long a pod that was just created may be unknown to the API server that we ask.
const MAY_BE_NEW: Duration = Duration::from_secs(2);

/// The API server, asked with the host's credential.
pub(super) struct Api {
    credential: Credential,
}

impl Api {
    pub(super) fn new(credential: Credential) -> Self {
        Self { credential }
    }

    /// The host's credential; `None` where there is none.
    pub(super) fn credential() -> Result<Option<Credential>, Explanation> {
        Credential::load(Path::new(paths::API))
    }
}

impl PodSource for Api {
    fn look_up(&self, pod: &PodRef, deadline: Deadline) -> Result<Found, Explanation> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|e| Reason::Internal.because(format!("starting the API client: {e}")))?;
        runtime.block_on(self.attempts(pod, deadline))
    }
}

impl Api {
    /// A slot is held for an attempt, not while waiting for the next: an outage, or pods that are gone, must not hold up the others.
    async fn attempts(&self, pod: &PodRef, deadline: Deadline) -> Result<Found, Explanation> {
        let explain = |failure| self.explain(failure, pod, deadline);
        let mut client = None;
        let mut delays = delays(Duration::from_millis(50), Duration::from_secs(1));
        let mut last: Option<Explanation> = None;
        loop {
            let slot = slots::take(deadline).await.map_err(|refusal| {
                if refusal.reason == Reason::DeadlineExceeded {
                    last.take().unwrap_or(refusal)
                } else {
                    refusal
                }
            })?;
            let client: &Client = match &mut client {
                Some(client) => client,
                none => none.insert(
                    self::client(&self.credential, &Bearer::new(&self.credential.token))
                        .map_err(explain)?,
                ),
            };
            let waited = deadline.whole().saturating_sub(deadline.left());
            match tokio::time::timeout(deadline.left(), get_both(client, pod)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) if failure.can_pass(waited) => last = Some(explain(failure)),
                Ok(Err(failure)) => return Err(explain(failure)),
                Err(_elapsed) => return Err(last.unwrap_or_else(|| explain(Failure::Timeout))),
            }
            drop(slot);
            let delay = delays.next().unwrap_or_default();
            if delay >= deadline.left() {
                return Err(last.unwrap_or_else(|| explain(Failure::Timeout)));
            }
            tokio::time::sleep(delay).await;
        }
    }

    fn explain(&self, failure: Failure, pod: &PodRef, deadline: Deadline) -> Explanation {
        let (server, now) = (
            format!("https://{}", self.credential.server),
            jiff::Timestamp::now(),
        );
        if let Failure::Status { code: 401, .. } = failure {
            return Reason::ApiUnauthorized.because(match self.credential.expiry() {
                Some(expiry) if expiry <= now => {
                    format!(
                        "the token for {server} expired at {expiry}, {} s ago",
                        now.as_second() - expiry.as_second()
                    )
                }
                Some(_) | None => {
                    format!("{server} does not accept the token in {}/token", paths::API)
                }
            });
        }
        failure.explain(
            &server,
            &format!("{}/ca.crt", paths::API),
            &format!("{}/{}", pod.namespace, pod.name),
            deadline.whole(),
        )
    }
}

/// A pod and its namespace, one after the other: which protocol the server speaks is known after the first, and both take one connection.
pub(crate) async fn get_both(client: &Client, pod: &PodRef) -> Result<Found, Failure> {
    // names were checked to be Kubernetes names when CNI_ARGS was read
    let PodRef {
        namespace, name, ..
    } = pod;
    let (pod, namespace) = (
        format!("/api/v1/namespaces/{namespace}/pods/{name}"),
        format!("/api/v1/namespaces/{namespace}"),
    );
    let pod = get(client, &pod).await?;
    let namespace = get(client, &namespace).await?;
    Ok(Found { pod, namespace })
}

pub(crate) async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Failure> {
    request(client, Request::get(path).body(Vec::new())).await
}

/// Creates an object, and reads what is asked for of the answer.
pub(crate) async fn post<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    object: &Value,
) -> Result<T, Failure> {
    let json = HeaderValue::from_static("application/json");
    request(
        client,
        Request::post(path)
            .header(CONTENT_TYPE, json)
            .body(object.to_string().into_bytes()),
    )
    .await
}

async fn request<T: DeserializeOwned>(
    client: &Client,
    request: http::Result<Request<Vec<u8>>>,
) -> Result<T, Failure> {
    client
        .request(request.map_err(|e| Failure::Answer(e.to_string()))?)
        .await
        .map_err(Failure::from)
}
