use std::path::Path;

use super::{
    DefaultProfile, paths,
    trusted::{Privacy, list, read},
};
use crate::{
    mesh::{Profile, ProfileOrigin},
    reason::{Explanation, Reason},
};

/// The node's profiles: the admin's files, then those of the agent's snapshot whose names no file has. None at all: the built-in one,
/// unless the node requires one.
pub fn profiles(default: DefaultProfile) -> Result<Vec<Profile>, Explanation> {
    let mut all: Vec<Profile> = Vec::new();
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
            if !all.iter().any(|p| p.name == profile.name) {
                all.push(profile);
            }
        }
    }
    match default {
        DefaultProfile::BuiltIn if all.is_empty() => Ok(vec![Profile::built_in()]),
        DefaultProfile::BuiltIn | DefaultProfile::Required => Ok(all),
    }
}
