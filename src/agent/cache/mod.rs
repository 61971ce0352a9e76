//! The cache of this node's pods and their namespaces, as the API server last reported them.
//!
//! A new pod is decided on its namespace as it was when the pod was created, or later: the pod's event arrives after the pod was
//! created, so a read of the namespace that is sent after the event is new enough. A counter of events says what came first.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    cni::PodRef,
    mesh::{Metadata, Namespace, Pod, annotation},
    source::FoundPod,
};

/// A pod of this node, reduced to what decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchedPod {
    pub(super) pod: Pod,
    /// Whether its containers run, by kubelet's status.
    pub(super) is_running: bool,
}

/// When something happened, relative to other events here: a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// This node's pods and their namespaces.
pub(super) struct Cache {
    known: Mutex<Contents>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Contents {
    now: Moment,
    pods: HashMap<(String, String), KeptPod>,
    namespaces: BTreeMap<String, KeptNamespace>,
    is_listed: bool,
    /// When a watch broke last.
    doubted: Option<Instant>,
    /// Since when pods are not followed.
    lost: Option<Instant>,
}

struct KeptPod {
    seen: WatchedPod,
    /// When this pod, by UID, was first reported.
    arrived: Moment,
    /// A plugin asked for it.
    was_asked: bool,
}

#[derive(Default)]
struct KeptNamespace {
    /// Labels and name; `None` before it was read.
    namespace: Option<Namespace>,
    /// When the last consistent read that succeeded was sent.
    sent: Moment,
    /// When it is read again without being asked for.
    due: Option<Instant>,
    read: Option<Instant>,
    /// A pod of it is asked for repeatedly, so it is read again soon.
    is_wanted_again: bool,
}

/// What is known of a pod.
#[derive(Debug)]
pub(super) enum CachedPod {
    /// Everything that a decision needs.
    Found(FoundPod),
    /// Its namespace has to be read, not before this moment. `older`: as it was read before that.
    Unread {
        pod: Pod,
        since: Moment,
        older: Option<Namespace>,
    },
}

/// How long after a watch broke its events may be missing: it is retried within a minute, and then reports them.
const DOUBT: Duration = Duration::from_secs(150);
/// The age at which a read is repeated for a pod that is asked for again: kubelet retries a refused pod every 15 s, and its namespace may
/// have been labeled meanwhile.
const AGAIN: Duration = Duration::from_secs(10);

/// How much the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) pods: usize,
    pub(super) namespaces: usize,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Reports every later change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Replaces all pods of the node: known ones that are not in the list are gone.
    pub(super) fn list(&self, pods: Vec<WatchedPod>) {
        self.change(|known| {
            let mut before = std::mem::take(&mut known.pods);
            let now = known.tick();
            for seen in pods {
                let key = key(&seen.pod.metadata);
                let kept = KeptPod::after(before.remove(&key), seen, now);
                known.pods.insert(key, kept);
            }
            known.is_listed = true;
            known.lost = None;
        });
    }

    /// Keeps a pod. If it is new and can be one of the mesh, returns when it arrived: its namespace has to be read.
    pub(super) fn put(&self, seen: WatchedPod) -> Option<Moment> {
        self.change(|known| {
            let (now, key) = (known.tick(), key(&seen.pod.metadata));
            let kept = KeptPod::after(known.pods.remove(&key), seen, now);
            let is_new = kept.arrived == now && can_be_of_the_mesh(&kept.seen.pod);
            known.pods.insert(key, kept);
            is_new.then_some(now)
        })
    }

    /// Forgets a pod, if the UID is the same.
    pub(super) fn remove(&self, pod: &Metadata) {
        self.change(|known| {
            let key = key(pod);
            let of = known.pods.get(&key);
            if of.is_some_and(|kept| kept.seen.pod.metadata.uid == pod.uid) {
                known.pods.remove(&key);
            }
        });
    }

    /// Before a namespace is read.
    pub(super) fn sending(&self) -> Moment {
        self.lock().tick()
    }

    /// Keeps the result of a namespace read that was sent at this moment (`None`: there is no such namespace) until it is due again. A result
    /// from the API server's memory may be older than a consistent read that was sent later, and is then dropped.
    pub(super) fn put_namespace(
        &self,
        name: &str,
        read: Option<Namespace>,
        sent: Moment,
        from_memory: bool,
        keep: Duration,
    ) {
        self.change(|known| {
            let kept = known.namespaces.entry(name.to_owned()).or_default();
            if from_memory && kept.sent > sent {
                return;
            }
            if !from_memory {
                kept.sent = kept.sent.max(sent);
                kept.is_wanted_again = false;
            }
            (kept.read, kept.due) = (Some(Instant::now()), Some(Instant::now() + keep));
            kept.namespace = read;
        });
    }

    /// A namespace as it was read after this moment.
    pub(super) fn namespace(&self, name: &str, since: Moment) -> Option<Namespace> {
        let known = self.lock();
        let kept = known.namespaces.get(name)?;
        kept.namespace.clone().filter(|_| kept.sent > since)
    }

    /// The next namespace after this one, by name, that is due although no ADD waits for it: with the moment that the read must follow, or none
    /// if the API server may answer from memory. Forgets namespaces without pods.
    pub(super) fn due(&self, after: &str) -> Option<(String, Option<Moment>)> {
        let known = &mut *self.lock();
        let (wanted, now) = (known.wanted(), Instant::now());
        known.namespaces.retain(|name, _| wanted.contains_key(name));
        let tick = known.tick();
        let how = |name: &str, newest: Moment| {
            let of_pod = (newest != Moment::default()).then_some(newest);
            match known.namespaces.get(name) {
                None => Some(of_pod),
                Some(kept) if kept.is_wanted_again => Some(Some(tick)),
                Some(kept) if kept.sent < newest => Some(of_pod),
                Some(kept) => kept.due.is_none_or(|due| due <= now).then_some(None),
            }
        };
        let later = (Bound::Excluded(after), Bound::Unbounded);
        let in_turn = wanted.range::<str, _>(later).chain(&wanted);
        let mut due =
            in_turn.filter_map(|(name, newest)| Some((name.clone(), how(name, *newest)?)));
        due.next()
    }

