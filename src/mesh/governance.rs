use super::{Attachment, Namespace, Profile, Unreadable};
use crate::reason::{Explanation, Reason, quote};

/// The profile that governs a namespace and can be read.
pub fn governing<'a>(
    profiles: &'a [Profile],
    namespace: &Namespace,
    attachment: &Attachment,
) -> Result<&'a Profile, Explanation> {
    let unreadable = |profile: &Profile, unreadable: &Unreadable, governs: &str| {
        let (profile, namespace, why) = (&profile.name, &namespace.metadata.name, &unreadable.why);
        Err(Reason::NodeConfigInvalid.because(format!(
            "MeshProfile {profile}, which {governs} namespace {namespace}, cannot be read: {why}"
        )))
    };
    for profile in profiles {
        if let Some(why) = profile.unreadable.as_ref().filter(|u| u.governs_unknown) {
            return unreadable(profile, why, "may govern");
        }
    }
    let profile = chosen(profiles, namespace, attachment)?;
    match &profile.unreadable {
        None => Ok(profile),
        Some(why) => unreadable(profile, why, "governs"),
    }
}

/// The profile that governs a namespace: one whose selector matches beats one without a selector. An attachment may name a profile,
/// but only one that governs the namespace in its own right.
fn chosen<'a>(
    profiles: &'a [Profile],
    namespace: &Namespace,
    attachment: &Attachment,
) -> Result<&'a Profile, Explanation> {
    let name = &namespace.metadata.name;
    let selected = |p: &&Profile| {
        p.spec
            .selector()
            .is_some_and(|s| s.matches(&namespace.metadata.labels))
    };
    let mut candidates: Vec<_> = profiles.iter().filter(selected).collect();
    if candidates.is_empty() {
        candidates = profiles
            .iter()
            .filter(|p| p.spec.selector().is_none())
            .collect();
    }
    if let Some(asked) = &attachment.profile {
        return match candidates.iter().find(|p| p.name == *asked) {
            Some(profile) => Ok(profile),
            None if profiles.iter().any(|p| p.name == *asked) => Err(Reason::ProfileNotAllowed
                .because(format!(
                    "MeshProfile {} does not govern namespace {name}",
                    quote(asked)
                ))),
            None => Err(Reason::UnknownProfile.because(format!(
                "the attachment names MeshProfile {}, which does not exist",
                quote(asked)
            ))),
        };
    }
    match candidates.as_slice() {
        [one] => Ok(one),
        [] => {
            Err(Reason::UnknownProfile.because(format!("no MeshProfile governs namespace {name}")))
        }
        several => {
            let names: Vec<_> = several.iter().map(|p| p.name.as_str()).collect();
            Err(Reason::AmbiguousProfile.because(format!(
                "namespace {name} is governed by MeshProfiles {}",
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{ProfileOrigin, fixtures};

    fn profile(name: &str, namespaces: &str) -> Profile {
        fixtures::profile(name, &format!("{{namespaces: {namespaces}}}"))
    }

    #[test]
    fn a_matching_selector_beats_none_and_two_are_ambiguous() {
        let profiles = [
            profile("all", "{}"),
            profile("a", "{matchLabels: {team: a}}"),
            profile("gold", "{matchLabels: {tier: gold}}"),
        ];
        let pick = |labels: &[(&str, &str)], asked: Option<&str>| {
            let namespace = fixtures::namespace(labels);
            let attachment = Attachment {
                profile: asked.map(Into::into),
                ..Attachment::default()
            };
            governing(&profiles, &namespace, &attachment)
                .map(|p| p.name.clone())
                .map_err(|e| e.reason)
        };
        assert_eq!(pick(&[], None), Ok("all".into()));
        assert_eq!(pick(&[("team", "a")], None), Ok("a".into()));
        assert_eq!(
            pick(&[("team", "a"), ("tier", "gold")], None),
            Err(Reason::AmbiguousProfile)
        );
        assert_eq!(
            pick(&[("team", "a"), ("tier", "gold")], Some("gold")),
            Ok("gold".into())
        );
        assert_eq!(
            pick(&[("team", "a")], Some("all")),
            Err(Reason::ProfileNotAllowed)
        );
        assert_eq!(
            pick(&[("team", "a")], Some("gold")),
            Err(Reason::ProfileNotAllowed)
        );
        assert_eq!(pick(&[], Some("nope")), Err(Reason::UnknownProfile));
        let broken = Profile::of_cluster(
            "broken",
            r#"{"spec":{"namespaces":7}}"#,
            ProfileOrigin::BuiltIn,
        );
        let error = governing(
            &[profile("all", "{}"), broken],
            &Namespace::default(),
            &Attachment::default(),
        )
        .unwrap_err();
        assert!(
            error
                .cause
                .starts_with("MeshProfile broken, which may govern namespace "),
            "{error}"
        );
        assert_eq!(
            governing(&[], &Namespace::default(), &Attachment::default())
                .unwrap_err()
                .reason,
            Reason::UnknownProfile
        );
    }
}
