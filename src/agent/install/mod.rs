//! Installs the program, its configurations and a credential on the node, and keeps them as they should be. Every file is replaced by
//! rename, so nothing that is running or being read is cut off.

mod conf;
mod directories;
mod pass;
mod program;
mod removed;
mod uninstall;

pub(super) use self::{directories::verify, removed::wait_for_removal, uninstall::uninstall};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use self::pass::Pass;
use self::{conf::Confs, program::Program};
use super::{args::Install, metrics::Metrics, profiles::Profiles};
use crate::{
    node::{Installed, paths, state},
    reason::{Explanation, Reason},
};

/// Installs files on the node and repairs them.
pub(super) struct Installer {
    args: Install,
    known: Mutex<InstallState>,
}

#[derive(Default)]
struct InstallState {
    program: Program,
    confs: Confs,
    /// The problems that were logged last.
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

    /// Makes one pass over program and configurations. Returns all problems, or `None` while another installer runs. A failure does not stop
    /// the rest.
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
        if let Ok(Some(installed)) = Installed::load() {
            metrics.set_installed_version(&installed.version);
        }
        let messages: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        if messages != known.wrong {
            wrong
                .iter()
                .for_each(|e| warn!(reason = e.reason.as_str(), "{e}"));
            known.wrong = messages;
        }
        Some(wrong)
    }
}

/// Removes aliases that no sandbox needs any longer.
fn remove_programs(installed: &mut Installed, main: &Path, old: &BTreeSet<PathBuf>) {
    installed.programs.retain(|path, digest| {
        let stays = path == main || old.contains(path);
        if !stays && program::is_alias(path, main, digest) {
            std::fs::remove_file(path).ok();
        }
        stays
    });
}

/// The lock of the installer: two agents overlap while one replaces the other.
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
