use std::path::Path;

use super::{
    DefaultProfile, paths,
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

/// The node's profiles: the admin's files, then those of the agent's snapshot whose names no file has. None at all: the built-in one,
/// unless the node requires one.
pub fn profiles(default: DefaultProfile) -> Result<Vec<Profile>, Explanation> {
    Ok(written_profiles(default)?.into_iter().map(|w| w.profile).collect())
}

/// The node's profiles with their texts.
pub fn written_profiles(default: DefaultProfile) -> Result<Vec<Written>, Explanation> {
    let mut all: Vec<Written> = Vec::new();
    for directory in [paths::PROFILES, paths::PROFILES_SNAPSHOT] {
        for path in list(Path::new(directory), &["yaml", "yml"])? {
            let Some(text) = read(&path, Privacy::Public)? else { continue };
            let invalid = |why: String| Reason::NodeConfigInvalid.because(format!("{}: {why}", path.display()));
            let profile = Profile::parse(&text, ProfileOrigin::File(path.clone())).map_err(invalid)?;
            if path.extension().is_some_and(|e| e != "yaml") {
                return Err(invalid("a profile's file must be named <name>.yaml".into()));
            }
            if path.file_stem().and_then(|s| s.to_str()) != Some(profile.name.as_str()) {
                return Err(invalid(format!("its name is {}, which must be the file's", profile.name)));
            }
            if !all.iter().any(|w| w.profile.name == profile.name) {
                all.push(Written { profile, text: Some(text) });
            }
        }
    }
    match default {
        DefaultProfile::BuiltIn if all.is_empty() => Ok(vec![Written { profile: Profile::built_in(), text: None }]),
        DefaultProfile::BuiltIn | DefaultProfile::Required => Ok(all),
    }
}
