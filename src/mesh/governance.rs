use super::{Namespace, Pod, Profile, Unreadable};
use crate::reason::{Explanation, Reason, quote};

/// The profile that governs a pod and can be read, for an attachment that may name one. A pod that has run is not stranded by a name that
/// no longer governs: with that as a warning, the profile that does is taken.
pub fn governing<'a>(
    profiles: &'a [Profile],
    namespace: &Namespace,
    pod: &Pod,
    named: Option<&str>,
) -> Result<(&'a Profile, Option<Explanation>), Explanation> {
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
    let profile = the_one(profiles, namespace)?;
    if let Some(why) = &profile.unreadable {
        return unreadable(profile, why, "governs");
    }
    let Some(asked) = named.filter(|name| *name != profile.name) else {
        return Ok((profile, None));
    };
    let (is_there, asked) = (profiles.iter().any(|p| p.name == asked), quote(asked));
    if pod.has_run() {
        let cause = format!(
            "the attachment names MeshProfile {asked}, which does not govern namespace {}; {} does",
            namespace.metadata.name, profile.name
        );
        return Ok((profile, Some(Reason::ProfileNotAllowed.because(cause))));
    }
    Err(if is_there {
        let name = &namespace.metadata.name;
        Reason::ProfileNotAllowed.because(format!(
            "MeshProfile {asked} does not govern namespace {name}"
        ))
    } else {
        Reason::UnknownProfile.because(format!(
            "the attachment names MeshProfile {asked}, which does not exist"
        ))
    })
}

/// The profile that governs a namespace: one whose selector matches beats one without a selector.
fn the_one<'a>(profiles: &'a [Profile], namespace: &Namespace) -> Result<&'a Profile, Explanation> {
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
            governing(
                &profiles,
                &fixtures::namespace(labels),
                &Pod::default(),
                asked,
            )
            .map(|(p, _)| p.name.clone())
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
            Err(Reason::AmbiguousProfile),
            "a tenant does not choose the laxer of two"
        );
        assert_eq!(pick(&[("team", "a")], Some("a")), Ok("a".into()));
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
            &Pod::default(),
            None,
        )
        .unwrap_err();
        assert!(
            error
                .cause
                .starts_with("MeshProfile broken, which may govern namespace "),
            "{error}"
        );
        assert_eq!(
            governing(&[], &Namespace::default(), &Pod::default(), None)
                .unwrap_err()
                .reason,
            Reason::UnknownProfile
        );
    }

    #[test]
    fn a_pod_that_has_run_is_not_stranded_by_a_name_that_no_longer_governs() {
        let profiles = [
            profile("all", "{}"),
            profile("a", "{matchLabels: {team: a}}"),
        ];
        let mut pod = Pod::default();
        pod.status
            .container_statuses
            .push(serde_json::from_str(r#"{"containerID":"x"}"#).unwrap());
        for named in ["a", "gone"] {
            let (profile, warning) =
                governing(&profiles, &Namespace::default(), &pod, Some(named)).unwrap();
            assert_eq!(
                (profile.name.as_str(), warning.unwrap().reason),
                ("all", Reason::ProfileNotAllowed)
            );
        }
        let (_, warning) = governing(&profiles, &Namespace::default(), &pod, Some("all")).unwrap();
        assert_eq!(warning, None);
    }
}
