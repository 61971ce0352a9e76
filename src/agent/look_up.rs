//! Looks up a pod in memory. If the pod is newer than the watch, waits for the watch, then asks the API server. A pod without a UID,
//! or an earlier pod of the same name, is never taken for it.

use std::time::Duration;

use super::{
    cache::{Cache, CachedPod},
    cluster::{AT_ONCE, Cluster},
    namespaces::Namespaces,
};
use crate::{
    cluster::{Concern, Failure},
    cni::PodRef,
    deadline::{Attempts, Deadline},
    mesh::Metadata,
    reason::{Explanation, Reason},
    source::{FoundPod, get_both},
    words::words,
};

/// How far the watch may be behind a pod that kubelet already starts.
const LAG: Duration = Duration::from_secs(1);
/// How long the first list after our own start may take.
const FIRST_LIST: Duration = Duration::from_secs(3);

words! {
    /// Where an answer came from.
    pub(super) enum AnswerSource("source of an answer") {
        Cache = "cache",
        Watch = "watch",
        Api = "api",
    }
}

/// What a look-up needs.
pub(super) struct LookUps<'a> {
    pub(super) cache: &'a Cache,
    pub(super) namespaces: &'a Namespaces<Cluster>,
    pub(super) cluster: &'a Cluster,
    /// This node.
    pub(super) node: &'a str,
}

impl LookUps<'_> {
    /// The pod, with the handler of its RuntimeClass, and its namespace by the deadline, and where they came from.
    pub(super) async fn look_up(
        &self,
        asked: &PodRef,
        deadline: Deadline,
    ) -> Result<(FoundPod, AnswerSource), Explanation> {
        let (mut found, from) = self.find(asked, deadline).await?;
        let spec = &mut found.pod.spec;
        if !spec.runtime_class_name.is_empty() {
            let handler = || self.cluster.runtime_handler(&spec.runtime_class_name);
            spec.runtime_handler = self.retry(handler, asked, deadline).await?;
        }
        Ok((found, from))
    }

    async fn find(
        &self,
        asked: &PodRef,
        deadline: Deadline,
    ) -> Result<(FoundPod, AnswerSource), Explanation> {
        match self.find_watched(asked, deadline).await {
            None => {
                let found = self.ask(asked, deadline).await?;
                Ok((found, AnswerSource::Api))
            }
            Some((CachedPod::Found(found), AnswerSource::Cache)) => {
                Ok(self.confirm(found, asked, deadline).await)
            }
            Some((CachedPod::Found(found), from)) => Ok((found, from)),
            Some((CachedPod::Unread { pod, since, older }, _)) => {
                let older = older.filter(|_| pod.has_run());
                let name = &asked.namespace;
                let read = || self.namespaces.read(name, since);
                let read = self.retry(read, asked, deadline);
                let namespace = match older {
                    None => read.await?,
                    // it was decided before, and is not held up now
                    Some(older) => {
                        let within = AT_ONCE.min(deadline.left() / 2);
                        let read = tokio::time::timeout(within, read).await;
                        read.ok().and_then(Result::ok).unwrap_or(older)
                    }
                };
                Ok((FoundPod { pod, namespace }, AnswerSource::Api))
            }
        }
    }

    /// What the watch tells of the pod, at once or a moment later.
    async fn find_watched(
        &self,
        asked: &PodRef,
        deadline: Deadline,
    ) -> Option<(CachedPod, AnswerSource)> {
        let mut changes = self.cache.changes();
        if let Some(answer) = self.cache.get(asked) {
            return Some((answer, AnswerSource::Cache));
        }
        asked.uid.as_ref()?;
        let lag = if self.cache.is_listed() {
            LAG
        } else {
            FIRST_LIST
        };
        let seen = async {
            loop {
                changes.changed().await.ok()?;
                if let Some(answer) = self.cache.get(asked) {
                    return Some((answer, AnswerSource::Watch));
                }
            }
        };
        let seen = tokio::time::timeout(lag.min(deadline.left() / 2), seen).await;
        seen.ok().flatten()
    }

    /// What is kept, unless a watch broke lately and the API server answers at once with something newer.
    async fn confirm(
        &self,
        kept: FoundPod,
        asked: &PodRef,
        deadline: Deadline,
    ) -> (FoundPod, AnswerSource) {
        if self.cache.is_in_doubt() {
            let within = AT_ONCE.min(deadline.left() / 2);
            if let Ok(Ok(found)) =
                tokio::time::timeout(within, get_both(&self.cluster.client(), asked)).await
                && is_asked(&found, asked)
            {
                return (
                    FoundPod {
                        pod: found.pod.reduce(),
                        ..found
                    },
                    AnswerSource::Api,
                );
            }
        }
        (kept, AnswerSource::Cache)
    }

    async fn ask(&self, asked: &PodRef, deadline: Deadline) -> Result<FoundPod, Explanation> {
        let client = self.cluster.client();
        let both = || get_both(&client, asked);
        let found = self.retry(both, asked, deadline).await?;
        if !is_asked(&found, asked) {
            let Metadata {
                namespace,
                name,
                uid,
                ..
            } = &found.pod.metadata;
            let asked = asked.uid.as_deref().unwrap_or_default();
            return Err(Reason::PodUidMismatch.because(format!(
                "pod {namespace}/{name} has UID {uid}, the runtime asks for {asked}"
            )));
        }
        self.of_this_node(found)
    }

    /// Asks the API server for something about a pod, again where that can help.
    async fn retry<T, Asking: Future<Output = Result<T, Failure>>>(
        &self,
        ask: impl Fn() -> Asking,
        asked: &PodRef,
        deadline: Deadline,
    ) -> Result<T, Explanation> {
        let (first, longest) = (Duration::from_millis(50), Duration::from_secs(1));
        let attempts = Attempts::until(deadline, first, longest);
        let made = attempts.make(ask, Failure::again).await;
        made.map_err(|failure| {
            let failure = failure.unwrap_or(Failure::Timeout);
            let (concern, pod) = (
                failure.concern(),
                format!("{}/{}", asked.namespace, asked.name),
            );
            let why = self.cluster.explain(failure, &pod, deadline.whole());
            match concern {
                // that is between the API server and us: who asks may know better
                Concern::Credential => Explanation {
                    reason: Reason::AgentUnavailable,
                    ..why
                },
                Concern::Server | Concern::Object => why,
            }
        })
    }

    /// Without a UID a pod of the same name on another node could be taken for it.
    fn of_this_node(&self, found: FoundPod) -> Result<FoundPod, Explanation> {
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
        Ok(FoundPod {
            pod: found.pod.reduce(),
            ..found
        })
    }
}

