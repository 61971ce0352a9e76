//! CNI configurations for attachments without a spec, which Multus looks up by name in a directory.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;

use crate::{
    node::state,
    reason::{Explanation, Reason, quote},
};

/// After so many times that somebody else put something else there, it is left to them.
const FIGHTS: usize = 2;
/// For so long.
const TRUCE: Duration = Duration::from_secs(3600);

/// What was done about each configuration.
#[derive(Default)]
pub(super) struct Confs {
    /// Those that we wrote or found right, and when somebody else has changed them since.
    ours: HashMap<PathBuf, Vec<Instant>>,
}

/// The file of an attachment's configuration.
pub(super) fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.conf"))
}

/// What it holds.
pub(super) fn text(name: &str) -> String {
    format!(
        "{}\n",
        json!({"cniVersion": "1.1.0", "name": name, "type": "mesh-optin"})
    )
}

impl Confs {
    /// Makes sure that Multus finds ours by this name. Whether anything was written; why Multus does not find it.
    pub(super) fn ensure(&mut self, directory: &Path, name: &str) -> Result<bool, Explanation> {
        let (path, text) = (path(directory, name), text(name));
        let is_there = std::fs::read_to_string(&path).is_ok_and(|there| there == text);
        if !is_there {
            if let Some(reverts) = self.ours.get_mut(&path) {
                reverts.retain(|at| at.elapsed() < TRUCE);
                if reverts.len() >= FIGHTS {
                    let cause = format!(
                        "somebody else has changed {} again and again: it is left as it is",
                        path.display()
                    );
                    return Err(Reason::NodeConfigInvalid
                        .because(cause)
                        .remedy("remove the other installer, such as Istio's CNI DaemonSet"));
                }
            }
            std::fs::create_dir_all(directory).map_err(|e| state::unusable(directory, &e))?;
            state::replace(&path, text.as_bytes(), 0o600)?;
        }
        let reverts = self.ours.entry(path.clone());
        match reverts {
            Entry::Occupied(mut reverts) if !is_there => reverts.get_mut().push(Instant::now()),
            Entry::Occupied(_) => {}
            Entry::Vacant(none) => drop(none.insert(Vec::new())),
        }
        match found(directory, name)? {
            Some(kind) if kind == "mesh-optin" => Ok(!is_there),
            other => {
                let cause = match other {
                    Some(kind) => {
                        format!(
                            "another file of {} named {name:?} comes first: Multus takes type {}",
                            directory.display(),
                            quote(&kind)
                        )
                    }
                    None => format!("{} is gone again", path.display()),
                };
                Err(Reason::NodeConfigInvalid
                    .because(cause)
                    .remedy("remove that file"))
            }
        }
    }
}

/// Removes one that is ours.
pub(super) fn remove(path: &Path) {
    let is_ours = path.file_stem().and_then(|s| s.to_str()).map(text);
    if is_ours.is_some_and(|ours| std::fs::read_to_string(path).is_ok_and(|there| there == ours)) {
        std::fs::remove_file(path).ok();
    }
}

/// The type of the plugin that Multus takes for a name: of the first file, in order, that has it. One that it cannot read in front of that
/// one ends the search.
pub(super) fn found(directory: &Path, name: &str) -> Result<Option<String>, Explanation> {
    let entries = std::fs::read_dir(directory).map_err(|e| state::unusable(directory, &e))?;
    let mut files: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| !p.is_dir())
        .collect();
    files.retain(|f| {
        f.extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| ["conf", "json", "conflist"].contains(&e))
    });
    files.sort();
    for file in files {
        let read = std::fs::read(&file)
            .map_err(|e| e.to_string())
            .and_then(|bytes| {
                let conf: Conf = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
                conf.kind(file.extension().is_some_and(|e| e == "conflist"))
            });
        match read {
            Ok((of, kind)) if of == name => return Ok(Some(kind)),
            Ok(_other) => {}
            Err(why) => {
                let cause = format!(
                    "{} keeps Multus from finding {name:?}: {why}",
                    file.display()
                );
                return Err(Reason::NodeConfigInvalid
                    .because(cause)
                    .remedy("correct or remove that file"));
            }
        }
    }
    Ok(None)
}

