use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    Installed, paths, state,
    trusted::{Privacy, list, read},
};
use crate::{
    profile::{DefaultProfile, Profile, ProfileOrigin},
    reason::{Explanation, Reason},
    words::words,
};

/// A profile with its text, YAML or JSON; the built-in one has none.
pub struct Written {
    /// What the text says.
    pub profile: Profile,
    /// The object as it was written.
    pub text: Option<String>,
}

words! {
    /// Whether the cluster has MeshProfiles.
    pub enum ProfileKind("state of the kind MeshProfile") {
        /// The API server has the kind.
        Served = "served",
        /// The API server does not have the kind, and this node never saw an object of it.
        Unserved = "unserved",
        /// The last profile or the kind was deleted: the kept ones still govern pods that have run.
        Gone = "gone",
    }
}

/// The cluster's profiles as JSON, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfCluster {
    /// The last readable generation of each.
    pub texts: BTreeMap<String, String>,
    /// Whether it has any.
    pub kind: ProfileKind,
}

/// The node's profiles: the admin's files, then those of the agent's copy whose names no file has. None at all: the built-in one, unless
/// the node requires one.
pub fn profiles(default: DefaultProfile) -> Result<Vec<Profile>, Explanation> {
    let all = united(admin_profiles()?, &cluster_profiles()?, default);
    Ok(all.into_iter().map(|w| w.profile).collect())
}

/// The profiles that the admin wrote as files. One that cannot be read is an error.
pub fn admin_profiles() -> Result<Vec<Written>, Explanation> {
    let each = |path: PathBuf| {
        let Some(text) = read(&path, Privacy::Public)? else {
            return Ok(None);
        };
        let invalid =
            |why: String| Reason::NodeConfigInvalid.because(format!("{}: {why}", path.display()));
        let profile = Profile::parse(&text, ProfileOrigin::File(path.clone())).map_err(invalid)?;
        if path.extension().is_some_and(|e| e != "yaml") {
            return Err(invalid("a profile's file must be named <name>.yaml".into()));
        }
        if path.file_stem().and_then(|s| s.to_str()) != Some(profile.name.as_str()) {
            return Err(invalid(format!(
                "its name is {}, which must be the file's",
                profile.name
            )));
        }
        Ok(Some(Written {
            profile,
            text: Some(text),
        }))
    };
    list(Path::new(paths::PROFILES), &["yaml", "yml"])?
        .into_iter()
        .filter_map(|path| each(path).transpose())
        .collect()
}

/// The agent's copy of the cluster's profiles. If an agent is installed and has made no copy yet, it is not known what governs.
fn cluster_profiles() -> Result<OfCluster, Explanation> {
    match kept_profiles()? {
        Some(kept) => Ok(kept),
        None if Installed::load()?.is_some() => Err(Reason::AgentUnavailable
            .because("the node agent does not know yet which MeshProfiles the cluster has")),
        None => Ok(OfCluster {
            texts: BTreeMap::new(),
            kind: ProfileKind::Unserved,
        }),
    }
}

/// What the agent has kept of the cluster's profiles; `None` if it never has, or not all of them.
pub fn kept_profiles() -> Result<Option<OfCluster>, Explanation> {
    let directory = Path::new(paths::PROFILES_SNAPSHOT);
    let Some(names) = read(&directory.join(KEPT), Privacy::Public)? else {
        return Ok(None);
    };
    let mut texts = BTreeMap::new();
    for name in names.lines() {
        match read(&directory.join(format!("{name}.yaml")), Privacy::Public)? {
            Some(text) => drop(texts.insert(name.to_owned(), text)),
            None => return Ok(None),
        }
    }
    // version 0.1.0 wrote none: it has profiles, or did not say why not
    let kind = read(&directory.join(KIND), Privacy::Public)?;
    let kind = kind.and_then(|word| word.trim_end().parse().ok());
    let kind = kind.unwrap_or(if texts.is_empty() {
        ProfileKind::Unserved
    } else {
        ProfileKind::Served
    });
    Ok(Some(OfCluster { texts, kind }))
}

/// Whether the cluster has the kind, as a word.
const KIND: &str = ".kind";
/// The list of all profiles that are kept: written last, and absent during a change.
const KEPT: &str = ".names";

