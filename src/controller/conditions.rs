//! What holds of a profile. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    difference::AttachmentState,
    objects::{Node, ProfileObject},
    texts::cut,
    wanted::{ObjectKey, SHARED_NAMESPACE, Wanted},
};
use crate::{
    profile::{
        MOST_SELECTED, MOST_SELECTORS, NamespaceCounts, Placement, SelectorText, Status, is_newer,
    },
    reason::{Reason, names},
};

/// Most bytes of a message, which may quote what others have written.
const LONGEST: usize = 1024;

/// The types of conditions.
pub(super) const READY: &str = "Ready";
const ACCEPTED: &str = "Accepted";
const ATTACHMENTS_READY: &str = "AttachmentsReady";
const SUSPENDED: &str = "Suspended";

/// Reasons that are not a pod's.
pub(super) const ATTACHING: &str = "Attaching";
const AS_EXPECTED: &str = "AsExpected";
const GOVERNS_NOTHING: &str = "GovernsNothing";
const NOT_REQUESTED: &str = "NotRequested";
const NOT_SUSPENDED: &str = "NotSuspended";
const WRITE_FAILED: &str = "WriteFailed";
const UNKNOWN_TO_AGENTS: &str = "UnknownToAgents";
const NO_ATTACHMENTS: &str = "NoNetworkAttachmentDefinitions";
const SELECTORS_OMITTED: &str = "SelectorsOmitted";

/// What profiles are judged by.
pub(super) struct Evidence<'a> {
    pub(super) profiles: &'a BTreeMap<ObjectKey, ProfileObject>,
    pub(super) wanted: &'a Wanted,
    pub(super) states: &'a BTreeMap<ObjectKey, AttachmentState>,
    /// Why an attachment cannot be written.
    pub(super) refusals: &'a BTreeMap<ObjectKey, String>,
    pub(super) nodes: &'a BTreeMap<ObjectKey, Node>,
    /// Whether the cluster has the kind NetworkAttachmentDefinition.
    pub(super) has_attachments: bool,
}

/// A condition without its times.
struct ConditionDraft {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn found(
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: impl Into<String>,
) -> ConditionDraft {
    ConditionDraft {
        kind,
        status: if holds { "True" } else { "False" },
        reason,
        message: cut(message.into(), LONGEST),
    }
}

impl Evidence<'_> {
    /// The status of a profile.
    pub(super) fn status(&self, object: &ProfileObject, now: Timestamp) -> Status {
        let conditions = self.conditions(object);
        let condition = |found: ConditionDraft| {
            let before = object
                .status
                .conditions
                .iter()
                .find(|c| c.type_ == found.kind);
            let since = before.filter(|c| c.status == found.status);
            Condition {
                last_transition_time: since.map_or(Time(now), |c| c.last_transition_time.clone()),
                message: found.message,
                observed_generation: object.generation,
                reason: found.reason.into(),
                status: found.status.into(),
                type_: found.kind.into(),
            }
        };
        Status {
            observed_generation: object.generation,
            conditions: conditions.into_iter().map(condition).collect(),
            namespaces: Some(self.counts(object)),
            other_selectors: self.other_selectors(object).0,
        }
    }

    fn conditions(&self, object: &ProfileObject) -> [ConditionDraft; 4] {
        let accepted = self.accepted(object);
        let attachments = self.attachments(object);
        let suspended = if object.profile.spec.suspended {
            found(
                SUSPENDED,
                true,
                Reason::Suspended.as_str(),
                Reason::Suspended.sentence(),
            )
        } else {
            found(SUSPENDED, false, NOT_SUSPENDED, "")
        };
        let ready = self.ready(object, &accepted, &attachments, &suspended);
        [accepted, attachments, suspended, ready]
    }

