//! Writes CNI configurations for attachments without a spec, which Multus looks up by name in a directory.

use std::{
    collections::{HashMap, hash_map::Entry},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::geteuid;

use crate::{
    multus::net_d::{Conf, path, text, type_found},
    node::{paths, state},
    reason::{Explanation, Reason, quote},
};

/// How many foreign overwrites within [`TRUCE`] are reverted, before the file is left alone.
const FIGHTS: usize = 2;
/// The time within which overwrites are counted.
const TRUCE: Duration = Duration::from_secs(3600);

/// What was done about each configuration.
pub(super) struct Confs {
    /// Where those of other plugins are kept.
    replaced: PathBuf,
    /// Those that we wrote or found correct, and the times of foreign changes since.
    ours: HashMap<PathBuf, Vec<Instant>>,
}

/// What is in a configuration's place.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Nothing,
    /// Ours, as it should be.
    Ours,
    /// It names our program, but differs from what it should be.
    OursOtherwise,
    /// A foreign one, or one that cannot be read.
    Foreign,
}

impl There {
    fn read_back(path: &Path, text: &str) -> Self {
        let Ok(metadata) = std::fs::symlink_metadata(path) else {
            return Self::Nothing;
        };
        let is_private = metadata.is_file()
            && metadata.mode() & 0o777 == 0o600
            && metadata.uid() == geteuid().as_raw();
        let there = std::fs::read_to_string(path).unwrap_or_default();
        let kind = serde_json::from_str::<Conf>(&there).map(|conf| conf.kind);
        match kind.as_deref() {
            Ok("mesh-optin") if there == text && is_private => Self::Ours,
            Ok("mesh-optin") => Self::OursOtherwise,
            Ok(_) | Err(_) => Self::Foreign,
        }
    }
}

impl Default for Confs {
    fn default() -> Self {
        Self {
            replaced: paths::REPLACED.into(),
            ours: HashMap::new(),
        }
    }
}

