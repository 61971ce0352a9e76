//! What the API server has said of one kind of objects, as far as it counts.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, pin_mut};
use kube::{
    Api, Resource, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{
    pauses::{LONGEST, LONGEST_UNSERVED, Pauses},
    wanted::ObjectKey,
};

/// How long a kind may be unserved before its objects are forgotten: an API server that starts does not serve all kinds at once.
const GONE: Duration = Duration::from_secs(60);

/// Objects by name. A list that has begun takes their place once it is complete, so that nothing is forgotten while there is no API server,
/// and nothing is kept that was deleted while nobody watched.
pub(super) struct Followed<T> {
    heard: Mutex<FollowedObjects<T>>,
    /// Whether a change of an object is none that counts.
    is_same: fn(&T, &T) -> bool,
    changed: Arc<Notify>,
}

/// The objects of a kind that were listed and watched.
pub(super) struct FollowedObjects<T> {
    pub(super) objects: BTreeMap<ObjectKey, T>,
    /// A first list is complete.
    pub(super) is_complete: bool,
    /// Since when the cluster has not had the kind.
    pub(super) unserved: Option<Instant>,
    listing: BTreeMap<ObjectKey, T>,
    /// When the last list was complete.
    listed: Option<Instant>,
    /// The newest resourceVersion of an event.
    version: u64,
}

impl<T: Send + 'static> Followed<T> {
    pub(super) fn new(changed: &Arc<Notify>, is_same: fn(&T, &T) -> bool) -> Self {
        let heard = FollowedObjects {
            objects: BTreeMap::new(),
            is_complete: false,
            unserved: None,
            listing: BTreeMap::new(),
            listed: None,
            version: 0,
        };
        Self {
            heard: Mutex::new(heard),
            is_same,
            changed: changed.clone(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FollowedObjects<T>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows them until it is canceled. Lists come in pages, which bounds what is read at a time.
    pub(super) async fn follow<K>(
        &self,
        what: &str,
        api: Api<K>,
        config: watcher::Config,
        read: impl Fn(K) -> (ObjectKey, T),
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut pauses = Pauses::new();
        loop {
            let events = watcher(api.clone(), config.clone());
            pin_mut!(events);
            while let Some(event) = events.next().await {
                let error = match event {
                    Ok(event) => {
                        // that a list begins says nothing: the next one does so, too
                        let is_success = !matches!(event, Event::Init | Event::InitApply(_));
                        if is_success && pauses.succeeded() {
                            info!("{what} are followed again");
                        }
                        if self.lock().hear(event, &read, self.is_same) {
                            self.changed.notify_one();
                        }
                        continue;
                    }
                    Err(error) => error,
                };
                let is_unserved = is_unserved(&error);
                if is_unserved && self.lock().miss(Instant::now()) {
                    self.changed.notify_one();
                }
                let longest = if is_unserved {
                    LONGEST_UNSERVED
                } else {
                    LONGEST
                };
                let (pause, is_first) = pauses.after_failure(Instant::now(), longest);
                if is_first {
                    warn!("{what} cannot be followed, what is known of them stays: {error}");
                }
                tokio::time::sleep(pause).await;
                if is_unserved {
                    break; // where the kind comes back, a watch says nothing of it before something changes, but a list does
                }
            }
        }
    }
}

/// Whether the cluster does not have the kind.
fn is_unserved(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    matches!(error, InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) if status.code == 404)
}

/// A resourceVersion as a number, by which versions of all objects of a kind can be compared.
pub(super) fn version(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

impl<T> FollowedObjects<T> {
    /// Whether something that counts has changed.
    fn hear<K: ResourceExt>(
        &mut self,
        event: Event<K>,
        read: impl Fn(K) -> (ObjectKey, T),
        is_same: fn(&T, &T) -> bool,
    ) -> bool {
        if !matches!(event, Event::Init) {
            self.unserved = None;
        }
        if let Event::Apply(object) | Event::Delete(object) = &event {
            let of_event = object.resource_version().map_or(0, |text| version(&text));
            self.version = self.version.max(of_event);
        }
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                let (key, object) = read(object);
                self.listing.insert(key, object);
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.is_complete = true;
                self.listed = Some(Instant::now());
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

    /// Records that the kind is not served. Before the first list that counts as an empty one; later what is known stays for a while.
    /// Whether that is a change.
    fn miss(&mut self, now: Instant) -> bool {
        let is_news = self.unserved.is_none();
        self.is_complete = true;
        let since = *self.unserved.get_or_insert(now);
        let is_gone = now.duration_since(since) >= GONE && !self.objects.is_empty();
        if is_gone {
            self.objects.clear();
        }
        is_news || is_gone
    }

    /// Takes in what a write made that was sent at this time, before an event says so. Where an event or a list may have been later than what
    /// was made, that counts: the object may be gone since.
    pub(super) fn make(&mut self, key: &ObjectKey, object: T, made: u64, sent: Instant) {
        if made > self.version && self.listed.is_none_or(|listed| listed < sent) {
            self.objects.insert(key.clone(), object);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, version: u32) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    fn read(object: ConfigMap) -> (ObjectKey, u64) {
        let of = object.resource_version().map_or(0, |text| version(&text));
        (ObjectKey::new("", &object.name_any()), of)
    }

    fn hear(heard: &mut FollowedObjects<u64>, event: Event<ConfigMap>) -> bool {
        heard.hear(event, read, |a, b| a == b)
    }

    fn names(heard: &FollowedObjects<u64>) -> Vec<&str> {
        heard.objects.keys().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn an_unfinished_list_forgets_nothing_and_a_complete_one_what_it_does_not_have() {
        let followed = Followed::<u64>::new(&Arc::default(), |a, b| a == b);
        let mut heard = followed.lock();
        for event in [Event::Init, Event::InitApply(object("a", 1))] {
            assert!(!hear(&mut heard, event));
        }
        assert!(!heard.is_complete && heard.objects.is_empty());
        assert!(hear(&mut heard, Event::InitDone) && heard.is_complete);
        for event in [Event::Init, Event::InitApply(object("b", 2))] {
            assert!(!hear(&mut heard, event));
        }
        assert_eq!(names(&heard), ["a"]);
        assert!(hear(&mut heard, Event::InitDone));
        assert_eq!(names(&heard), ["b"]);
        assert!(!hear(&mut heard, Event::Apply(object("b", 2))));
        assert!(hear(&mut heard, Event::Apply(object("c", 3))));
        assert!(hear(&mut heard, Event::Delete(object("b", 4))));
        assert_eq!(names(&heard), ["c"]);
    }

    #[test]
    fn a_kind_that_is_gone_has_no_objects_after_a_while() {
        let followed = Followed::<u64>::new(&Arc::default(), |a, b| a == b);
        let mut heard = followed.lock();
        for event in [
            Event::Init,
            Event::InitApply(object("a", 1)),
            Event::InitDone,
        ] {
            hear(&mut heard, event);
        }
        let start = Instant::now();
        assert!(heard.miss(start) && !heard.miss(start + GONE / 2));
        for event in [
            Event::Init,
            Event::InitApply(object("a", 1)),
            Event::InitDone,
        ] {
            hear(&mut heard, event); // it was an API server that started
        }
        assert!(heard.miss(start + GONE));
        hear(&mut heard, Event::Init); // and the next list fails, too
        assert_eq!(names(&heard), ["a"]);
        assert!(heard.miss(start + GONE * 2) && heard.objects.is_empty());
        assert!(!heard.miss(start + GONE * 3));
    }

    #[test]
    fn the_answer_to_a_write_is_no_news_after_a_later_event_or_list() {
        let followed = Followed::<u64>::new(&Arc::default(), |a, b| a == b);
        let mut heard = followed.lock();
        let sent = Instant::now();
        heard.make(&ObjectKey::new("", "a"), 5, 5, sent);
        assert_eq!(names(&heard), ["a"]);
        hear(&mut heard, Event::Apply(object("b", 7)));
        hear(&mut heard, Event::Delete(object("b", 8)));
        heard.make(&ObjectKey::new("", "b"), 7, 7, sent);
        assert_eq!(names(&heard), ["a"], "made, deleted, and then answered");
        hear(&mut heard, Event::Init);
        hear(&mut heard, Event::InitDone);
        heard.make(&ObjectKey::new("", "c"), 9, 9, sent);
        assert!(heard.objects.is_empty());
        heard.make(&ObjectKey::new("", "c"), 9, 9, Instant::now());
        assert_eq!(names(&heard), ["c"]);
    }
}
