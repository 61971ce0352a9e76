use std::collections::BTreeMap;

use super::{Namespace, Pod};
use crate::{
    profile::{Profile, Unreadable},
    reason::{Explanation, Reason, quote},
};

/// The readable profile that governs a pod, for an attachment that may name one. A pod that has run is not refused because the named profile
/// no longer governs: it gets a warning, and the profile that does govern is used.
pub fn governing<'a, P: AsRef<Profile>>(
    profiles: &'a [P],
    namespace: &Namespace,
    pod: &Pod,
    named: Option<&str>,
) -> Result<(&'a P, Option<Explanation>), Explanation> {
    // a profile that was deleted governs only pods that have run, and only where no other profile does
    let (gone, living): (Vec<_>, Vec<_>) = profiles.iter().partition(|p| (**p).as_ref().is_gone);
    let mut chosen = the_one(&living, namespace)?;
    if chosen.is_none() && pod.has_run() {
        chosen = the_one(&gone, namespace)?;
    }
    let Some(found) = chosen else {
        return Err(if living.is_empty() && !gone.is_empty() && !pod.has_run() {
            Reason::UnknownProfile
                .because("the cluster no longer has any MeshProfile: those that it had govern pods that have run, no new ones")
                .remedy("ask the platform admin to create a MeshProfile, or to set defaultProfile: BuiltIn")
        } else {
            let name = &namespace.metadata.name;
            Reason::UnknownProfile.because(format!("no MeshProfile governs namespace {name}"))
        });
    };
    let profile = found.as_ref();
    let Some(asked) = named.filter(|name| *name != profile.name) else {
        return Ok((found, None));
    };
    let is_there = profiles.iter().any(|p| p.as_ref().name == asked);
    let asked = quote(asked);
    if pod.has_run() {
        let cause = format!(
            "the attachment names MeshProfile {asked}, which does not govern namespace {}; {} does",
            namespace.metadata.name, profile.name
        );
        return Ok((found, Some(Reason::ProfileNotAllowed.because(cause))));
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

/// The readable one of these that governs a namespace; `None` where none does.
fn the_one<'a, P: AsRef<Profile>>(
    profiles: &[&'a P],
    namespace: &Namespace,
) -> Result<Option<&'a P>, Explanation> {
    let name = &namespace.metadata.name;
    let unreadable = |profile: &Profile, unreadable: &Unreadable, governs: &str| {
        let (profile, why) = (&profile.name, &unreadable.why);
        unreadable.reason.because(format!(
            "MeshProfile {profile}, which {governs} namespace {name}, cannot be read: {why}"
        ))
    };
    for profile in profiles.iter().map(|p| (**p).as_ref()) {
        if let Some(why) = profile.unreadable.as_ref().filter(|u| u.governs_unknown) {
            return Err(unreadable(profile, why, "may govern"));
        }
    }
    let several = match candidates(profiles, &namespace.metadata.labels).as_slice() {
        [] => return Ok(None),
        [one] => {
            let profile = (**one).as_ref();
            let why = profile.unreadable.as_ref();
            return why.map_or(Ok(Some(*one)), |why| {
                Err(unreadable(profile, why, "governs"))
            });
        }
        several => several
            .iter()
            .map(|p| (**p).as_ref().name.as_str())
            .collect::<Vec<_>>(),
    };
    Err(Reason::AmbiguousProfile.because(format!(
        "namespace {name} is governed by MeshProfiles {}",
        several.join(", ")
    )))
}

/// The profiles that govern a namespace with these labels: those whose selector matches, else those without a selector. More than one: no
/// pod of it can be decided.
pub fn candidates<'a, P: AsRef<Profile>>(
    profiles: &[&'a P],
    labels: &BTreeMap<String, String>,
) -> Vec<&'a P> {
    let selector = |p: &P| p.as_ref().spec.selector().map(|s| s.matches(labels));
    let with = |matches| {
        let those = profiles.iter().filter(move |p| selector(p) == matches);
        those.copied().collect::<Vec<_>>()
    };
    let selected = with(Some(true));
    if selected.is_empty() {
        return with(None);
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mesh::fixtures, profile::ProfileOrigin};

    fn profile(name: &str, namespaces: &str) -> Profile {
        fixtures::profile(name, &format!("{{namespaces: {namespaces}}}"))
    }

    #[test]
    fn a_deleted_profile_governs_pods_that_have_run_where_no_other_does() {
        let mut gone = profile("gone", "{}");
        gone.is_gone = true;
        let mended = profile("mended", "{}");
        let mut ran = Pod::default();
        let status = r#"{"name":"app","containerID":"containerd://1"}"#;
        let status = serde_json::from_str(status).unwrap();
        ran.status.container_statuses.push(status);
        let pick = |profiles: &[Profile], pod: &Pod| {
            governing(profiles, &fixtures::namespace(&[]), pod, None)
                .map(|(p, _)| p.name.clone())
                .map_err(|e| e.reason)
        };
        let (alone, both) = ([gone.clone()], [gone, mended]);
        assert_eq!(pick(&alone, &Pod::default()), Err(Reason::UnknownProfile));
        assert_eq!(pick(&alone, &ran), Ok("gone".into()));
        for pod in [&Pod::default(), &ran] {
            assert_eq!(pick(&both, pod), Ok("mended".into()));
        }
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
            governing::<Profile>(&[], &Namespace::default(), &Pod::default(), None)
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
