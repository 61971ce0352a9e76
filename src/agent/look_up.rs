//! A pod, from memory. What is newer than the watch is waited for, then asked of the API server; what is empty or another incarnation
//! is never taken for it.

use std::time::Duration;

use super::{cache::Cache, cluster::Cluster, metrics::Metrics};
use crate::{
    cni::PodRef,
    deadline::Deadline,
    mesh::Metadata,
    reason::{Explanation, Reason},
    source::{Found, api, delays},
    words::words,
};

/// How far the watch may be behind a pod that kubelet already starts.
const LAG: Duration = Duration::from_secs(1);
/// How long the first list after our own start may take.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// How long the API server may take to confirm what is kept.
const AT_ONCE: Duration = Duration::from_secs(1);

words! {
    /// Where an answer came from.
    pub(super) enum From("source of an answer") {
        Cache = "cache",
        Watch = "watch",
        Api = "api",
    }
}

/// What a look-up needs.
pub(super) struct LookUps<'a> {
    pub(super) cache: &'a Cache,
    pub(super) cluster: &'a Cluster,
    pub(super) metrics: &'a Metrics,
    /// This node.
    pub(super) node: &'a str,
}

impl LookUps<'_> {
    /// The pod and its namespace by the deadline, and where they came from.
    pub(super) async fn look_up(
        &self,
        asked: &PodRef,
        deadline: Deadline,
    ) -> Result<(Found, From), Explanation> {
        let mut changes = self.cache.changes();
        if let Some(found) = self.cache.get(asked) {
            return Ok(self.confirmed(found, asked, deadline).await);
        }
        if asked.uid.is_some() {
            let lag = if self.cache.is_listed() {
                LAG
            } else {
                FIRST_LIST
            };
            let seen = async {
                loop {
                    changes.changed().await.ok()?;
                    if let Some(found) = self.cache.get(asked) {
                        return Some(found);
                    }
                }
            };
            if let Ok(Some(found)) = tokio::time::timeout(lag.min(deadline.left() / 2), seen).await
            {
                return Ok((found, From::Watch));
            }
        }
        self.ask(asked, deadline)
            .await
            .map(|found| (found, From::Api))
    }

    /// What is kept, unless a watch broke lately and the API server answers at once with something newer.
    async fn confirmed(&self, kept: Found, asked: &PodRef, deadline: Deadline) -> (Found, From) {
        if self.cache.is_in_doubt() {
            let within = AT_ONCE.min(deadline.left() / 2);
            if let Ok(Ok(found)) =
                tokio::time::timeout(within, api::get_both(&self.cluster.client(), asked)).await
            {
                return (
                    Found {
                        pod: found.pod.reduced(),
                        ..found
                    },
                    From::Api,
                );
            }
        }
        (kept, From::Cache)
    }

    /// Asks the API server, again where that can help.
    async fn ask(&self, asked: &PodRef, deadline: Deadline) -> Result<Found, Explanation> {
        let pod = format!("{}/{}", asked.namespace, asked.name);
        let explain = |failure| {
            let explanation = self.cluster.explain(failure, &pod, deadline.whole());
            // that is between the API server and us: who asks may know better
            let is_ours = matches!(
                explanation.reason,
                Reason::ApiForbidden | Reason::ApiUnauthorized
            );
            if is_ours {
                Explanation {
                    reason: Reason::AgentUnavailable,
                    ..explanation
                }
            } else {
                explanation
            }
        };
        let mut delays = delays(Duration::from_millis(50), Duration::from_secs(1));
        let mut last = None;
        loop {
            let timeout =
                |last: Option<Explanation>| last.unwrap_or_else(|| explain(api::Failure::Timeout));
            let failure = match tokio::time::timeout(
                deadline.left(),
                api::get_both(&self.cluster.client(), asked),
            )
            .await
            {
                Ok(Ok(found)) => return self.of_this_node(found),
                Ok(Err(failure)) => failure,
                Err(_elapsed) => return Err(timeout(last)),
            };
            self.metrics.api_error("get");
            let (can_pass, explanation) = (failure.can_pass(deadline.passed()), explain(failure));
            if !can_pass {
                return Err(explanation);
            }
            let delay = delays.next().unwrap_or_default();
            if delay >= deadline.left() {
                return Err(timeout(last.or(Some(explanation))));
            }
            last = Some(explanation);
            tokio::time::sleep(delay).await;
        }
    }

    /// Without a UID a pod of the same name on another node could be taken for it.
    fn of_this_node(&self, found: Found) -> Result<Found, Explanation> {
        let bound = &found.pod.spec.node_name;
        if bound != self.node {
            let Metadata {
                namespace, name, ..
            } = &found.pod.metadata;
            return Err(Reason::WrongNode.because(format!(
                "pod {namespace}/{name} is bound to node {bound:?}, this is {:?}",
                self.node
            )));
        }
        Ok(Found {
            pod: found.pod.reduced(),
            ..found
        })
    }
}