    fn accepted(&self, object: &ProfileObject) -> ConditionDraft {
        let profile = &object.profile;
        if let Some(unreadable) = &profile.unreadable {
            return found(ACCEPTED, false, unreadable.reason.as_str(), &unreadable.why);
        }
        if let Some(why) = &object.breaks {
            return found(ACCEPTED, false, Reason::NodeConfigInvalid.as_str(), why);
        }
        let shared = self.wanted.ambiguous.iter();
        let shared: Vec<_> = shared
            .filter(|(_, by)| by.contains(&profile.name))
            .collect();
        if let Some((_, by)) = shared.first() {
            let others: Vec<_> = by.iter().filter(|name| **name != profile.name).collect();
            let namespaces: Vec<_> = shared.iter().map(|(namespace, _)| namespace).collect();
            let message = format!(
                "MeshProfile {} governs the same namespaces, whose pods are refused: {}; make the selectors disjoint",
                names(&others),
                names(&namespaces)
            );
            return found(ACCEPTED, false, Reason::AmbiguousProfile.as_str(), message);
        }
        let (_, omitted) = self.other_selectors(object);
        if omitted > 0 {
            let message = format!(
                "{omitted} selectors of other profiles are not in status.otherSelectors, which holds at most {MOST_SELECTORS} selectors and {MOST_SELECTED} bytes: admission policies judge their namespaces by this profile, too"
            );
            return found(ACCEPTED, true, SELECTORS_OMITTED, message);
        }
        if self.governed(object).is_empty() {
            return found(
                ACCEPTED,
                true,
                GOVERNS_NOTHING,
                "no namespace is governed by this profile",
            );
        }
        found(ACCEPTED, true, AS_EXPECTED, "")
    }

    fn attachments(&self, object: &ProfileObject) -> ConditionDraft {
        if let Some(unreadable) = &object.profile.unreadable {
            let message = "what it asks for cannot be read; what is there stays";
            return found(
                ATTACHMENTS_READY,
                false,
                unreadable.reason.as_str(),
                message,
            );
        }
        if object.profile.spec.attachment.placement == Placement::None {
            return found(
                ATTACHMENTS_READY,
                true,
                NOT_REQUESTED,
                "attachment.placement is None",
            );
        }
        if !self.has_attachments {
            let message =
                "the cluster has no NetworkAttachmentDefinitions: install Multus with its CRD";
            return found(ATTACHMENTS_READY, false, NO_ATTACHMENTS, message);
        }
        let keys = self.keys(object);
        let of = |state: AttachmentState| {
            let in_state = keys
                .iter()
                .filter(|key| self.states.get(key) == Some(&state));
            in_state
                .map(|key| key.namespace.as_str())
                .collect::<Vec<_>>()
        };
        let name = &object.profile.spec.attachment.name;
        let conflicting = of(AttachmentState::Conflicting);
        if !conflicting.is_empty() {
            let message = format!(
                "another attachment {name} is in the way in {}; remove it, or give the profile's another name",
                names(&conflicting)
            );
            return found(
                ATTACHMENTS_READY,
                false,
                Reason::ConflictingAttachment.as_str(),
                message,
            );
        }
        if let Some((key, why)) = keys.iter().find_map(|key| self.refusals.get_key_value(key)) {
            let message = format!(
                "attachment {}/{name} cannot be written: {why}",
                key.namespace
            );
            return found(ATTACHMENTS_READY, false, WRITE_FAILED, message);
        }
        let missing = of(AttachmentState::Missing);
        if !missing.is_empty() {
            let message = format!(
                "{} of {} attachments are missing",
                missing.len(),
                keys.len()
            );
            return found(ATTACHMENTS_READY, false, ATTACHING, message);
        }
        found(ATTACHMENTS_READY, true, AS_EXPECTED, "")
    }

    fn ready(
        &self,
        object: &ProfileObject,
        accepted: &ConditionDraft,
        attachments: &ConditionDraft,
        suspended: &ConditionDraft,
    ) -> ConditionDraft {
        for wrong in [accepted, attachments] {
            if wrong.status != "True" {
                return found(READY, false, wrong.reason, &wrong.message);
            }
        }
        if suspended.status == "True" {
            return found(READY, false, suspended.reason, &suspended.message);
        }
        if let Some(unknown) = self.unknown_to_agents(object) {
            return found(READY, false, UNKNOWN_TO_AGENTS, unknown);
        }
        found(READY, true, accepted.reason, &accepted.message)
    }

    /// Which nodes have agents that cannot decide by what the profile says, as a message.
    fn unknown_to_agents(&self, object: &ProfileObject) -> Option<String> {
        let (profile, requires) = (&object.profile.name, &object.profile.spec.requires);
        let is_unknown = |node: &Node| {
            let is_older = !requires.is_empty()
                && !node.version.is_empty()
                && is_newer(requires, &node.version);
            is_older || node.cannot_read.iter().any(|name| **name == **profile)
        };
        let nodes = self.nodes.iter();
        let unknown: Vec<_> = nodes.filter(|(_, node)| is_unknown(node)).collect();
        if unknown.is_empty() {
            return None;
        }
        let named = unknown
            .iter()
            .map(|(key, node)| format!("{} ({})", key.name, node.version));
        Some(format!(
            "{} of {} agents are too old to read this generation, and go on by an earlier one or refuse pods: nodes {}; upgrade them",
            unknown.len(),
            self.nodes.len(),
            names(&named.collect::<Vec<_>>())
        ))
    }