/// Whether it is the incarnation that is asked for.
fn is_asked(found: &FoundPod, asked: &PodRef) -> bool {
    let uid = asked.uid.as_deref();
    uid.is_none_or(|uid| found.pod.is_incarnation(uid))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::{
        super::fixtures::{self, asked, namespace, pod},
        *,
    };

    /// An API server with one pod, `web` of UID 1; what it is asked for first fails this often.
    fn api(times: usize, code: u16) -> impl Fn(&str) -> (u16, Value) + Send + Sync {
        let left = AtomicUsize::new(times);
        move |path| {
            let failing =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            match path {
                _ if failing.is_ok() => (
                    code,
                    json!({"kind": "Status", "code": code, "message": "m"}),
                ),
                "/api/v1/namespaces/team/pods/web" => (200, pod("web", "1", true)),
                "/api/v1/namespaces/team" => (200, namespace()),
                _ => (
                    404,
                    json!({"kind": "Status", "code": 404, "message": "not found"}),
                ),
            }
        }
    }

    async fn look_up(
        api: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static,
        node: &str,
        asked: &PodRef,
        prepare: impl FnOnce(&Cache),
    ) -> Result<AnswerSource, (Reason, String)> {
        let agent = fixtures::agent(api, None);
        prepare(&agent.cache);
        let look_ups = LookUps {
            cache: &agent.cache,
            namespaces: &agent.namespaces,
            cluster: &agent.cluster,
            node,
        };
        let found = look_ups.look_up(asked, Deadline::after(Duration::from_secs(2)));
        let found = found.await;
        found
            .map(|(found, from)| {
                assert_eq!(found.namespace.metadata.name, "team");
                from
            })
            .map_err(|why| (why.reason, why.cause))
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_the_watch_does_not_tell_of_is_asked_for() {
        let (web, nothing) = (asked("web", Some("1")), |_: &Cache| {});
        let n1 = fixtures::NODE;
        assert_eq!(
            look_up(api(0, 0), n1, &web, nothing).await,
            Ok(AnswerSource::Api)
        );
        let known = |cache: &Cache| fixtures::put(cache, pod("web", "1", true));
        assert_eq!(
            look_up(api(9, 500), n1, &web, known).await,
            Ok(AnswerSource::Cache)
        );
        // an outage that passes
        assert_eq!(
            look_up(api(2, 503), n1, &web, nothing).await,
            Ok(AnswerSource::Api)
        );
        let reason =
            async |api, node, asked| look_up(api, node, asked, nothing).await.unwrap_err().0;
        let earlier = asked("web", Some("0"));
        assert_eq!(
            reason(api(0, 0), n1, &earlier).await,
            Reason::PodUidMismatch
        );
        assert_eq!(reason(api(0, 0), "n2", &web).await, Reason::WrongNode);
        let gone = asked("gone", None);
        assert_eq!(reason(api(0, 0), n1, &gone).await, Reason::PodNotFound);
        assert_eq!(
            reason(api(usize::MAX, 500), n1, &web).await,
            Reason::ApiUnreachable
        );
        // the agent's own rights are no reason to refuse a pod that another source may know
        for code in [401, 403] {
            assert_eq!(
                reason(api(1, code), n1, &web).await,
                Reason::AgentUnavailable
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_pod_of_the_name_in_the_cache_is_not_taken_for_it() {
        let before = |cache: &Cache| fixtures::put(cache, pod("web", "0", true));
        let found = look_up(api(0, 0), fixtures::NODE, &asked("web", Some("1")), before).await;
        assert_eq!(found, Ok(AnswerSource::Api));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_confirmed_while_a_watch_is_broken() {
        let in_doubt = |cache: &Cache| {
            fixtures::put(cache, pod("web", "1", true));
            cache.mark_broken();
        };
        let (web, n1) = (asked("web", Some("1")), fixtures::NODE);
        assert_eq!(
            look_up(api(0, 0), n1, &web, in_doubt).await,
            Ok(AnswerSource::Api)
        );
        assert_eq!(
            look_up(api(usize::MAX, 500), n1, &web, in_doubt).await,
            Ok(AnswerSource::Cache)
        );
    }
}
