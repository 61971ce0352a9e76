use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    DefaultProfile, Installed, paths, state,
    trusted::{Privacy, list, read},
};
use crate::{
    mesh::{Profile, ProfileOrigin},
    reason::{Explanation, Reason},
};

/// A profile with its text, YAML or JSON; the built-in one has none.
pub struct Written {
    /// What the text says.
    pub profile: Profile,
    /// The object as it was written.
    pub text: Option<String>,
}

/// The node's profiles: the admin's files, then those of the agent's copy whose names no file has. None at all: the built-in one, unless
/// the node requires one.
pub fn profiles(default: DefaultProfile) -> Result<Vec<Profile>, Explanation> {
    let all = united(admin_profiles()?, cluster_profiles()?, default);
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

/// The cluster's profiles as the agent has kept them, JSON in files of their names. Where an agent is installed and has kept none yet, what
/// governs is not known.
fn cluster_profiles() -> Result<Vec<Written>, Explanation> {
    let kept = kept_profiles()?;
    if kept.is_none() && Installed::load()?.is_some() {
        return Err(Reason::AgentUnavailable
            .because("the node agent has not learnt yet which MeshProfiles the cluster has"));
    }
    Ok(kept
        .into_iter()
        .flatten()
        .map(|(name, text)| cluster_profile(&name, text))
        .collect())
}

/// The texts of the cluster's profiles that the agent has kept, by name; `None` if it never has, or not all of them.
pub fn kept_profiles() -> Result<Option<Vec<(String, String)>>, Explanation> {
    let directory = Path::new(paths::PROFILES_SNAPSHOT);
    let Some(names) = read(&directory.join(KEPT), Privacy::Public)? else {
        return Ok(None);
    };
    let mut all = Vec::new();
    for name in names.lines() {
        match read(&directory.join(format!("{name}.yaml")), Privacy::Public)? {
            Some(text) => all.push((name.to_owned(), text)),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// The names of all that is kept: written last, gone while anything changes.
const KEPT: &str = ".names";

/// Keeps the texts of the cluster's profiles, by name; the first of what failed, which keeps nothing else from being done.
pub fn keep_profiles(profiles: &BTreeMap<String, String>) -> Result<(), Explanation> {
    let directory = Path::new(paths::PROFILES_SNAPSHOT);
    if kept_profiles()
        .is_ok_and(|kept| kept.is_some_and(|kept| kept.iter().map(|(n, t)| (n, t)).eq(profiles)))
    {
        return Ok(());
    }
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
    let names: String = profiles.keys().map(|name| format!("{name}\n")).collect();
    state::replace(&directory.join(KEPT), names.as_bytes(), 0o600)
}

/// A profile of the cluster, of its name and text.
pub fn cluster_profile(name: &str, text: String) -> Written {
    let origin =
        ProfileOrigin::File(Path::new(paths::PROFILES_SNAPSHOT).join(format!("{name}.yaml")));
    Written {
        profile: Profile::of_cluster(name, &text, origin),
        text: Some(text),
    }
}

/// The admin's win over the cluster's of the same name.
pub fn united(admin: Vec<Written>, cluster: Vec<Written>, default: DefaultProfile) -> Vec<Written> {
    let mut all = admin;
    for of_cluster in cluster {
        if !all
            .iter()
            .any(|w| w.profile.name == of_cluster.profile.name)
        {
            all.push(of_cluster);
        }
    }
    match default {
        DefaultProfile::BuiltIn if all.is_empty() => vec![Written {
            profile: Profile::built_in(),
            text: None,
        }],
        DefaultProfile::BuiltIn | DefaultProfile::Required => all,
    }
}
