//! When an attachment that no profile wants is removed. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{attachment::Present, wanted::ObjectKey};
use crate::{mesh::annotation::NETWORKS, multus::parse_networks};

const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// What is to be done about one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    /// No pod names it: it says so from now on.
    Mark,
    /// A pod names it: it no longer says that none does.
    Unmark,
    Remove,
}

/// What is to be done about one, of which it was looked whether a pod names it.
pub(super) fn step(present: &Present, is_named: bool, now: Timestamp, after: Duration) -> Step {
    match (is_named, &present.unused_since) {
        (true, None) => Step::Wait,
        (true, Some(_)) => Step::Unmark,
        (false, _) => match ripe_in(present, now, after) {
            None => Step::Mark, // nothing that can be read says since when
            Some(Ripe::Since(_)) => Step::Remove,
            Some(Ripe::In(_)) => Step::Wait,
        },
    }
}

/// When an attachment may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ripe {
    In(Duration),
    Since(Duration),
}

/// When it may be removed; `None` where nothing says since when it is unused.
pub(super) fn ripe_in(present: &Present, now: Timestamp, after: Duration) -> Option<Ripe> {
    let since: Timestamp = present.unused_since.as_ref()?.parse().ok()?;
    let over = now.duration_since(since) - SignedDuration::try_from(after).ok()?;
    let time = over.unsigned_abs();
    Some(if over.is_negative() {
        Ripe::In(time)
    } else {
        Ripe::Since(time)
    })
}

/// Which of these attachments a pod names, as Multus reads its annotations. Of one that cannot be read: in doubt all of the pod's namespace.
pub(super) fn named<'a>(
    asked: &'a BTreeSet<ObjectKey>,
    namespace: &str,
    annotations: &BTreeMap<String, String>,
) -> Vec<&'a ObjectKey> {
    let mut named = Vec::new();
    // of a default network without a namespace Multus takes its own
    for (annotation, own) in [(NETWORKS, namespace), (DEFAULT_NETWORK, "kube-system")] {
        let Some(text) = annotations.get(annotation) else {
            continue;
        };
        match parse_networks(text, own) {
            Ok(networks) => named.extend(
                networks
                    .iter()
                    .filter_map(|(namespace, name)| asked.get(&ObjectKey::new(namespace, name))),
            ),
            Err(_) => named.extend(
                asked
                    .range(ObjectKey::new(namespace, "")..)
                    .take_while(|key| key.namespace == namespace),
            ),
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{attachment::Content, wanted::AttachmentOwner};

    #[test]
    fn only_what_no_pod_has_named_for_a_day_is_removed() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let day = Duration::from_secs(86400);
        for (since, is_named, expected) in [
            (None, false, Step::Mark),
            (None, true, Step::Wait),
            (Some("2026-01-01T00:00:01Z"), false, Step::Wait),
            (Some("2026-01-01T00:00:00Z"), false, Step::Remove),
            (Some("2026-01-01T00:00:00Z"), true, Step::Unmark),
            (Some("yesterday"), false, Step::Mark),
        ] {
            let present = Present {
                is_only_ours: true,
                uid: String::new(),
                resource_version: String::new(),
                owner: Some(AttachmentOwner::Profile("a".into())),
                content: Content::Ours,
                unused_since: since.map(Into::into),
            };
            assert_eq!(
                step(&present, is_named, now, day),
                expected,
                "{since:?} {is_named}"
            );
        }
    }

    #[test]
    fn in_doubt_an_attachment_counts_as_referenced_from_any_namespace() {
        let asked = ["a/mesh", "b/mesh", "b/old", "bb/mesh"].map(|key| {
            let (namespace, name) = key.split_once('/').unwrap();
            ObjectKey::new(namespace, name)
        });
        let asked = BTreeSet::from(asked);
        let shown = |annotation: &str, text: &str| {
            let annotations = BTreeMap::from([(annotation.to_owned(), text.to_owned())]);
            let named = named(&asked, "b", &annotations);
            let named = named
                .iter()
                .map(|key| format!("{}/{}", key.namespace, key.name));
            named.collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            ("mesh", "b/mesh"),
            ("other, a/mesh@net1", "a/mesh"),
            ("a /mesh, /old", "a/mesh b/old"),
            (r#"[{"name":"mesh","namespace":""},{"name":"x"}]"#, "b/mesh"),
            (r#"[{"NAME":"m\u0065sh","Namespace":"a"}]"#, "a/mesh"),
            (r#"[{"name":"mesh""#, "b/mesh b/old"),
            (r#"[{"name":7}]"#, "b/mesh b/old"),
            ("mesh-2,old-mesh,bb/old", ""),
        ] {
            assert_eq!(shown(NETWORKS, text), expected, "{text}");
        }
        assert_eq!(shown(DEFAULT_NETWORK, "a/mesh"), "a/mesh");
        assert_eq!(shown(DEFAULT_NETWORK, "mesh"), "");
    }
}
