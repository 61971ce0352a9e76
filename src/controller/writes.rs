//! Writing: at a pace that a cluster does not feel, and not again at once what was refused.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
    core::ApiResource,
};
use serde_json::{Value, json};
use tracing::warn;

use super::{
    MANAGER,
    attachment::{self, Present, UNUSED_SINCE},
    failure::{Failure, within},
    view::View,
    wanted::{Key, Owner},
};

/// Between two writes: 20 a second.
const APART: Duration = Duration::from_millis(50);
/// Before a refused write is tried again: the first pause, and the longest.
const REFUSED: Duration = Duration::from_secs(15);
const REFUSED_LONGEST: Duration = Duration::from_secs(600);

/// What was refused of an object.
struct Refusal {
    /// The object as it was seen, if it was there.
    about: Option<Present>,
    why: String,
    is_conflict: bool,
    pause: Duration,
    until: Instant,
}

/// All writes go through it.
pub(super) struct Writes {
    pub(super) client: Client,
    next: Instant,
    refused: BTreeMap<Key, Refusal>,
}

impl Writes {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            next: Instant::now(),
            refused: BTreeMap::new(),
        }
    }

    /// Waits for the turn of one request.
    pub(super) async fn turn(&mut self) {
        tokio::time::sleep_until(self.next.into()).await;
        self.next = self.next.max(Instant::now()) + APART;
    }

    /// Whether a write of this attachment may be tried.
    pub(super) fn may_try(&self, key: &Key) -> bool {
        let refusal = self.refused.get(key);
        refusal.is_none_or(|refusal| refusal.until <= Instant::now())
    }

    /// Whether others hold what we would write.
    pub(super) fn is_conflict(&self, key: &Key) -> bool {
        self.refused.get(key).is_some_and(|r| r.is_conflict)
    }

    /// Why attachments cannot be written.
    pub(super) fn refusals(&self) -> BTreeMap<Key, String> {
        let refused = self.refused.iter();
        refused.map(|(k, r)| (k.clone(), r.why.clone())).collect()
    }

    /// Forgets what is no longer to be written, or was refused of an object that is not there or has changed since.
    pub(super) fn forget_but(
        &mut self,
        is_kept: impl Fn(&Key) -> bool,
        present: &BTreeMap<Key, Present>,
    ) {
        self.refused.retain(|key, refusal| {
            let is_same = match (&refusal.about, present.get(key)) {
                (None, None) => true,
                (Some(before), Some(now)) => before.says_as(now),
                (None, Some(_)) | (Some(_), None) => false,
            };
            is_kept(key) && is_same
        });
    }

    /// Forgets what was refused of one.
    pub(super) fn forget(&mut self, key: &Key) {
        self.refused.remove(key);
    }

    /// Whether a write of this one was refused long enough ago.
    pub(super) fn is_to_retry(&self, key: &Key) -> bool {
        self.refused.contains_key(key) && self.may_try(key)
    }

    /// When a refused write may be tried next.
    pub(super) fn next_try(&self) -> Option<Duration> {
        let next = self.refused.values().map(|refusal| refusal.until).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Creates an attachment that was not seen, or applies it to the object that was. What others hold is never taken from them.
    pub(super) async fn apply(
        &mut self,
        view: &View,
        (key, owner): (&Key, &Owner),
        seen: Option<&Present>,
        unused_since: Option<&str>,
    ) -> Result<(), Failure> {
        self.turn().await;
        let api = self.attachments(&key.namespace);
        let object = attachment::object(key, owner, unused_since, seen);
        let answer = if let Some(seen) = seen {
            let mut params = PatchParams::apply(MANAGER);
            // what we have created we hold by another operation than what we apply, which is a conflict with ourselves
            params.force = seen.is_only_ours;
            within(api.patch(&key.name, &params, &Patch::Apply(&object))).await
        } else {
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            match serde_json::from_value(object) {
                Ok(object) => within(api.create(&params, &object)).await,
                Err(error) => Err(Failure::Refused {
                    is_conflict: false,
                    why: error.to_string(),
                }),
            }
        };
        // it has changed: the watch reports its current state
        let is_news = seen.is_none_or(|seen| seen.is_only_ours);
        self.settle(view, key, seen, is_news, answer)
    }

    /// Clears the mark that an attachment is unused, whoever has set it.
    pub(super) async fn unmark(
        &mut self,
        view: &View,
        key: &Key,
        seen: &Present,
    ) -> Result<(), Failure> {
        self.turn().await;
        let patch = json!({"metadata": {
            "uid": seen.uid,
            "resourceVersion": seen.resource_version,
            "annotations": {UNUSED_SINCE: null},
        }});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let api = self.attachments(&key.namespace);
        let answer = within(api.patch(&key.name, &params, &Patch::Merge(&patch))).await;
        self.settle(view, key, Some(seen), true, answer)
    }

    /// Takes in the answer to a write. A conflict is no refusal where `is_news`: the watch explains it.
    fn settle(
        &mut self,
        view: &View,
        key: &Key,
        seen: Option<&Present>,
        is_news: bool,
        answer: Result<DynamicObject, Failure>,
    ) -> Result<(), Failure> {
        match answer {
            Ok(object) => {
                self.forget(key);
                view.made(object);
                Ok(())
            }
            Err(Failure::Refused {
                is_conflict: true, ..
            }) if is_news => {
                self.forget(key);
                Ok(())
            }
            Err(Failure::Refused { is_conflict, why }) => {
                self.refuse(key, seen, is_conflict, why);
                Ok(())
            }
            Err(unavailable) => Err(unavailable),
        }
    }

    /// Keeps that a write was refused: it is tried again after a pause, or once the object is another.
    pub(super) fn refuse(
        &mut self,
        key: &Key,
        seen: Option<&Present>,
        is_conflict: bool,
        why: String,
    ) {
        let before = self.refused.get(key);
        if before.is_none_or(|before| before.why != why) {
            let Key { namespace, name } = key;
            warn!("attachment {namespace}/{name} cannot be written: {why}");
        }
        let pause = before.map_or(REFUSED, |r| (r.pause * 2).min(REFUSED_LONGEST));
        let refusal = Refusal {
            about: seen.cloned(),
            why,
            is_conflict,
            pause,
            until: Instant::now() + pause,
        };
        self.refused.insert(key.clone(), refusal);
    }

    /// Deletes an attachment as it was seen, not what took its place.
    pub(super) async fn delete(
        &mut self,
        view: &View,
        key: &Key,
        seen: &Present,
    ) -> Result<(), Failure> {
        self.turn().await;
        let preconditions = Preconditions {
            uid: Some(seen.uid.clone()),
            resource_version: Some(seen.resource_version.clone()),
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let api = self.attachments(&key.namespace);
        match within(api.delete(&key.name, &params)).await {
            Ok(_) => {
                self.forget(key);
                view.removed(key);
            }
            Err(Failure::Refused {
                is_conflict: true, ..
            }) => self.forget(key), // the watch says what it is now
            Err(Failure::Refused {
                is_conflict: false,
                why,
            }) => self.refuse(key, Some(seen), false, why),
            Err(unavailable) => return Err(unavailable),
        }
        Ok(())
    }

    /// Writes the status of an object, which is ours.
    pub(super) async fn status(
        &mut self,
        resource: &ApiResource,
        name: &str,
        object: &Value,
    ) -> Result<(), Failure> {
        self.turn().await;
        let api = Api::<DynamicObject>::all_with(self.client.clone(), resource);
        let params = PatchParams::apply(MANAGER).force();
        within(api.patch_status(name, &params, &Patch::Apply(object)))
            .await
            .map(|_| ())
    }

    fn attachments(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &attachment::resource())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::attachment::object;

    fn seen(owner: &Owner) -> Present {
        let object = object(&Key::new("n", "mesh"), owner, None, None);
        attachment::present(serde_json::from_value(object).unwrap()).1
    }

    #[tokio::test]
    async fn a_refusal_is_forgotten_once_its_object_has_changed_or_is_not_to_be_written() {
        let client = Client::try_from(kube::Config::new(http::Uri::from_static("http://[::1]:1")));
        let mut writes = Writes::new(client.unwrap());
        let (key, edited) = (Key::new("n", "mesh"), seen(&Owner::Shared));
        let mut touched = edited.clone();
        touched.resource_version = "8".into();
        let mut reverted = edited.clone();
        reverted.is_only_ours = !edited.is_only_ours;
        for (about, now, is_wanted, is_kept) in [
            (Some(&edited), Some(&edited), true, true),
            (Some(&edited), Some(&touched), true, true),
            (Some(&edited), Some(&reverted), true, false),
            (Some(&edited), None, true, false),
            (None, None, true, true),
            (None, Some(&edited), true, false),
            (Some(&edited), Some(&edited), false, false),
        ] {
            writes.refuse(&key, about, false, "no".into());
            assert!(!writes.may_try(&key) && writes.next_try().is_some());
            let present = now.map(|now| (key.clone(), now.clone()));
            writes.forget_but(|_| is_wanted, &present.into_iter().collect());
            assert_eq!(writes.next_try().is_some(), is_kept, "{about:?} {now:?}");
            writes.forget(&key);
        }
    }
}
