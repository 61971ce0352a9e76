//! Reads the namespaces of this node's pods when they are needed. They are not watched: watches would grow with the namespaces of
//! each node, times the number of nodes.
//!
//! A new pod that can be one of the mesh leads to one consistent read, so that its ADD, a moment later, is answered from memory. Pods
//! that arrive during a read share the next one. Reads that no ADD waits for are paced: all namespaces at a start, those of pods that
//! are asked for repeatedly, and every namespace from time to time for the audit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::cache::{Cache, Moment};
use crate::{
    cluster::{Cause, Failure, Pauses},
    mesh::Namespace,
};

/// The pause between two reads that no ADD waits for.
const PACE: Duration = Duration::from_millis(200);
/// How long until a namespace is read again for the audit, in seconds, drawn at random: not all nodes at once.
const KEPT: std::ops::Range<u64> = 30 * 60..90 * 60;
/// How long a read may take: look-ups that wait behind it share the next one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What namespaces are read from.
pub(super) trait Reads: Send + Sync + 'static {
    /// Reads a namespace: consistently, or from the API server's memory.
    fn read(
        &self,
        name: &str,
        from_memory: bool,
    ) -> impl Future<Output = Result<Namespace, Failure>> + Send;
}

/// The namespaces of this node's pods.
pub(super) struct Namespaces<R> {
    reads: Arc<R>,
    cache: Arc<Cache>,
    /// The reads of each namespace, one after the other.
    queues: Mutex<HashMap<String, Arc<LastFailure>>>,
}

/// When the last read that failed was sent, and why it failed.
type LastFailure = tokio::sync::Mutex<Option<(Moment, Failure)>>;

impl<R: Reads> Namespaces<R> {
    pub(super) fn new(reads: Arc<R>, cache: Arc<Cache>) -> Self {
        Self {
            reads,
            cache,
            queues: Mutex::default(),
        }
    }

    /// A namespace as it was after this moment: from the cache, or from a read that is sent now. Look-ups that arrive during a read share the
    /// next one.
    pub(super) async fn read(&self, name: &str, since: Moment) -> Result<Namespace, Failure> {
        let called = self.cache.sending();
        let queue = self.queue(name);
        let mut failed = queue.lock().await;
        if let Some(namespace) = self.cache.namespace(name, since) {
            return Ok(namespace);
        }
        if let Some((sent, failure)) = &*failed
            && *sent > called
        {
            return Err(failure.clone());
        }
        let sent = self.cache.sending();
        let answer = self.ask(name, sent, false).await;
        *failed = answer.as_ref().err().map(|failure| (sent, failure.clone()));
        answer
    }

    /// Reads the namespace of a pod that arrived at this moment. If that fails, the pod's ADD retries.
    pub(super) fn prefetch(self: &Arc<Self>, name: String, arrived: Moment) {
        let this = self.clone();
        tokio::spawn(async move { this.read(&name, arrived).await });
    }

    /// Reads what no ADD waits for, until it is canceled.
    pub(super) async fn refresh(&self) {
        let (mut changes, mut last) = (self.cache.changes(), String::new());
        let (mut pauses, mut failing) = (Pauses::new(), None::<String>);
        loop {
            let Some((name, since)) = self.cache.due(&last) else {
                self.forget_queues();
                timeout(Duration::from_secs(60), changes.changed())
                    .await
                    .ok();
                continue;
            };
            let answer = match since {
                Some(since) => self.read(&name, since).await,
                None => self.ask(&name, self.cache.sending(), true).await,
            };
            match answer {
                Ok(_) | Err(Failure::Status { code: 404, .. }) => {
                    pauses = Pauses::new();
                    if failing.take().is_some() {
                        info!("reading namespaces succeeds again");
                    }
                    sleep(PACE).await;
                }
                Err(failure) => {
                    let (asked, failure) = (failure.retry_after(), failure.to_string());
                    if failing.as_ref() != Some(&failure) {
                        warn!(namespace = name, "reading a namespace: {failure}");
                        failing = Some(failure);
                    }
                    sleep(pauses.after_failure(Cause::Failed(asked))).await;
                }
            }
            last = name;
        }
    }

    /// Reads a namespace into the cache.
    async fn ask(&self, name: &str, sent: Moment, from_memory: bool) -> Result<Namespace, Failure> {
        let asked = timeout(PATIENCE, self.reads.read(name, from_memory)).await;
        let answer = asked
            .unwrap_or(Err(Failure::Timeout))
            .map(Namespace::reduce);
        let keep = Duration::from_secs(fastrand::u64(KEPT));
        let read = match &answer {
            Ok(namespace) => Some(namespace.clone()),
            Err(Failure::Status { code: 404, .. }) => None,
            Err(_) => return answer,
        };
        self.cache
            .put_namespace(name, read, sent, from_memory, keep);
        answer
    }

