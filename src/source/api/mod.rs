//! Source `api`: asks the API server, with a credential: GET pod and GET namespace over one connection.

mod slots;

use std::{path::Path, time::Duration};

use kube::Client;
use serde::Deserialize;

use super::{Found, PodSource, delays};
use crate::{
    cluster::{self, Bearer, Credential, Failure, get},
    cni::PodRef,
    deadline::Deadline,
    node::paths,
    reason::{Explanation, Reason},
};

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
            let Some(slot) = slots::take(deadline).await? else {
                return Err(last.unwrap_or_else(|| slots::all_taken(deadline)));
            };
            let client: &Client = match &mut client {
                Some(client) => client,
                none => none.insert(
                    cluster::client(&self.credential, &Bearer::new(&self.credential.token), None)
                        .map_err(explain)?,
                ),
            };
            let waited = deadline.passed();
            let asked = match tokio::time::timeout(deadline.left(), get_all(client, pod)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) if failure.can_pass(waited) => {
                    let asked = failure.retry_after();
                    last = Some(explain(failure));
                    asked.unwrap_or_default()
                }
                Ok(Err(failure)) => return Err(explain(failure)),
                Err(_elapsed) => return Err(last.unwrap_or_else(|| explain(Failure::Timeout))),
            };
            drop(slot);
            let delay = delays.next().unwrap_or_default().max(asked);
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

/// The same, with the handler of the pod's RuntimeClass.
async fn get_all(client: &Client, pod: &PodRef) -> Result<Found, Failure> {
    let mut found = get_both(client, pod).await?;
    let spec = &mut found.pod.spec;
    if !spec.runtime_class_name.is_empty() {
        spec.runtime_handler = runtime_handler(client, &spec.runtime_class_name).await?;
    }
    Ok(found)
}

/// The handler of a RuntimeClass; empty where there is none of that name: kubelet starts no new pod of it.
pub(crate) async fn runtime_handler(client: &Client, class: &str) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct RuntimeClass {
        handler: String,
    }
    match get(
        client,
        &format!("/apis/node.k8s.io/v1/runtimeclasses/{class}"),
    )
    .await
    {
        Ok(RuntimeClass { handler }) => Ok(handler),
        Err(Failure::Status { code: 404, .. }) => Ok(String::new()),
        Err(failure) => Err(failure),
    }
}
