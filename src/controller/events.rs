//! Events: when a profile gets ready, or is no longer, and when an attachment is found in the way. One for each transition.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use super::{
    MANAGER,
    conditions::{ATTACHING, READY},
    failure::Failure,
    objects::ProfileObject,
    wanted::ObjectKey,
    writes::Writes,
};
use crate::{profile::Status, reason::Reason};

/// Most bytes of a note: an Event has 1024.
const LONGEST: usize = 1000;
/// Most Events about attachments in the way at a time: the profile's condition counts them all.
const MOST: usize = 10;

pub(super) struct Events {
    recorder: Recorder,
    /// The attachments in the way that are known; `None` before the first look.
    in_the_way: Option<BTreeSet<ObjectKey>>,
}

impl Events {
    pub(super) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: MANAGER.into(),
            instance: Some(instance.into()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            in_the_way: None,
        }
    }

    /// Says what has become of a profile whose status was written.
    pub(super) async fn transition(
        &mut self,
        writes: &mut Writes,
        before: &ProfileObject,
        now: &Status,
    ) -> Result<(), Failure> {
        let ready = |status: &Status| status.conditions.iter().find(|c| c.type_ == READY).cloned();
        let Some(after) = ready(now) else {
            return Ok(());
        };
        let before_it = ready(&before.status);
        let is_same = before_it
            .is_some_and(|b| (b.status, b.reason) == (after.status.clone(), after.reason.clone()));
        if is_same || ATTACHING == after.reason {
            return Ok(()); // that it is not done yet is no news
        }
        let is_ready = after.status == "True";
        let reference = ObjectReference {
            api_version: Some("meshoptin.dev/v1alpha1".into()),
            kind: Some("MeshProfile".into()),
            name: Some(before.profile.name.clone()),
            uid: Some(before.uid.clone()),
            ..ObjectReference::default()
        };
        let note = if is_ready && after.message.is_empty() {
            "the profile is in effect".to_owned()
        } else {
            after.message
        };
        let kind = if is_ready {
            EventType::Normal
        } else {
            EventType::Warning
        };
        let reason = if is_ready {
            READY.to_owned()
        } else {
            after.reason
        };
        self.publish(writes, (kind, reason, note), &reference).await
    }

    /// Says on attachments that they are in the way, once each. After a start those that the profiles' status already counts are known.
    pub(super) async fn in_the_way(
        &mut self,
        writes: &mut Writes,
        now: BTreeSet<ObjectKey>,
        was_counted: bool,
    ) -> Result<(), Failure> {
        let known = match self.in_the_way.take() {
            Some(known) => known,
            None if was_counted => now.clone(),
            None => BTreeSet::new(),
        };
        let new: Vec<_> = now.difference(&known).take(MOST).cloned().collect();
        self.in_the_way = Some(now);
        for ObjectKey { namespace, name } in &new {
            let reference = ObjectReference {
                api_version: Some("k8s.cni.cncf.io/v1".into()),
                kind: Some("NetworkAttachmentDefinition".into()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                ..ObjectReference::default()
            };
            let note = format!(
                "a MeshProfile wants an attachment {name} here, and this one says something else: pods that name it are not in the mesh"
            );
            let reason = Reason::ConflictingAttachment.as_str().to_owned();
            self.publish(writes, (EventType::Warning, reason, note), &reference)
                .await?;
        }
        Ok(())
    }

    async fn publish(
        &self,
        writes: &mut Writes,
        (kind, reason, note): (EventType, String, String),
        on: &ObjectReference,
    ) -> Result<(), Failure> {
        let event = Event {
            type_: kind,
            reason,
            note: Some(note[..note.floor_char_boundary(LONGEST)].to_owned()),
            action: "Reconcile".into(),
            secondary: None,
        };
        match writes.send(self.recorder.publish(&event, on)).await {
            Ok(()) => Ok(()),
            Err(Failure::NotHeld) => Err(Failure::NotHeld),
            Err(Failure::Refused { why, .. } | Failure::Unavailable(why)) => {
                warn!("an Event is lost: {why}");
                Ok(())
            }
        }
    }
}
