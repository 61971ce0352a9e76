//! Which attachments there should be. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    mesh::candidates,
    profile::{Placement, Profile},
};

/// The namespace of the attachments that belong to the whole cluster.
pub(super) const SHARED_NAMESPACE: &str = "default";

/// Which object of a kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectKey {
    /// Empty where the kind has no namespaces.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A namespace, as far as it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) is_terminating: bool,
}

/// Whose an attachment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttachmentOwner {
    /// The cluster's.
    Shared,
    /// The profile's of this name.
    Profile(String),
}

/// What profiles want of the cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) attachments: BTreeMap<ObjectKey, AttachmentOwner>,
    /// Nobody asks for these, but a profile that has an attachment of that name governs the namespace.
    pub(super) kept: BTreeSet<ObjectKey>,
    /// By profile, the namespaces that it alone governs and does not exclude.
    pub(super) governed: BTreeMap<String, Vec<String>>,
    /// Namespaces that several profiles govern, with their names.
    pub(super) ambiguous: BTreeMap<String, Vec<String>>,
    /// Namespaces that are being deleted: nothing is written there.
    pub(super) terminating: BTreeSet<String>,
    /// Of some profile it cannot be told what it governs: nothing is removed.
    pub(super) is_partial: bool,
}

/// The attachments that these profiles want in these namespaces. A namespace that several profiles govern gets nothing and loses nothing, as
/// does one whose profile cannot be read.
pub(super) fn wanted(profiles: &[Profile], namespaces: &BTreeMap<ObjectKey, Namespace>) -> Wanted {
    let mut wanted = Wanted::default();
    for profile in profiles {
        wanted.governed.insert(profile.name.clone(), Vec::new());
        let attachment = &profile.spec.attachment;
        let unreadable = profile.unreadable.as_ref();
        wanted.is_partial |= unreadable.is_some_and(|it| it.governs_unknown);
        if attachment.placement != Placement::None {
            // also where the rest of the profile cannot be read: pods name it
            let key = ObjectKey::new(SHARED_NAMESPACE, &attachment.name);
            wanted.attachments.insert(key, AttachmentOwner::Shared);
        }
    }
    let all: Vec<_> = profiles.iter().collect();
    for (ObjectKey { name, .. }, namespace) in namespaces {
        if namespace.is_terminating {
            wanted.terminating.insert(name.clone());
        } else {
            wanted.add(name, &candidates(&all, &namespace.labels));
        }
    }
    wanted
}

impl Wanted {
    fn add(&mut self, namespace: &str, governing: &[&Profile]) {
        for profile in governing {
            let name = &profile.spec.attachment.name;
            self.kept.insert(ObjectKey::new(namespace, name));
            // what it says of its attachment is not known
            self.is_partial |= profile.unreadable.is_some();
        }
        let [profile] = governing else {
            if !governing.is_empty() {
                let names = governing.iter().map(|p| p.name.clone()).collect();
                self.ambiguous.insert(namespace.to_owned(), names);
            }
            return;
        };
        if profile.unreadable.is_some() || profile.spec.excludes(namespace) {
            return;
        }
        let governed = self.governed.entry(profile.name.clone()).or_default();
        governed.push(namespace.to_owned());
        let attachment = &profile.spec.attachment;
        if attachment.placement == Placement::PerNamespace {
            let key = ObjectKey::new(namespace, &attachment.name);
            let owner = AttachmentOwner::Profile(profile.name.clone());
            self.attachments.entry(key).or_insert(owner); // the shared one serves its own namespace
        }
    }

    /// Whether an attachment of ours that nobody wants may be removed.
    pub(super) fn is_removable(&self, key: &ObjectKey) -> bool {
        !self.is_partial
            && !self.terminating.contains(&key.namespace)
            && !self.attachments.contains_key(key)
            && !self.kept.contains(key)
    }
}

impl ObjectKey {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::ProfileOrigin;

    fn profile(name: &str, spec: &str) -> Profile {
        let json = format!(
            r#"{{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
        );
        Profile::of_cluster(name, &json, ProfileOrigin::BuiltIn)
    }

    fn namespaces(list: &[(&str, &str)]) -> BTreeMap<ObjectKey, Namespace> {
        let one = |(name, team): &(&str, &str)| {
            let labels = [("team".to_owned(), (*team).to_owned())].into();
            let is_terminating = *team == "terminating";
            let namespace = Namespace {
                labels,
                is_terminating,
            };
            (ObjectKey::new("", name), namespace)
        };
        list.iter().map(one).collect()
    }

    fn keys(wanted: &Wanted) -> Vec<String> {
        let keys = wanted.attachments.keys();
        keys.map(|k| format!("{}/{}", k.namespace, k.name))
            .collect()
    }

