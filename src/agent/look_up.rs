//! A pod, from memory. What is newer than the watch is waited for, then asked of the API server; what is empty or another incarnation
//! is never taken for it.

use std::time::Duration;

use super::{cache::Cache, cluster::Cluster, metrics::Metrics};
use crate::{
    cni::PodRef,
    deadline::Deadline,
    reason::Explanation,
    source::{Found, api, delays},
};

/// How far the watch may be behind a pod that kubelet already starts.
const LAG: Duration = Duration::from_secs(1);
/// How long the first list after our own start may take.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum From {
    Cache,
    Watch,
    Api,
}

impl From {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Watch => "watch",
            Self::Api => "api",
        }
    }
}

/// The pod and its namespace by the deadline, and where they came from.
pub(super) async fn look_up(
    cache: &Cache,
    cluster: &Cluster,
    metrics: &Metrics,
    asked: &PodRef,
    deadline: Deadline,
) -> Result<(Found, From), Explanation> {
    let mut changes = cache.changes();
    if let Some(found) = cache.get(asked) {
        return Ok((found, From::Cache));
    }
    if asked.uid.is_some() {
        let lag = if cache.is_listed() { LAG } else { FIRST_LIST };
        let seen = async {
            loop {
                changes.changed().await.ok()?;
                if let Some(found) = cache.get(asked) {
                    return Some(found);
                }
            }
        };
        if let Ok(Some(found)) = tokio::time::timeout(lag.min(deadline.left() / 2), seen).await {
            return Ok((found, From::Watch));
        }
    }
    ask(cluster, metrics, asked, deadline).await.map(|found| (found, From::Api))
}

/// Asks the API server, again where that can help.
async fn ask(cluster: &Cluster, metrics: &Metrics, asked: &PodRef, deadline: Deadline) -> Result<Found, Explanation> {
    let pod = format!("{}/{}", asked.namespace, asked.name);
    let mut delays = delays(Duration::from_millis(50), Duration::from_secs(1));
    let mut last = None;
    loop {
        let timeout = |last: Option<Explanation>| last.unwrap_or_else(|| cluster.explain(api::Failure::Timeout, &pod, deadline.whole()));
        let failure = match tokio::time::timeout(deadline.left(), api::get_both(&cluster.client(), asked)).await {
            Ok(Ok(found)) => return Ok(Found { pod: found.pod.reduced(), ..found }),
            Ok(Err(failure)) => failure,
            Err(_elapsed) => return Err(timeout(last)),
        };
        metrics.api_error("get");
        let (can_pass, explanation) = (failure.can_pass(deadline.passed()), cluster.explain(failure, &pod, deadline.whole()));
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