/// Keeps the cluster's profiles. Returns the first failure; the rest is done all the same.
pub fn keep_profiles(of_cluster: &OfCluster) -> Result<(), Explanation> {
    let directory = Path::new(paths::PROFILES_SNAPSHOT);
    if kept_profiles().is_ok_and(|kept| kept.as_ref() == Some(of_cluster)) {
        return Ok(());
    }
    let OfCluster {
        texts: profiles,
        kind,
    } = of_cluster;
    state::private(directory)?;
    let failed = |path: &Path, e: std::io::Error| state::unusable(path, &e);
    match std::fs::remove_file(directory.join(KEPT)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(directory, error)),
        Err(_) | Ok(()) => {}
    }
    let path = |name: &String| directory.join(format!("{name}.yaml"));
    let mut done = profiles
        .iter()
        .map(|(name, text)| state::replace(&path(name), text.as_bytes(), 0o600))
        .fold(Ok(()), Result::and);
    for old in list(directory, &["yaml"])? {
        if !profiles.keys().any(|name| path(name) == old) {
            done = done.and(std::fs::remove_file(&old).map_err(|e| failed(&old, e)));
        }
    }
    done?;
    let word = format!("{kind}\n");
    state::replace(&directory.join(KIND), word.as_bytes(), 0o600)?;
    let names: String = profiles.keys().map(|name| format!("{name}\n")).collect();
    state::replace(&directory.join(KEPT), names.as_bytes(), 0o600)
}

/// Reads a profile of the cluster from its name and text.
pub fn cluster_profile(name: &str, text: String) -> Written {
    let origin =
        ProfileOrigin::File(Path::new(paths::PROFILES_SNAPSHOT).join(format!("{name}.yaml")));
    Written {
        profile: Profile::of_cluster(name, &text, origin),
        text: Some(text),
    }
}

/// Merges both; an admin's profile takes precedence over the cluster's of the same name.
pub fn united(admin: Vec<Written>, cluster: &OfCluster, default: DefaultProfile) -> Vec<Written> {
    let mut all = admin;
    for (name, text) in &cluster.texts {
        if !all.iter().any(|w| w.profile.name == *name) {
            let mut written = cluster_profile(name, text.clone());
            written.profile.is_gone = cluster.kind == ProfileKind::Gone;
            all.push(written);
        }
    }
    let has_one = all.iter().any(|w| !w.profile.is_gone);
    let is_built_in = match default {
        DefaultProfile::BuiltIn => !has_one,
        DefaultProfile::Auto => !has_one && cluster.kind == ProfileKind::Unserved,
        DefaultProfile::Required => false,
    };
    if is_built_in {
        return vec![Written {
            profile: Profile::built_in(),
            text: None,
        }];
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_profiles_the_node_configuration_decides_what_governs() {
        let text = r#"{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{"name":"p"}}"#;
        let governs = |default, kind, has_texts: bool| {
            let texts = [("p".to_owned(), text.to_owned())];
            let cluster = OfCluster {
                texts: texts.into_iter().take(usize::from(has_texts)).collect(),
                kind,
            };
            let all = united(Vec::new(), &cluster, default);
            let word = |w: &Written| match (&w.text, w.profile.is_gone) {
                (None, _) => "built-in",
                (Some(_), true) => "gone",
                (Some(_), false) => "p",
            };
            all.iter().map(word).collect::<Vec<_>>()
        };
        for (default, unserved, none, gone) in [
            (DefaultProfile::Auto, vec!["built-in"], vec![], vec!["gone"]),
            (
                DefaultProfile::BuiltIn,
                vec!["built-in"],
                vec!["built-in"],
                vec!["built-in"],
            ),
            (DefaultProfile::Required, vec![], vec![], vec!["gone"]),
        ] {
            assert_eq!(
                governs(default, ProfileKind::Unserved, false),
                unserved,
                "{default}"
            );
            assert_eq!(
                governs(default, ProfileKind::Served, false),
                none,
                "{default}"
            );
            assert_eq!(governs(default, ProfileKind::Gone, true), gone, "{default}");
            assert_eq!(
                governs(default, ProfileKind::Served, true),
                ["p"],
                "{default}"
            );
        }
    }
}
