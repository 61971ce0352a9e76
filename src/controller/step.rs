//! When an attachment that no profile wants is removed. Pure.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::attachment::Present;

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

/// Whether the networks that a pod names may be of this name. In doubt they are: of other namespaces, in JSON, as a part of another name.
pub(super) fn may_name(networks: &str, name: &str) -> bool {
    networks.contains(name) || networks.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{attachment::Content, wanted::Owner};

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
                owner: Some(Owner::Profile("a".into())),
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
    fn in_doubt_an_attachment_counts_as_referenced() {
        for named in [
            "mesh",
            "other, team-a/mesh@net1",
            r#"[{"name":"mesh"}]"#,
            r#"[{"name":"m\u0065sh"}]"#,
        ] {
            assert!(may_name(named, "mesh"), "{named}");
        }
        assert!(!may_name("macvlan", "mesh"));
    }
}
