//! One pass over what an agent installs on its node.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Once,
};

use tracing::{debug, info, warn};

use super::super::{args::Install, metrics::Metrics, profiles::Profiles};
use super::{Known, VERSION, cached, conf, program, remove_programs, write};
use crate::{
    node::{Installed, paths},
    reason::{Explanation, Reason},
};

/// One pass, and what went wrong in it.
pub(super) struct Pass<'a> {
    pub(super) args: &'a Install,
    pub(super) metrics: &'a Metrics,
    pub(super) wrong: Vec<Explanation>,
}

impl Pass<'_> {
    pub(super) fn all(mut self, known: &mut Known, profiles: &Profiles) -> Vec<Explanation> {
        if let Err(error) = self.try_all(known, profiles) {
            self.wrong.push(error);
        }
        self.wrong
    }

    fn try_all(&mut self, known: &mut Known, profiles: &Profiles) -> Result<(), Explanation> {
        let before = Installed::load().unwrap_or_default().unwrap_or_default();
        if is_newer(&before.version, VERSION) {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                let back = paths::INSTALLED;
                warn!(
                    "version {} is installed, which is newer than {VERSION}: it stays; remove {back} to go back on purpose",
                    before.version
                );
            });
            self.look_at_newer(&before);
            return Ok(());
        }
        let bin = &self.args.cni_bin_dir;
        let main = bin.join(program::NAME);
        // while the profiles are not known, nothing is known of the configurations that are no longer needed
        let of_profiles = profiles.attachment_names();
        self.wrong.extend(of_profiles.as_ref().err().cloned());
        let (of_profiles, are_all_known) = of_profiles.unwrap_or_default();
        let names: BTreeSet<_> = of_profiles
            .into_iter()
            .chain(self.args.attachments.iter().cloned())
            .collect();
        let (types, unread) = cached::types(&self.args.multus_cache_dir);
        let old: BTreeSet<PathBuf> = cached::old_names(&types)
            .map(|name| bin.join(name))
            .collect();
        let digest = known.program.digest()?;
        let mut installed = before.clone();
        (installed.version, installed.cache, installed.uninstalled) =
            (VERSION.into(), self.args.multus_cache_dir.clone(), false);
        installed.confs.extend(
            names
                .iter()
                .map(|name| conf::path(&self.args.multus_conf_dir, name)),
        );
        installed.programs.extend(
            std::iter::once(&main)
                .chain(&old)
                .map(|path| (path.clone(), digest.clone())),
        );
        // on record before it is there: what was put anywhere can be removed
        write(&installed, &before)?;
        let recorded = installed.clone();

        let put = known.program.ensure(&main);
        self.told("program", &main, put);
        for name in &old {
            match program::also(&main, name, before.programs.get(name)) {
                Ok(None) => drop(installed.programs.remove(name)), // somebody else's
                Ok(Some(is_new)) => {
                    installed.programs.insert(name.clone(), digest.clone());
                    self.told("program", name, Ok(is_new));
                }
                Err(error) => self.told("program", name, Err(error)),
            }
        }
        match unread {
            None => remove_programs(&mut installed, &main, &old),
            Some(why) => {
                debug!("which plugins sandboxes still need cannot be told, none is removed: {why}")
            }
        }
        for name in &names {
            let put = known.confs.ensure(&self.args.multus_conf_dir, name);
            self.told("conf", &conf::path(&self.args.multus_conf_dir, name), put);
        }
        if are_all_known {
            let is_needed = |path: &PathBuf| {
                names
                    .iter()
                    .any(|name| conf::path(&self.args.multus_conf_dir, name) == *path)
            };
            installed.confs.retain(|path| {
                let stays = is_needed(path);
                if !stays {
                    conf::remove(path);
                }
                stays
            });
        }
        write(&installed, &recorded)
    }

    /// What a newer version has put there is its own; that it is there is everybody's concern.
    fn look_at_newer(&mut self, installed: &Installed) {
        let missing = installed
            .programs
            .keys()
            .chain(&installed.confs)
            .find(|path| !path.exists());
        let wrong = match missing {
            _ if installed.uninstalled => Some(Reason::Uninstalled.into()),
            Some(path) => Some(Reason::NodeConfigInvalid.because(format!(
                "{} is gone, and version {}, which put it there, does not run",
                path.display(),
                installed.version
            ))),
            None => None,
        };
        self.wrong.extend(wrong);
    }

    fn told(&mut self, what: &'static str, path: &Path, result: Result<bool, Explanation>) {
        match result {
            Ok(false) => {}
            Ok(true) => {
                info!(path = %path.display(), "installed");
                self.metrics.installed(what, true);
            }
            Err(error) => {
                self.metrics.installed(what, false);
                self.wrong.push(error);
            }
        }
    }
}

/// By their numbers; what is no version is older than any.
fn is_newer(version: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u64>> {
        version
            .split(['-', '+'])
            .next()?
            .split('.')
            .map(|n| n.parse().ok())
            .collect()
    };
    numbers(version) > numbers(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(is_newer("0.10.0", "0.9.9") && is_newer("1.0.0", "0.9.9"));
        assert!(
            !is_newer("0.9.9", "0.9.9")
                && !is_newer("", "0.1.0")
                && !is_newer("x", "0.1.0")
                && !is_newer("0.1.0-rc.1", "0.1.0")
        );
    }
}
