//! What the API server has said of one kind of objects, as far as it counts.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::wanted::Key;

/// Objects by name. A list that has begun takes their place once it is complete, so that nothing is forgotten while there is no API server.
pub(super) struct Followed<T> {
    heard: Mutex<Heard<T>>,
    /// Whether a change of an object is none that counts.
    is_same: fn(&T, &T) -> bool,
    changed: Arc<Notify>,
}

/// What was heard.
pub(super) struct Heard<T> {
    pub(super) objects: BTreeMap<Key, T>,
    /// A first list is complete.
    pub(super) is_complete: bool,
    listing: BTreeMap<Key, T>,
}

impl<T: Send + 'static> Followed<T> {
    pub(super) fn new(changed: &Arc<Notify>, is_same: fn(&T, &T) -> bool) -> Self {
        let heard = Heard {
            objects: BTreeMap::new(),
            is_complete: false,
            listing: BTreeMap::new(),
        };
        Self {
            heard: Mutex::new(heard),
            is_same,
            changed: changed.clone(),
        }
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard<T>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows them until it is cancelled. Lists are from the API server's memory.
    pub(super) async fn follow<K>(
        &self,
        what: &str,
        api: Api<K>,
        config: watcher::Config,
        read: impl Fn(K) -> (Key, T),
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let events = watcher(api, config.any_semantic()).default_backoff();
        pin_mut!(events);
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if std::mem::take(&mut is_failing) {
                        info!("{what} are followed again");
                    }
                    if self.heard().hear(event, &read, self.is_same) {
                        self.changed.notify_one();
                    }
                }
                Err(error) => {
                    if is_unserved(&error) {
                        self.heard().is_complete = true; // as an empty list, unless there was one
                        self.changed.notify_one();
                    }
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!("{what} cannot be followed, what is known of them stays: {error}");
                    }
                }
            }
        }
    }
}

/// Whether the cluster does not have the kind.
fn is_unserved(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

impl<T> Heard<T> {
    /// Whether something that counts has changed.
    fn hear<K>(
        &mut self,
        event: Event<K>,
        read: impl Fn(K) -> (Key, T),
        is_same: fn(&T, &T) -> bool,
    ) -> bool {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                let (key, object) = read(object);
                self.listing.insert(key, object);
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.is_complete = true;
                return true;
            }
            Event::Apply(object) => {
                let (key, object) = read(object);
                let is_known = self.objects.get(&key).is_some_and(|k| is_same(k, &object));
                self.objects.insert(key, object);
                return !is_known;
            }
            Event::Delete(object) => {
                self.objects.remove(&read(object).0);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_list_forgets_nothing() {
        let followed = Followed::<u8>::new(&Arc::default(), |a, b| a == b);
        let read = |n: u8| (Key::new("", &n.to_string()), n);
        let mut heard = followed.heard();
        for event in [Event::Init, Event::InitApply(1)] {
            assert!(!heard.hear(event, read, |a, b| a == b));
        }
        assert!(!heard.is_complete && heard.objects.is_empty());
        assert!(heard.hear(Event::InitDone, read, |a, b| a == b) && heard.is_complete);
        for event in [Event::Init, Event::InitApply(2)] {
            assert!(!heard.hear(event, read, |a, b| a == b));
        }
        assert_eq!(heard.objects.values().copied().collect::<Vec<_>>(), [1]);
        assert!(heard.hear(Event::InitDone, read, |a, b| a == b));
        assert!(!heard.hear(Event::Apply(2), read, |a, b| a == b));
        assert!(
            heard.hear(Event::Apply(3), read, |a, b| a == b)
                && heard.hear(Event::Delete(2), read, |a, b| a == b)
        );
        assert_eq!(heard.objects.values().copied().collect::<Vec<_>>(), [3]);
    }
}
