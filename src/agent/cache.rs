use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    cni::PodRef,
    mesh::{Metadata, Namespace, Pod},
    source::Found,
};

/// A pod of this node, reduced to what decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pod: Pod,
    /// Its containers run, as kubelet says.
    pub(super) is_running: bool,
}

/// This node's pods and their namespaces, as the API server told them last.
pub(super) struct Cache {
    known: Mutex<Known>,
    /// Counts what has changed.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    pods: HashMap<(String, String), Seen>,
    namespaces: HashMap<String, Namespace>,
    is_listed: bool,
    /// When a watch broke last.
    doubted: Option<Instant>,
}

/// For so long after a watch broke, what it would have told may be missing: it is tried again within a minute and told of again.
const DOUBT: Duration = Duration::from_secs(150);

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

    /// Tells of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// All pods of the node: those that were known and are not among them are gone.
    pub(super) fn list(&self, pods: Vec<Seen>) {
        self.change(|known| {
            known.pods = pods
                .into_iter()
                .map(|seen| (key(&seen.pod.metadata), seen))
                .collect();
            known.is_listed = true;
        });
    }

    pub(super) fn put(&self, seen: Seen) {
        self.change(|known| drop(known.pods.insert(key(&seen.pod.metadata), seen)));
    }

    /// Forgets this incarnation of a pod.
    pub(super) fn remove(&self, pod: &Metadata) {
        self.change(|known| {
            if known
                .pods
                .get(&key(pod))
                .is_some_and(|seen| seen.pod.metadata.uid == pod.uid)
            {
                known.pods.remove(&key(pod));
            }
        });
    }

    pub(super) fn put_namespace(&self, namespace: Namespace) {
        self.change(|known| {
            drop(
                known
                    .namespaces
                    .insert(namespace.metadata.name.clone(), namespace),
            )
        });
    }

    pub(super) fn remove_namespace(&self, name: &str) {
        self.change(|known| drop(known.namespaces.remove(name)));
    }

    /// A watch broke: what it gave may be old.
    pub(super) fn doubt(&self) {
        self.known().doubted = Some(Instant::now());
    }

    /// Whether a watch broke lately.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.known().doubted.is_some_and(|at| at.elapsed() < DOUBT)
    }

    /// Whether the node's pods were listed since we started.
    pub(super) fn is_listed(&self) -> bool {
        self.known().is_listed
    }

    /// The names of the namespaces of this node's pods.
    pub(super) fn wanted_namespaces(&self) -> BTreeSet<String> {
        self.known()
            .pods
            .keys()
            .map(|(namespace, _)| namespace.clone())
            .collect()
    }

    /// This incarnation of a pod, with its namespace. Never another: names are used again. Without a UID nothing tells them apart.
    pub(super) fn get(&self, asked: &PodRef) -> Option<Found> {
        let (uid, known) = (asked.uid.as_deref()?, self.known());
        let seen = known
            .pods
            .get(&(asked.namespace.clone(), asked.name.clone()))
            .filter(|seen| seen.pod.is_incarnation(uid))?;
        Some(Found {
            pod: seen.pod.clone(),
            namespace: known.namespaces.get(&asked.namespace)?.clone(),
        })
    }

    /// Every running pod whose namespace is known.
    pub(super) fn running(&self) -> Vec<Found> {
        let known = self.known();
        let found = |seen: &Seen| {
            Some(Found {
                pod: seen.pod.clone(),
                namespace: known.namespaces.get(&seen.pod.metadata.namespace)?.clone(),
            })
        };
        known
            .pods
            .values()
            .filter(|seen| seen.is_running)
            .filter_map(found)
            .collect()
    }

    pub(super) fn size(&self) -> Size {
        let known = self.known();
        Size {
            pods: known.pods.len(),
            namespaces: known.namespaces.len(),
        }
    }

    fn change(&self, how: impl FnOnce(&mut Known)) {
        how(&mut self.known());
        self.changes.send_modify(|count| *count += 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(pod: &Metadata) -> (String, String) {
    (pod.namespace.clone(), pod.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, uid: &str) -> Seen {
        let mut pod = Pod::default();
        (pod.metadata.namespace, pod.metadata.name, pod.metadata.uid) =
            ("ns".into(), name.into(), uid.into());
        Seen {
            pod,
            is_running: true,
        }
    }

    fn asked(name: &str, uid: Option<&str>) -> PodRef {
        PodRef {
            namespace: "ns".into(),
            name: name.into(),
            uid: uid.map(Into::into),
        }
    }

    #[test]
    fn only_the_incarnation_that_is_asked_for_is_answered_and_only_with_its_namespace() {
        let cache = Cache::new();
        cache.put(seen("a", "1"));
        assert!(
            cache.get(&asked("a", Some("1"))).is_none(),
            "its namespace is not known yet"
        );
        let mut namespace = Namespace::default();
        namespace.metadata.name = "ns".into();
        cache.put_namespace(namespace);
        assert!(cache.get(&asked("a", Some("1"))).is_some());
        assert!(
            cache.get(&asked("a", Some("2"))).is_none() && cache.get(&asked("a", None)).is_none()
        );
        cache.put(seen("a", "2"));
        cache.remove(&seen("a", "1").pod.metadata);
        assert!(
            cache.get(&asked("a", Some("2"))).is_some(),
            "the deletion was another incarnation's"
        );
        cache.list(vec![seen("b", "3")]);
        assert!(
            cache.get(&asked("a", Some("2"))).is_none()
                && cache.get(&asked("b", Some("3"))).is_some()
        );
        assert_eq!(
            (cache.running().len(), cache.size()),
            (
                1,
                Size {
                    pods: 1,
                    namespaces: 1
                }
            )
        );
    }
}
