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
    texts::cut,
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
    pub(super) async fn report_conflict(
        &mut self,
        writes: &mut Writes,
        now: BTreeSet<ObjectKey>,
        was_counted: bool,
    ) -> Result<(), Failure> {
        for ObjectKey { namespace, name } in &news(&mut self.in_the_way, now, was_counted) {
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
        said: (EventType, String, String),
        on: &ObjectReference,
    ) -> Result<(), Failure> {
        match writes.send(self.recorder.publish(&event(said), on)).await {
            Ok(()) => Ok(()),
            Err(Failure::NotHeld) => Err(Failure::NotHeld),
            Err(Failure::Refused { why, .. } | Failure::Unavailable(why)) => {
                warn!("an Event is lost: {why}");
                Ok(())
            }
        }
    }
}

fn event((type_, reason, note): (EventType, String, String)) -> Event {
    Event {
        type_,
        reason,
        note: Some(cut(note, LONGEST)),
        action: "Reconcile".into(),
        secondary: None,
    }
}

/// Takes in which attachments are in the way now. Those to say it on.
fn news(
    known: &mut Option<BTreeSet<ObjectKey>>,
    now: BTreeSet<ObjectKey>,
    was_counted: bool,
) -> Vec<ObjectKey> {
    let before = match known.take() {
        Some(before) => before,
        None if was_counted => now.clone(),
        None => BTreeSet::new(),
    };
    let new = now.difference(&before).take(MOST).cloned().collect();
    *known = Some(now);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_created_for_each_attachment_that_gets_in_the_way_and_for_few_at_a_time() {
        let first = |count: usize| -> BTreeSet<_> {
            (0..count)
                .map(|n| ObjectKey::new(&format!("n{n:03}"), "mesh"))
                .collect()
        };
        for (count, expected) in [(MOST, MOST), (MOST + 1, MOST), (300, MOST)] {
            let mut known = None;
            assert_eq!(news(&mut known, first(count), false).len(), expected);
            assert_eq!(news(&mut known, first(count), false), [], "only once");
            let one_more = news(&mut known, first(count + 1), false);
            assert_eq!(one_more, [ObjectKey::new(&format!("n{count:03}"), "mesh")]);
        }
        let mut known = None;
        assert_eq!(news(&mut known, first(3), true), [], "an earlier replica's");
    }

    #[test]
    fn a_note_has_as_many_bytes_as_an_event_takes() {
        for (bytes, kept) in [(LONGEST, LONGEST), (LONGEST + 1, LONGEST)] {
            let event = event((EventType::Warning, String::new(), "a".repeat(bytes)));
            assert_eq!(event.note.unwrap().len(), kept);
        }
    }
}