    /// A watch broke: what it reported may be outdated.
    pub(super) fn mark_broken(&self) {
        let (now, mut known) = (Instant::now(), self.lock());
        known.doubted = Some(now);
        known.lost.get_or_insert(now);
    }

    /// A watch has resumed.
    pub(super) fn mark_resumed(&self) {
        self.lock().lost = None;
    }

    /// For how long the node's pods have not been followed, if they are not.
    pub(super) fn lost_for(&self) -> Option<Duration> {
        self.lock().lost.map(|since| since.elapsed())
    }

    /// Whether a watch broke lately.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.lock().doubted.is_some_and(|at| at.elapsed() < DOUBT)
    }

    /// Whether the node's pods were listed since the agent started.
    pub(super) fn is_listed(&self) -> bool {
        self.lock().is_listed
    }

    /// The pod with this UID, never another of the same name. Without a UID there is no way to distinguish them. A pod that has run arrived
    /// long ago: its namespace has to be read now.
    pub(super) fn get(&self, asked: &PodRef) -> Option<CachedPod> {
        let (uid, mut known) = (asked.uid.as_deref()?, self.lock());
        let now = known.tick();
        let Contents {
            pods, namespaces, ..
        } = &mut *known;
        let kept = pods
            .get_mut(&(asked.namespace.clone(), asked.name.clone()))
            .filter(|kept| kept.seen.pod.is_incarnation(uid))?;
        let pod = kept.seen.pod.clone();
        let since = if pod.has_run() { now } else { kept.arrived };
        let was_asked = std::mem::replace(&mut kept.was_asked, true);
        let Some(of) = namespaces.get_mut(&asked.namespace) else {
            return Some(CachedPod::Unread {
                pod,
                since,
                older: None,
            });
        };
        let older = of.namespace.clone();
        match older {
            Some(namespace) if of.sent > since => {
                if was_asked && of.read.is_some_and(|read| read.elapsed() >= AGAIN) {
                    of.is_wanted_again = true;
                    self.changes.send_modify(|count| *count += 1);
                }
                Some(CachedPod::Found(FoundPod { pod, namespace }))
            }
            older => Some(CachedPod::Unread { pod, since, older }),
        }
    }

    /// Every running pod that can be one of the mesh and whose namespace is not known.
    pub(super) fn without_namespace(&self) -> Vec<Pod> {
        let known = self.lock();
        let is_read = |pod: &Pod| {
            let kept = known.namespaces.get(&pod.metadata.namespace);
            kept.is_some_and(|kept| kept.namespace.is_some())
        };
        let running = known.pods.values().filter(|kept| kept.seen.is_running);
        let pods = running.map(|kept| &kept.seen.pod);
        pods.filter(|pod| can_be_of_the_mesh(pod) && !is_read(pod))
            .cloned()
            .collect()
    }

    /// Every running pod whose namespace is known.
    pub(super) fn running(&self) -> Vec<FoundPod> {
        let known = self.lock();
        let found = |WatchedPod { pod, .. }: &WatchedPod| {
            let kept = known.namespaces.get(&pod.metadata.namespace)?;
            Some(FoundPod {
                pod: pod.clone(),
                namespace: kept.namespace.clone()?,
            })
        };
        let all = known.pods.values().map(|kept| &kept.seen);
        all.filter(|seen| seen.is_running)
            .filter_map(found)
            .collect()
    }

    pub(super) fn size(&self) -> Size {
        let known = self.lock();
        let is_read = |kept: &&KeptNamespace| kept.namespace.is_some();
        Size {
            pods: known.pods.len(),
            namespaces: known.namespaces.values().filter(is_read).count(),
        }
    }

    fn change<T>(&self, how: impl FnOnce(&mut Contents) -> T) -> T {
        let done = how(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
        done
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// The namespaces of pods that have a network of their own, and when the newest pod arrived for which it has to be read.
    fn wanted(&self) -> BTreeMap<String, Moment> {
        let mut wanted = BTreeMap::<_, Moment>::new();
        for KeptPod { seen, arrived, .. } in self.pods.values() {
            if !seen.pod.spec.host_network {
                let arrived = if can_be_of_the_mesh(&seen.pod) {
                    *arrived
                } else {
                    Moment::default()
                };
                let newest = wanted
                    .entry(seen.pod.metadata.namespace.clone())
                    .or_default();
                *newest = arrived.max(*newest);
            }
        }
        wanted
    }

    fn tick(&mut self) -> Moment {
        self.now.0 += 1;
        self.now
    }
}

impl KeptPod {
    /// A pod as it is now, after what was kept under its name.
    fn after(before: Option<Self>, seen: WatchedPod, now: Moment) -> Self {
        match before {
            Some(before) if before.seen.pod.metadata.uid == seen.pod.metadata.uid => {
                Self { seen, ..before }
            }
            Some(_) | None => Self {
                seen,
                arrived: now,
                was_asked: false,
            },
        }
    }
}

/// Whether a plugin may be called for it, or it may be redirected.
fn can_be_of_the_mesh(pod: &Pod) -> bool {
    let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
    !pod.spec.host_network && (!networks.is_empty() || pod.proxy().is_some())
}

fn key(pod: &Metadata) -> (String, String) {
    (pod.namespace.clone(), pod.name.clone())
}