    /// The namespaces that the profile alone governs.
    fn governed(&self, object: &ProfileObject) -> &[String] {
        let governed = self.wanted.governed.get(&object.profile.name);
        governed.map_or(&[], Vec::as_slice)
    }

    /// The attachments that the profile asks for.
    fn keys(&self, object: &ProfileObject) -> Vec<ObjectKey> {
        let attachment = &object.profile.spec.attachment;
        let shared = ObjectKey::new(SHARED_NAMESPACE, &attachment.name);
        let mut keys = vec![shared];
        if attachment.placement == Placement::PerNamespace {
            let own = self
                .governed(object)
                .iter()
                .filter(|n| *n != SHARED_NAMESPACE);
            keys.extend(own.map(|namespace| ObjectKey::new(namespace, &attachment.name)));
        }
        keys
    }

    fn counts(&self, object: &ProfileObject) -> NamespaceCounts {
        let governed = self.governed(object);
        let attachment = &object.profile.spec.attachment;
        let state = |namespace: &str| {
            self.states
                .get(&ObjectKey::new(namespace, &attachment.name))
                .copied()
        };
        let (mut attached, mut conflicting) = (0, 0);
        for namespace in governed {
            let state = match attachment.placement {
                Placement::None => None,
                Placement::Shared => state(SHARED_NAMESPACE),
                Placement::PerNamespace => state(namespace),
            };
            match state {
                Some(AttachmentState::Attached | AttachmentState::Satisfied) => attached += 1,
                Some(AttachmentState::Conflicting) => conflicting += 1,
                Some(AttachmentState::Missing | AttachmentState::Unused) | None => {}
            }
        }
        NamespaceCounts {
            governed: governed.len(),
            attached,
            conflicting,
        }
    }

    /// The selectors of other profiles that fit, and how many do not.
    fn other_selectors(&self, object: &ProfileObject) -> (Vec<SelectorText>, usize) {
        if object.profile.spec.selector().is_some() {
            return (Vec::new(), 0);
        }
        let others = self.profiles.values();
        let others = others.filter_map(|other| other.profile.spec.selector());
        fitting(others.map(SelectorText::from))
    }
}

/// Those of the selectors that fit into a status, and how many do not.
fn fitting(all: impl Iterator<Item = SelectorText>) -> (Vec<SelectorText>, usize) {
    let (mut fit, mut omitted, mut left) = (Vec::new(), 0, MOST_SELECTED);
    for selector in all {
        match left.checked_sub(selector.bytes()) {
            Some(rest) if fit.len() < MOST_SELECTORS => {
                left = rest;
                fit.push(selector);
            }
            Some(_) | None => omitted += 1,
        }
    }
    (fit, omitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_that_are_listed_are_bounded_in_number_and_in_bytes() {
        let selector = |value: usize| {
            let text = format!(r#"{{"matchLabels":{{"a":"{}"}}}}"#, "a".repeat(value));
            serde_json::from_str::<SelectorText>(&text).unwrap()
        };
        let (fit, omitted) = fitting((0..300).map(|_| selector(1)));
        assert_eq!((fit.len(), omitted), (MOST_SELECTORS, 300 - MOST_SELECTORS));
        let mixed = (0..12).map(|n| selector(if n % 3 == 0 { 40_000 } else { 1000 }));
        let (fit, omitted) = fitting(mixed);
        assert_eq!((fit.len(), omitted), (9, 3), "the small ones still fit");
        assert!(fit.iter().map(SelectorText::bytes).sum::<usize>() <= MOST_SELECTED);
    }

    #[test]
    fn a_message_that_quotes_others_is_bounded() {
        let long = found(
            READY,
            false,
            WRITE_FAILED,
            "a".to_owned() + &"ä".repeat(9999),
        );
        assert_eq!(long.message.len(), LONGEST - 1);
        assert_eq!(found(READY, false, WRITE_FAILED, "no").message, "no");
    }
}
