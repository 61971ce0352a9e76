//! What is to be done about attachments, and the state of each. Pure.

use std::collections::BTreeMap;

use super::{
    attachment::{Content, Present},
    wanted::{AttachmentOwner, ObjectKey, Wanted},
};
use crate::words::words;

words! {
    /// How an attachment is.
    pub(super) enum AttachmentState("state of an attachment") {
        /// Ours, as it should be.
        Attached = "attached",
        /// Foreign, and it says the same.
        Satisfied = "satisfied",
        /// Foreign, or edited by others, and it says something else.
        Conflicting = "conflicting",
        /// Not there yet, or not as it should be.
        Missing = "missing",
        /// Ours, and nobody wants it.
        Unused = "unused",
    }
}

/// What is to be done, and what is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// To apply, the cluster's first.
    pub(super) apply: Vec<(ObjectKey, AttachmentOwner)>,
    /// Ours that are used again, but are still marked as unused.
    pub(super) unmark: Vec<ObjectKey>,
    /// Ours that nobody wants.
    pub(super) unused: Vec<ObjectKey>,
    pub(super) states: BTreeMap<ObjectKey, AttachmentState>,
}

/// How what is there differs from what is wanted. `conflicts`: whether others now hold fields of an attachment of ours.
pub(super) fn difference(
    wanted: &Wanted,
    present: &BTreeMap<ObjectKey, Present>,
    conflicts: impl Fn(&ObjectKey) -> bool,
) -> Difference {
    let mut difference = Difference::default();
    for (key, owner) in &wanted.attachments {
        let state = match present.get(key) {
            Some(Present {
                owner: None,
                content,
                ..
            }) => match content {
                Content::Ours | Content::Equivalent => AttachmentState::Satisfied,
                Content::Other => AttachmentState::Conflicting,
            },
            Some(there) if there.is_as_wanted(owner) => AttachmentState::Attached,
            Some(there) => {
                difference.apply.push((key.clone(), owner.clone()));
                match (conflicts(key), there.content) {
                    (true, _) => AttachmentState::Conflicting,
                    (false, Content::Ours | Content::Equivalent) => AttachmentState::Attached,
                    (false, Content::Other) => AttachmentState::Missing,
                }
            }
            None => {
                difference.apply.push((key.clone(), owner.clone()));
                AttachmentState::Missing
            }
        };
        difference.states.insert(key.clone(), state);
    }
    difference
        .apply
        .sort_by_key(|(_, owner)| *owner != AttachmentOwner::Shared);
    for (key, there) in present {
        let Some(AttachmentOwner::Profile(_)) = &there.owner else {
            continue; // the cluster's stay until an uninstallation
        };
        if wanted.terminating.contains(&key.namespace) {
            continue; // it goes with its namespace
        }
        if !wanted.is_removable(key) && there.unused_since.is_some() {
            // a profile governs again: its time starts over
            difference.unmark.push(key.clone());
        }
        if wanted.attachments.contains_key(key) {
            continue;
        }
        difference
            .states
            .insert(key.clone(), AttachmentState::Unused);
        if wanted.is_removable(key) {
            difference.unused.push(key.clone());
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(owner: Option<AttachmentOwner>, content: Content) -> Present {
        Present {
            is_only_ours: true,
            uid: "u".into(),
            resource_version: "1".into(),
            owner,
            content,
            unused_since: None,
        }
    }

    #[test]
    fn foreign_attachments_are_never_written_and_ours_are_repaired() {
        let of_a = || Some(AttachmentOwner::Profile("a".into()));
        let mut wanted = Wanted::default();
        let mut present = BTreeMap::new();
        for (name, there) in [
            ("missing", None),
            ("same", Some(there(None, Content::Equivalent))),
            ("other", Some(there(None, Content::Other))),
            ("ours", Some(there(of_a(), Content::Ours))),
            ("edited", Some(there(of_a(), Content::Other))),
            ("taken", Some(there(of_a(), Content::Other))),
        ]
        .iter()
        {
            let key = ObjectKey::new("n", name);
            wanted
                .attachments
                .insert(key.clone(), AttachmentOwner::Profile("a".into()));
            present.extend(there.clone().map(|there| (key, there)));
        }
        let found = difference(&wanted, &present, |key| key.name == "taken");
        let applied: Vec<_> = found
            .apply
            .iter()
            .map(|(key, _)| key.name.as_str())
            .collect();
        assert_eq!(applied, ["edited", "missing", "taken"]);
        let states: Vec<_> = found
            .states
            .iter()
            .map(|(key, state)| format!("{} {state}", key.name))
            .collect();
        assert_eq!(
            states,
            [
                "edited missing",
                "missing missing",
                "other conflicting",
                "ours attached",
                "same satisfied",
                "taken conflicting"
            ]
        );
    }

    #[test]
    fn only_ours_that_no_profile_governs_are_unused() {
        let mut wanted = Wanted::default();
        wanted.kept.insert(ObjectKey::new("governed", "mesh"));
        wanted.terminating.insert("going".into());
        let of_a = || Some(AttachmentOwner::Profile("a".into()));
        let mut marked = there(of_a(), Content::Ours);
        marked.unused_since = Some("2026-01-01T00:00:00Z".into());
        let present = BTreeMap::from([
            (
                ObjectKey::new("default", "mesh"),
                there(Some(AttachmentOwner::Shared), Content::Ours),
            ),
            (
                ObjectKey::new("foreign", "mesh"),
                there(None, Content::Ours),
            ),
            (ObjectKey::new("going", "mesh"), marked.clone()),
            (ObjectKey::new("governed", "mesh"), marked),
            (ObjectKey::new("left", "mesh"), there(of_a(), Content::Ours)),
        ]);
        let found = difference(&wanted, &present, |_| false);
        assert_eq!(found.unused, [ObjectKey::new("left", "mesh")]);
        assert_eq!(found.unmark, [ObjectKey::new("governed", "mesh")]);
        assert!(found.apply.is_empty(), "a mark alone is no other content");
    }
}
