//! Writes, at a pace that puts no load on the cluster. What was refused is not tried again at once.

use std::{
    collections::BTreeMap,
    sync::Arc,
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
    failure::{Failure, with_time_limit},
    lease::Lease,
    refusals::Refusals,
    view::View,
    wanted::{AttachmentOwner, ObjectKey},
};

/// Between two writes: 20 a second.
const APART: Duration = Duration::from_millis(50);
/// All writes go through it, and so do the reads that precede one.
pub(super) struct Writes {
    pub(super) client: Client,
    lease: Arc<Lease>,
    next: Instant,
    /// What was refused of attachments, as they were seen if they were there.
    pub(super) refused: Refusals<Option<Present>>,
}

impl Writes {
    pub(super) fn new(client: Client, lease: Arc<Lease>) -> Self {
        Self {
            client,
            lease,
            next: Instant::now(),
            refused: Refusals::new(),
        }
    }

    /// Sends a request at its turn, if the Lease is held then.
    pub(super) async fn send<T>(
        &mut self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        tokio::time::sleep_until(self.next.into()).await;
        self.next = self.next.max(Instant::now()) + APART;
        with_time_limit(&self.lease, request).await
    }

    /// Forgets what is no longer to be written, or was refused of an object that is not there or has changed since.
    pub(super) fn forget_but(
        &mut self,
        is_kept: impl Fn(&ObjectKey) -> bool,
        present: &BTreeMap<ObjectKey, Present>,
    ) {
        self.refused.retain(|key, about| {
            let is_same = match (about, present.get(key)) {
                (None, None) => true,
                (Some(before), Some(now)) => before.says_as(now),
                (None, Some(_)) | (Some(_), None) => false,
            };
            is_kept(key) && is_same
        });
    }

    /// Creates an attachment that was not seen, or applies it to the object that was. What others hold is never taken from them.
    pub(super) async fn apply(
        &mut self,
        view: &View,
        (key, owner): (&ObjectKey, &AttachmentOwner),
        seen: Option<&Present>,
        unused_since: Option<&str>,
    ) -> Result<(), Failure> {
        let api = self.attachments(&key.namespace);
        let object = attachment::object(key, owner, unused_since, seen);
        let sent = Instant::now();
        let answer = if let Some(seen) = seen {
            let mut params = PatchParams::apply(MANAGER);
            // what we have created we hold by another operation than what we apply, which is a conflict with ourselves
            params.force = seen.is_only_ours;
            self.send(api.patch(&key.name, &params, &Patch::Apply(&object)))
                .await
        } else {
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            match serde_json::from_value(object) {
                Ok(object) => self.send(api.create(&params, &object)).await,
                Err(error) => Err(Failure::Refused {
                    is_conflict: false,
                    why: error.to_string(),
                }),
            }
        };
        // it has changed: the watch reports its current state
        let is_news = seen.is_none_or(|seen| seen.is_only_ours);
        self.settle((view, sent), (key, seen), is_news, answer)
    }

    /// Clears the mark that an attachment is unused, whoever has set it.
    pub(super) async fn unmark(
        &mut self,
        view: &View,
        key: &ObjectKey,
        seen: &Present,
    ) -> Result<(), Failure> {
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
        let sent = Instant::now();
        let answer = self
            .send(api.patch(&key.name, &params, &Patch::Merge(&patch)))
            .await;
        self.settle((view, sent), (key, Some(seen)), true, answer)
    }

    /// Takes in the answer to a write. A conflict is no refusal where `is_news`: the watch explains it.
    fn settle(
        &mut self,
        (view, sent): (&View, Instant),
        (key, seen): (&ObjectKey, Option<&Present>),
        is_news: bool,
        answer: Result<DynamicObject, Failure>,
    ) -> Result<(), Failure> {
        match answer {
            Ok(object) => {
                self.refused.forget(key);
                view.note_written(object, sent);
                Ok(())
            }
            Err(Failure::Refused {
                is_conflict: true, ..
            }) if is_news => {
                self.refused.forget(key);
                Ok(())
            }
            Err(Failure::Refused { is_conflict, why }) => {
                self.refuse(key, seen, is_conflict, why);
                Ok(())
            }
            Err(failure @ (Failure::Unavailable(_) | Failure::NotHeld)) => Err(failure),
        }
    }

    /// Keeps that a write was refused: it is tried again after a pause, or once the object is another.
    pub(super) fn refuse(
        &mut self,
        key: &ObjectKey,
        seen: Option<&Present>,
        is_conflict: bool,
        why: String,
    ) {
        if self
            .refused
            .add(key, seen.cloned(), is_conflict, why.clone())
        {
            let ObjectKey { namespace, name } = key;
            warn!("attachment {namespace}/{name} cannot be written: {why}");
        }
    }

    /// Deletes an attachment as it was seen, not what took its place.
    pub(super) async fn delete(
        &mut self,
        view: &View,
        key: &ObjectKey,
        seen: &Present,
    ) -> Result<(), Failure> {
        let preconditions = Preconditions {
            uid: Some(seen.uid.clone()),
            resource_version: Some(seen.resource_version.clone()),
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let api = self.attachments(&key.namespace);
        match self.send(api.delete(&key.name, &params)).await {
            Ok(_) => {
                self.refused.forget(key);
                view.note_deleted(key, seen);
            }
            Err(Failure::Refused {
                is_conflict: true, ..
            }) => self.refused.forget(key), // the watch says what it is now
            Err(Failure::Refused {
                is_conflict: false,
                why,
            }) => self.refuse(key, Some(seen), false, why),
            Err(failure @ (Failure::Unavailable(_) | Failure::NotHeld)) => return Err(failure),
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
        let api = Api::<DynamicObject>::all_with(self.client.clone(), resource);
        let params = PatchParams::apply(MANAGER).force();
        self.send(api.patch_status(name, &params, &Patch::Apply(object)))
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

    fn seen(owner: &AttachmentOwner) -> Present {
        let object = object(&ObjectKey::new("n", "mesh"), owner, None, None);
        attachment::present(serde_json::from_value(object).unwrap()).1
    }

    #[tokio::test]
    async fn a_refusal_is_forgotten_once_its_object_has_changed_or_is_not_to_be_written() {
        let client = Client::try_from(kube::Config::new(http::Uri::from_static("http://[::1]:1")));
        let mut writes = Writes::new(client.unwrap(), Arc::new(Lease::new()));
        let (key, edited) = (ObjectKey::new("n", "mesh"), seen(&AttachmentOwner::Shared));
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
            assert!(!writes.refused.may_try(&key));
            let present = now.map(|now| (key.clone(), now.clone()));
            writes.forget_but(|_| is_wanted, &present.into_iter().collect());
            assert_eq!(writes.refused.has(&key), is_kept, "{about:?} {now:?}");
            writes.refused.forget(&key);
        }
    }
}
