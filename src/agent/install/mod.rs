//! What the agent puts onto the node, once and again: the program, configurations, a credential. Each by rename; what is running or read
//! is never cut off.

mod cached;
mod conf;
mod program;
mod token;
mod uninstall;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use tracing::{debug, info, warn};

pub(super) use self::uninstall::uninstall;
use self::{conf::Confs, program::Program};
use super::{args::Install, cluster::Cluster, metrics::Metrics, profiles::Profiles};
use crate::{
    node::{Installed, paths, state},
    reason::{Explanation, Reason},
};

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Puts files onto the node and keeps them right.
pub(super) struct Installer {
    args: Install,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    program: Program,
    confs: Confs,
    /// What is wrong, as it was told last.
    wrong: Vec<String>,
}

impl Installer {
    pub(super) fn new(args: Install) -> Self {
        Self {
            args,
            known: Mutex::default(),
        }
    }

    pub(super) fn args(&self) -> &Install {
        &self.args
    }

    /// One pass over program and configurations; all that is wrong, or `None` where another installer is at it. What fails does not keep
    /// the rest from being done.
    pub(super) fn pass(&self, profiles: &Profiles, metrics: &Metrics) -> Option<Vec<Explanation>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = match lock() {
            Ok(None) => return None,
            Ok(Some(_alone)) => Pass {
                args: &self.args,
                metrics,
                wrong: vec![],
            }
            .all(&mut known, profiles),
            Err(error) => vec![error],
        };
        let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        if told != known.wrong {
            wrong
                .iter()
                .for_each(|e| warn!(reason = e.reason.as_str(), "{e}"));
            known.wrong = told;
        }
        Some(wrong)
    }

    /// Keeps the host's credential, where one is asked for, for ever. It is for when we are away: what is wrong with it is told, and keeps
    /// nothing else.
    pub(super) async fn keep_token(&self, cluster: &Cluster, node: &str, metrics: &Metrics) {
        /// Before a renewal that failed is tried again.
        const PAUSE: Duration = Duration::from_secs(60);
        let Some(account) = &self.args.host_account else {
            return std::future::pending().await;
        };
        // the first one anew: the account or the Node may be another since
        let (mut is_first, mut told) = (true, String::new());
        loop {
            let kept = token::kept(cluster).filter(|kept| !is_first && !kept.renew_in.is_zero());
            let mut pause = self.args.install_period;
            let kept = match kept {
                Some(kept) => Ok((kept, false)),
                None => token::renew(cluster, node, account)
                    .await
                    .map(|kept| (kept, true)),
            };
            match kept {
                Ok((kept, is_new)) => {
                    (is_first, told) = (false, String::new());
                    metrics.host_token_left(kept.left.as_secs() as i64);
                    if is_new {
                        metrics.installed("token", true);
                        info!(
                            seconds = kept.left.as_secs(),
                            "the host's token was renewed"
                        );
                    }
                }
                Err(error) => {
                    pause = PAUSE;
                    metrics.installed("token", false);
                    let text = error.to_string();
                    if text != told {
                        warn!(
                            reason = error.reason.as_str(),
                            "the host's credential: {error}"
                        );
                        told = text;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// One pass, and what went wrong in it.
struct Pass<'a> {
    args: &'a Install,
    metrics: &'a Metrics,
    wrong: Vec<Explanation>,
}

impl Pass<'_> {
    fn all(mut self, known: &mut Known, profiles: &Profiles) -> Vec<Explanation> {
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

/// Those that no sandbox needs any more.
fn remove_programs(installed: &mut Installed, main: &Path, old: &BTreeSet<PathBuf>) {
    installed.programs.retain(|path, digest| {
        let stays = path == main || old.contains(path);
        if !stays && program::is_recorded(path, Some(digest)) {
            std::fs::remove_file(path).ok();
        }
        stays
    });
}

/// One installer at a time: two agents may overlap while one takes the other's place.
fn lock() -> Result<Option<nix::fcntl::Flock<std::fs::File>>, Explanation> {
    state::try_lock(paths::RUN, "install.lock")
}

/// Unless that is what is there.
fn write(installed: &Installed, there: &Installed) -> Result<(), Explanation> {
    if installed == there {
        return Ok(());
    }
    let json =
        serde_json::to_vec(installed).map_err(|e| Reason::Internal.because(e.to_string()))?;
    state::private(paths::LIB.as_ref())?;
    state::replace(paths::INSTALLED.as_ref(), &json, 0o644)
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