    fn queue(&self, name: &str) -> Arc<LastFailure> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(name.to_owned()).or_default().clone()
    }

    /// Forgets namespaces without pods.
    fn forget_queues(&self) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::{task::JoinSet, time::Instant};

    use super::*;
    use crate::{
        agent::cache::{CachedPod, WatchedPod},
        cni::PodRef,
        mesh::{Pod, annotation},
    };

    /// An API server that takes 100 ms for a read.
    struct Server {
        started: Instant,
        /// When each read arrived, and of what; with a ! those from memory.
        reads: Mutex<Vec<(Duration, String)>>,
        label: Mutex<String>,
        is_away: AtomicBool,
    }

    impl Reads for Server {
        async fn read(&self, name: &str, from_memory: bool) -> Result<Namespace, Failure> {
            let how = if from_memory { "!" } else { "" };
            let read = (self.started.elapsed(), format!("{name}{how}"));
            self.reads.lock().unwrap().push(read);
            let mut namespace = Namespace::default();
            namespace.metadata.name = name.into();
            let label = self.label.lock().unwrap().clone();
            namespace.metadata.labels.insert("label".into(), label);
            sleep(Duration::from_millis(100)).await;
            if self.is_away.load(Ordering::Relaxed) {
                return Err(Failure::Connection("refused".into()));
            }
            Ok(namespace)
        }
    }

    type Made = (Arc<Server>, Arc<Cache>, Arc<Namespaces<Server>>);

    fn made() -> Made {
        let server = Arc::new(Server {
            started: Instant::now(),
            reads: Mutex::default(),
            label: Mutex::default(),
            is_away: AtomicBool::default(),
        });
        let cache = Arc::new(Cache::new());
        let namespaces = Namespaces::new(server.clone(), cache.clone());
        (server, cache, Arc::new(namespaces))
    }

    fn seen(namespace: &str, name: &str) -> WatchedPod {
        let mut pod = Pod::default();
        (pod.metadata.namespace, pod.metadata.name, pod.metadata.uid) =
            (namespace.into(), name.into(), name.into());
        let annotations = &mut pod.metadata.annotations;
        annotations.insert(annotation::NETWORKS.into(), "mesh".into());
        WatchedPod {
            pod,
            is_running: true,
        }
    }

    fn times(server: &Server) -> Vec<Duration> {
        server
            .reads
            .lock()
            .unwrap()
            .iter()
            .map(|(at, _)| *at)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_arrive_during_a_read_share_the_next_one() {
        let (server, cache, namespaces) = made();
        let mut adds = JoinSet::new();
        for number in 0..110 {
            let arrived = cache.put(seen("ns", &format!("p{number}"))).unwrap();
            let namespaces = namespaces.clone();
            adds.spawn(async move { namespaces.read("ns", arrived).await });
            if number == 0 {
                sleep(Duration::from_millis(10)).await; // the first read is on its way
                *server.label.lock().unwrap() = "changed".into();
            }
        }
        let read = adds.join_all().await;
        assert_eq!(times(&server).len(), 2);
        let changed = read
            .iter()
            .filter(|read| read.as_ref().unwrap().metadata.labels["label"] == "changed");
        assert_eq!(changed.count(), 109, "all but the first arrived later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_read_fails_everything_that_waited_for_it() {
        let (server, cache, namespaces) = made();
        server.is_away.store(true, Ordering::Relaxed);
        let arrived = cache.put(seen("ns", "a")).unwrap();
        let mut adds = JoinSet::new();
        for _ in 0..100 {
            let namespaces = namespaces.clone();
            adds.spawn(async move { namespaces.read("ns", arrived).await });
        }
        assert!(adds.join_all().await.iter().all(Result::is_err));
        assert_eq!(times(&server).len(), 2, "the first one's, and the others'");
        server.is_away.store(false, Ordering::Relaxed);
        assert!(namespaces.read("ns", arrived).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn at_startup_namespaces_are_read_one_by_one_and_those_of_an_add_at_once() {
        let (server, cache, namespaces) = made();
        cache.list((0..60).map(|n| seen(&format!("n{n:02}"), "p")).collect());
        let keeping = namespaces.clone();
        let keeping = tokio::spawn(async move { keeping.refresh().await });
        sleep(Duration::from_secs(1)).await;
        let asked = PodRef {
            namespace: "n50".into(),
            name: "p".into(),
            uid: Some("p".into()),
        };
        let Some(CachedPod::Unread { since, .. }) = cache.get(&asked) else {
            panic!("it was read already");
        };
        namespaces.read("n50", since).await.unwrap();
        assert_eq!(server.started.elapsed(), Duration::from_millis(1100));
        sleep(Duration::from_secs(30)).await;
        let reads = server.reads.lock().unwrap().clone();
        let mut names: Vec<_> = reads.iter().map(|(_, name)| name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!((reads.len(), names.len()), (60, 60), "each once");
        let within = |second: u64| {
            let second = Duration::from_secs(second);
            let is_within =
                |at: &&(Duration, String)| second <= at.0 && at.0 < second + Duration::from_secs(1);
            reads.iter().filter(is_within).count()
        };
        assert!((0..30).all(|second| within(second) <= 5), "{reads:?}");
        // for the audit each is read from memory, within an hour of others
        server.reads.lock().unwrap().clear();
        sleep(Duration::from_secs(91 * 60)).await;
        let reads = server.reads.lock().unwrap().clone();
        assert!(reads.iter().all(|(_, name)| name.ends_with('!')));
        assert!((60..=180).contains(&reads.len()), "{}", reads.len());
        let (first, last) = (reads[0].0, reads[59].0);
        assert!(
            last - first > Duration::from_secs(20 * 60),
            "{first:?} {last:?}"
        );
        keeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_reads_fail() {
        let (server, cache, namespaces) = made();
        server.is_away.store(true, Ordering::Relaxed);
        cache.list((0..60).map(|n| seen(&format!("n{n:02}"), "p")).collect());
        let keeping = tokio::spawn(async move { namespaces.refresh().await });
        sleep(Duration::from_secs(600)).await;
        let reads = times(&server).len();
        assert!((10..=60).contains(&reads), "{reads} reads in ten minutes");
        keeping.abort();
    }
}