impl Confs {
    /// Makes sure that Multus finds ours by this name. Returns whether a file was written, or why Multus does not find ours. A missing file is
    /// always written. A foreign one is replaced only where that was asked for, and a copy of it is kept.
    pub(super) fn ensure(
        &mut self,
        directory: &Path,
        name: &str,
        takes_over: bool,
    ) -> Result<bool, Explanation> {
        let (path, text) = (path(directory, name), text(name));
        let there = There::read_back(&path, &text);
        if there == There::Foreign {
            self.may_replace(&path, name, takes_over)?;
            self.keep(&path, name)?;
        }
        if there != There::Ours {
            std::fs::create_dir_all(directory).map_err(|e| state::unusable(directory, &e))?;
            state::replace(&path, text.as_bytes(), 0o600)?;
        }
        let reverts = self.ours.entry(path.clone());
        match reverts {
            Entry::Occupied(mut reverts) if there == There::Foreign => {
                reverts.get_mut().push(Instant::now());
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(none) => drop(none.insert(Vec::new())),
        }
        match type_found(directory, name)? {
            Some(kind) if kind == "mesh-optin" => Ok(there != There::Ours),
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

    /// Whether another plugin's configuration may be replaced.
    fn may_replace(
        &mut self,
        path: &Path,
        name: &str,
        takes_over: bool,
    ) -> Result<(), Explanation> {
        if !takes_over {
            let cause = format!(
                "{} is another plugin's: it is left as it is",
                path.display()
            );
            return Err(Reason::NodeConfigInvalid.because(cause).remedy(format!(
                "remove it, or start the agent with --take-over={name}"
            )));
        }
        let Some(reverts) = self.ours.get_mut(path) else {
            return Ok(());
        };
        reverts.retain(|at| at.elapsed() < TRUCE);
        if reverts.len() < FIGHTS {
            return Ok(());
        }
        let cause = format!(
            "another installer has replaced {} again and again: it is left as it is",
            path.display()
        );
        Err(Reason::NodeConfigInvalid
            .because(cause)
            .remedy("remove the other installer, such as Istio's CNI DaemonSet"))
    }

    /// Where another plugin's configuration is kept.
    fn kept(&self, name: &str) -> PathBuf {
        path(&self.replaced, name)
    }

    /// Keeps a copy of the current file.
    fn keep(&self, path: &Path, name: &str) -> Result<(), Explanation> {
        let theirs = std::fs::read(path).map_err(|e| state::unusable(path, &e))?;
        state::private(&self.replaced)?;
        state::replace(&self.kept(name), &theirs, 0o600)
    }

    /// Removes a configuration of ours, and restores the one that it replaced.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), Explanation> {
        let Some(name) = path.file_stem().and_then(|s| s.to_str()) else {
            return Ok(());
        };
        let (kept, there) = (self.kept(name), There::read_back(path, &text(name)));
        if there != There::Foreign {
            match std::fs::read(&kept) {
                Ok(theirs) => state::replace(path, &theirs, 0o600)?,
                Err(_) => drop(std::fs::remove_file(path)),
            }
        }
        std::fs::remove_file(kept).ok();
        std::fs::remove_dir(&self.replaced).ok(); // the last one
        self.ours.remove(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confs(beside: &Path) -> Confs {
        Confs {
            replaced: beside.join("replaced"),
            ours: HashMap::new(),
        }
    }

    #[test]
    fn the_file_that_multus_would_use_is_the_one_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let mut confs = confs(dir.path());
        assert!(
            confs.ensure(dir.path(), "istio-cni", false).unwrap(),
            "written"
        );
        assert!(
            !confs.ensure(dir.path(), "istio-cni", false).unwrap(),
            "it is there"
        );
        write("z-broken.conf", "{");
        assert!(
            confs.ensure(dir.path(), "istio-cni", false).is_ok(),
            "what comes later is never read"
        );
        write("a-broken.conf", r#"{"name":"a"}"#);
        let error = confs.ensure(dir.path(), "istio-cni", false).unwrap_err();
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
                .ensure(dir.path(), "istio-cni", false)
                .unwrap_err()
                .cause
                .contains(r#"type "other""#)
        );
    }

    #[test]
    fn a_foreign_configuration_is_replaced_only_with_take_over_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (mut confs, place) = (confs(dir.path()), path(dir.path(), "istio-cni"));
        let theirs = r#"{"name":"istio-cni","type":"istio-cni"}"#;
        let there = || std::fs::read_to_string(&place).unwrap();
        std::fs::write(&place, theirs).unwrap();
        let error = confs.ensure(dir.path(), "istio-cni", false).unwrap_err();
        assert!(
            error.to_string().ends_with("--take-over=istio-cni") && there() == theirs,
            "{error}"
        );
        assert!(confs.ensure(dir.path(), "istio-cni", true).unwrap());
        assert_eq!(there(), text("istio-cni"));
        confs.remove(&place).unwrap();
        assert_eq!(there(), theirs, "as it was");
        confs.remove(&place).unwrap();
        assert_eq!(there(), theirs, "it is not ours");
        // also if ours was removed
        assert!(confs.ensure(dir.path(), "istio-cni", true).unwrap());
        std::fs::remove_file(&place).unwrap();
        confs.remove(&place).unwrap();
        assert_eq!(there(), theirs);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_or_a_wrong_mode_is_always_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let (mut confs, place) = (confs(dir.path()), path(dir.path(), "istio-cni"));
        confs.ensure(dir.path(), "istio-cni", false).unwrap();
        for _ in 0..5 {
            std::fs::remove_file(&place).unwrap();
            assert!(confs.ensure(dir.path(), "istio-cni", false).unwrap());
        }
        let mode = || std::fs::metadata(&place).unwrap().mode() & 0o777;
        let of_anyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&place, of_anyone).unwrap();
        assert!(confs.ensure(dir.path(), "istio-cni", false).unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_second_foreign_change_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut confs, theirs) = (
            confs(dir.path()),
            r#"{"name":"istio-cni","type":"istio-cni"}"#,
        );
        let revert = || std::fs::write(path(dir.path(), "istio-cni"), theirs).unwrap();
        let mut ensure = || confs.ensure(dir.path(), "istio-cni", true);
        revert();
        assert!(ensure().unwrap(), "what was there before us is replaced");
        for _ in 0..2 {
            revert();
            assert!(ensure().unwrap());
        }
        revert();
        for _ in 0..3 {
            let error = ensure().unwrap_err();
            assert!(error.cause.contains("again and again"), "{error}");
            assert_eq!(
                std::fs::read_to_string(path(dir.path(), "istio-cni")).unwrap(),
                theirs
            );
        }
        std::fs::write(path(dir.path(), "istio-cni"), text("istio-cni")).unwrap();
        assert!(ensure().is_ok(), "they gave in");
        revert();
        assert!(ensure().is_err(), "for a moment only");
    }

    #[test]
    fn a_failed_write_does_not_count_as_a_foreign_change() {
        let dir = tempfile::tempdir().unwrap();
        let (mut confs, place) = (confs(dir.path()), dir.path().join("net.d"));
        std::fs::write(&place, "no directory").unwrap();
        for _ in 0..5 {
            assert!(
                confs
                    .ensure(&place, "istio-cni", false)
                    .unwrap_err()
                    .cause
                    .contains("net.d")
            );
        }
        std::fs::remove_file(&place).unwrap();
        assert!(confs.ensure(&place, "istio-cni", false).unwrap());
    }
}
