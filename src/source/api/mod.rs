//! Source `api`: asks the API server, with a credential: GET pod and GET namespace over one connection.

mod slots;

use std::{path::Path, time::Duration};

use kube::Client;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{FoundPod, NoAnswer};
use crate::{
    cluster::{self, Bearer, Concern, Credential, Failure, get},
    cni::PodRef,
    deadline::{Attempts, Deadline},
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

impl Api {
    /// A pod and its namespace.
    pub(super) fn look_up(&self, pod: &PodRef, deadline: Deadline) -> Result<FoundPod, NoAnswer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|e| Reason::Internal.because(format!("starting the API client: {e}")))?;
        runtime.block_on(self.attempts(pod, deadline))
    }

    /// A slot is held for an attempt, not while waiting for the next: an outage, or pods that are gone, must not hold up the others.
    async fn attempts(&self, pod: &PodRef, deadline: Deadline) -> Result<FoundPod, NoAnswer> {
        let client = OnceCell::new();
        let ask = async || {
            let slot = slots::take(deadline).await.map_err(AttemptError::Here)?;
            let slot = slot.ok_or(AttemptError::NoSlot)?;
            let bearer = || Bearer::new(&self.credential.token);
            let connect = async || cluster::client(&self.credential, &bearer(), None);
            let client = client.get_or_try_init(connect).await?;
            let found = get_all(client, pod).await?;
            drop(slot);
            Ok(found)
        };
        let again = |failed: &AttemptError, waited| match failed {
            AttemptError::There(failure) => failure.again(waited),
            AttemptError::NoSlot => Some(Duration::ZERO),
            AttemptError::Here(_) => None,
        };
        let (first, longest) = (Duration::from_millis(50), Duration::from_secs(1));
        let attempts = Attempts::until(deadline, first, longest);
        let made = attempts.make(ask, again).await;
        made.map_err(|failed| match failed {
            Some(AttemptError::Here(why)) => NoAnswer::Refused(why),
            Some(AttemptError::NoSlot) => NoAnswer::Away(slots::all_taken(deadline)),
            Some(AttemptError::There(failure)) => self.no_answer(failure, pod, deadline),
            None => self.no_answer(Failure::Timeout, pod, deadline),
        })
    }

    fn no_answer(&self, failure: Failure, pod: &PodRef, deadline: Deadline) -> NoAnswer {
        let concern = failure.concern();
        let why = self.explain(failure, pod, deadline);
        match concern {
            Concern::Server => NoAnswer::Away(why),
            Concern::Credential | Concern::Object => NoAnswer::Refused(why),
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

/// Why an attempt failed.
enum AttemptError {
    /// On this node.
    Here(Explanation),
    /// Other look-ups kept all slots.
    NoSlot,
    /// At the API server.
    There(Failure),
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self::There(failure)
    }
}

/// A pod and its namespace, one after the other: which protocol the server speaks is known after the first, and both take one connection.
pub(crate) async fn get_both(client: &Client, pod: &PodRef) -> Result<FoundPod, Failure> {
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
    Ok(FoundPod { pod, namespace })
}

/// The same, with the handler of the pod's RuntimeClass.
async fn get_all(client: &Client, pod: &PodRef) -> Result<FoundPod, Failure> {
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