    const A: &str =
        r#"{"namespaces":{"matchLabels":{"team":"a"}},"attachment":{"placement":"PerNamespace"}}"#;

    #[test]
    fn each_governed_namespace_gets_one_and_default_the_shared_one() {
        let namespaces = namespaces(&[
            ("a1", "a"),
            ("b1", "b"),
            ("default", "a"),
            ("kube-system", "a"),
            ("going", "terminating"),
        ]);
        let profiles = [profile("a", A), profile("rest", "{}")];
        let wanted = wanted(&profiles, &namespaces);
        assert_eq!(keys(&wanted), ["a1/istio-cni", "default/istio-cni"]);
        let shared = ObjectKey::new("default", "istio-cni");
        assert_eq!(wanted.attachments[&shared], AttachmentOwner::Shared);
        assert_eq!(wanted.governed["a"], ["a1", "default"]);
        assert_eq!(wanted.governed["rest"], ["b1"]);
        assert!(wanted.is_removable(&ObjectKey::new("b1", "older")));
        assert!(!wanted.is_removable(&ObjectKey::new("going", "older")));
        assert!(!wanted.is_removable(&ObjectKey::new("b1", "istio-cni")));
    }

    #[test]
    fn an_ambiguous_namespace_gets_nothing_and_loses_nothing() {
        let b = A.replace("PerNamespace", "Shared");
        let profiles = [profile("a", A), profile("b", &b)];
        let wanted = wanted(&profiles, &namespaces(&[("a1", "a")]));
        assert_eq!(keys(&wanted), ["default/istio-cni"]);
        assert_eq!(wanted.ambiguous["a1"], ["a", "b"]);
        assert!(!wanted.is_removable(&ObjectKey::new("a1", "istio-cni")));
    }

    #[test]
    fn nothing_is_removed_while_a_profile_cannot_be_read() {
        for (spec, shared) in [
            (r#"{"namespaces":7}"#, Some("istio-cni")),
            (
                r#"{"fromTheFuture":1,"attachment":{"name":"mesh","placement":"PerNamespace"}}"#,
                Some("mesh"),
            ),
            (r#"{"attachment":{"placement":"None","later":1}}"#, None),
            (r#"{"attachment":{"name":"../x"}}"#, None),
        ] {
            let profiles = [profile("a", spec)];
            let wanted = wanted(&profiles, &namespaces(&[("a1", "a")]));
            assert!(
                !wanted.is_removable(&ObjectKey::new("a1", "older")),
                "{spec}"
            );
            let shared = shared.map(|name| format!("default/{name}"));
            assert_eq!(keys(&wanted), Vec::from_iter(shared), "{spec}");
        }
    }

    #[test]
    fn placement_none_asks_for_no_attachment() {
        let profiles = [profile("a", r#"{"attachment":{"placement":"None"}}"#)];
        let wanted = wanted(&profiles, &namespaces(&[("a1", "a")]));
        assert!(wanted.attachments.is_empty());
        assert_eq!(wanted.governed["a"], ["a1"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        /// Whatever there is: only namespaces that are there and stay get one, each of one owner that governs it alone, and what is wanted is
        /// never removable.
        #[test]
        fn what_is_wanted_is_governed_by_one_profile(
            teams in proptest::collection::vec(0..4u8, 0..12),
            profiles in proptest::collection::vec((0..5u8, 0..3u8), 0..5),
        ) {
            let list: Vec<_> = teams.iter().enumerate().map(|(n, team)| (format!("n{n}"), format!("t{team}"))).collect();
            let list: Vec<_> = list.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
            let namespaces = namespaces(&list);
            let profiles: Vec<_> = profiles.iter().enumerate().map(|(n, (team, placement))| {
                let placement = ["Shared", "PerNamespace", "None"][usize::from(*placement)];
                let spec = if *team == 4 {
                    r#"{}"#.to_owned()
                } else {
                    format!(r#"{{"namespaces":{{"matchLabels":{{"team":"t{team}"}}}},"attachment":{{"placement":"{placement}"}}}}"#)
                };
                profile(&format!("p{n}"), &spec)
            }).collect();
            let wanted = wanted(&profiles, &namespaces);
            for (key, owner) in &wanted.attachments {
                prop_assert!(!wanted.is_removable(key));
                match owner {
                    AttachmentOwner::Shared => prop_assert_eq!(&key.namespace, SHARED_NAMESPACE),
                    AttachmentOwner::Profile(name) => {
                        prop_assert!(wanted.governed[name].contains(&key.namespace));
                        prop_assert!(!wanted.ambiguous.contains_key(&key.namespace));
                    }
                }
            }
            let governed: usize = wanted.governed.values().map(Vec::len).sum();
            prop_assert!(governed + wanted.ambiguous.len() <= namespaces.len());
        }
    }
}
