//! What the agent puts onto the node, once and again: the program, configurations, a credential. Each by rename; what is running or read
//! is never cut off.

mod conf;
mod program;
mod token;
mod uninstall;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tracing::{info, warn};

pub(super) use self::uninstall::uninstall;
use self::{conf::Confs, program::Programs};
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
    programs: Programs,
    confs: Confs,
    /// What is wrong, as it was told last.
    wrong: Vec<String>,
    has_begun: bool,
}

impl Installer {
    pub(super) fn new(args: Install) -> Self {
        Self { args, known: Mutex::default() }
    }

    /// One pass over program and configurations; all that is wrong. What fails does not keep the rest from being done.
    pub(super) fn pass(&self, profiles: &Profiles, metrics: &Metrics) -> Vec<Explanation> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = self.try_pass(&mut known, profiles, metrics).unwrap_or_else(|error| vec![error]);
        let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        if told != known.wrong {
            wrong.iter().for_each(|e| warn!(reason = e.reason.as_str(), "{e}"));
            known.wrong = told;
        }
        wrong
    }

    fn try_pass(&self, known: &mut Known, profiles: &Profiles, metrics: &Metrics) -> Result<Vec<Explanation>, Explanation> {
        let Some(_alone) = lock()? else { return Ok(Vec::new()) }; // another installer is at it
        let before = Installed::load().unwrap_or_default().unwrap_or_default();
        if is_newer(&before.version, VERSION) {
            let cause = format!("version {} is installed, which is newer than {VERSION}: it stays", before.version);
            return Ok(vec![Reason::Outdated.because(cause).remedy(format!("remove {} to go back on purpose", paths::INSTALLED))]);
        }
        if before.uninstalled && known.has_begun {
            return Ok(vec![Reason::Uninstalled.into()]); // under our feet
        }
        let names: BTreeSet<_> = profiles.attachment_names().into_iter().chain(self.args.attachments.iter().cloned()).collect();
        let types = program::types_in_cache(&self.args.multus_cache_dir);
        let bin = &self.args.cni_bin_dir;
        // a name that is somebody else's program is theirs
        let ours = |path: &PathBuf| before.programs.contains(path) || !path.exists();
        let old: Vec<_> = program::old_names(&types).map(|name| bin.join(name)).filter(ours).collect();
        let now = Installed {
            version: VERSION.into(),
            programs: std::iter::once(bin.join(program::NAME)).chain(old).collect(),
            confs: names.iter().map(|name| conf::path(&self.args.multus_conf_dir, name)).collect(),
            uninstalled: false,
        };
        // on record before it is there: what was put anywhere can be removed
        let mut on_record = now.clone();
        on_record.programs.extend(before.programs.iter().filter(|p| !now.programs.contains(p)).cloned());
        on_record.confs.extend(before.confs.iter().filter(|p| !now.confs.contains(p)).cloned());
        if on_record != before {
            write(&on_record)?;
        }
        known.has_begun = true;
        let mut wrong = Vec::new();
        let mut done = |what: &'static str, path: &std::path::Path, result: Result<bool, Explanation>| match result {
            Ok(false) => {}
            Ok(true) => {
                info!(path = %path.display(), "installed");
                metrics.installed(what, true);
            }
            Err(error) => {
                metrics.installed(what, false);
                wrong.push(error);
            }
        };
        for path in &now.programs {
            done("program", path, known.programs.ensure(path));
        }
        for name in &names {
            done("conf", &conf::path(&self.args.multus_conf_dir, name), known.confs.ensure(&self.args.multus_conf_dir, name));
        }
        for gone in before.programs.iter().filter(|p| !now.programs.contains(p)) {
            std::fs::remove_file(gone).ok();
        }
        if on_record.programs != now.programs {
            write(&Installed { confs: on_record.confs, ..now })?;
        }
        Ok(wrong)
    }

    /// The host's credential, where one is asked for; what is wrong with it.
    pub(super) async fn credential(&self, cluster: &Cluster, node: &str, metrics: &Metrics) -> Option<Explanation> {
        let account = self.args.host_account.as_ref()?;
        match token::ensure(cluster, node, account).await {
            Ok((left, is_written)) => {
                metrics.host_token_left(left);
                if is_written {
                    metrics.installed("token", true);
                    info!("the host's token was renewed");
                }
                None
            }
            Err(error) => {
                metrics.installed("token", false);
                warn!(reason = error.reason.as_str(), "the host's credential: {error}");
                Some(error)
            }
        }
    }

    pub(super) fn args(&self) -> &Install {
        &self.args
    }
}

/// One installer at a time: two agents may overlap while one takes the other's place.
fn lock() -> Result<Option<nix::fcntl::Flock<std::fs::File>>, Explanation> {
    state::try_lock(paths::RUN, "install.lock")
}

fn write(installed: &Installed) -> Result<(), Explanation> {
    let json = serde_json::to_vec(installed).map_err(|e| Reason::Internal.because(e.to_string()))?;
    state::replace(paths::INSTALLED.as_ref(), &json, 0o644)
}

/// By their numbers; what is no version is older than any.
fn is_newer(version: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u64>> { version.split(['-', '+']).next()?.split('.').map(|n| n.parse().ok()).collect() };
    numbers(version) > numbers(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(is_newer("0.10.0", "0.9.9") && is_newer("1.0.0", "0.9.9"));
        assert!(!is_newer("0.9.9", "0.9.9") && !is_newer("", "0.1.0") && !is_newer("x", "0.1.0") && !is_newer("0.1.0-rc.1", "0.1.0"));
    }
}