/// What libcni needs to read of a file.
#[derive(Deserialize)]
struct Conf {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
struct Plugin {
    #[serde(default, rename = "type")]
    kind: String,
}

impl Conf {
    /// Its name, and the type that it names.
    fn kind(self, is_list: bool) -> Result<(String, String), String> {
        let kind = if is_list {
            self.plugins
                .into_iter()
                .next()
                .map(|p| p.kind)
                .unwrap_or_default()
        } else {
            self.kind
        };
        match (is_list, self.name.is_empty(), kind.is_empty()) {
            (true, true, _) => Err("it has no name".into()),
            (_, _, true) => Err("it has no type".into()),
            _ => Ok((self.name, kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_multus_would_take_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let mut confs = Confs::default();
        assert!(confs.ensure(dir.path(), "istio-cni").unwrap(), "written");
        assert!(
            !confs.ensure(dir.path(), "istio-cni").unwrap(),
            "it is there"
        );
        write("z-broken.conf", "{");
        assert!(
            confs.ensure(dir.path(), "istio-cni").is_ok(),
            "what comes later is never read"
        );
        write("a-broken.conf", r#"{"name":"a"}"#);
        let error = confs.ensure(dir.path(), "istio-cni").unwrap_err();
        assert!(
            error.cause.contains("a-broken.conf") && error.cause.contains("no type"),
            "{error}"
        );
        std::fs::remove_file(dir.path().join("a-broken.conf")).unwrap();
        write(
            "b.conflist",
            r#"{"name":"istio-cni","plugins":[{"type":"other"}]}"#,
        );
        assert!(
            confs
                .ensure(dir.path(), "istio-cni")
                .unwrap_err()
                .cause
                .contains(r#"type "other""#)
        );
    }

    #[test]
    fn somebody_who_changes_it_twice_is_told_of_and_not_fought() {
        let dir = tempfile::tempdir().unwrap();
        let (mut confs, theirs) = (
            Confs::default(),
            r#"{"name":"istio-cni","type":"istio-cni"}"#,
        );
        let revert = || std::fs::write(path(dir.path(), "istio-cni"), theirs).unwrap();
        revert();
        assert!(
            confs.ensure(dir.path(), "istio-cni").unwrap(),
            "what was there before us is replaced"
        );
        for _ in 0..2 {
            revert();
            assert!(confs.ensure(dir.path(), "istio-cni").unwrap());
        }
        revert();
        for _ in 0..3 {
            let error = confs.ensure(dir.path(), "istio-cni").unwrap_err();
            assert!(error.cause.contains("again and again"), "{error}");
            assert_eq!(
                std::fs::read_to_string(path(dir.path(), "istio-cni")).unwrap(),
                theirs
            );
        }
        std::fs::write(path(dir.path(), "istio-cni"), text("istio-cni")).unwrap();
        assert!(
            !confs.ensure(dir.path(), "istio-cni").unwrap(),
            "they gave in"
        );
        revert();
        assert!(
            confs.ensure(dir.path(), "istio-cni").is_err(),
            "for a moment only"
        );
    }

    #[test]
    fn a_write_that_fails_is_nobody_else_s_change() {
        let dir = tempfile::tempdir().unwrap();
        let (mut confs, place) = (Confs::default(), dir.path().join("net.d"));
        std::fs::write(&place, "no directory").unwrap();
        for _ in 0..5 {
            assert!(
                confs
                    .ensure(&place, "istio-cni")
                    .unwrap_err()
                    .cause
                    .contains("net.d")
            );
        }
        std::fs::remove_file(&place).unwrap();
        assert!(confs.ensure(&place, "istio-cni").unwrap());
    }
}
