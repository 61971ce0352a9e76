//! What the agent puts onto the node, once and again: the program, configurations, a credential. Each by rename; what is running or read
//! is never cut off.

mod cached;
mod conf;
mod pass;
mod program;
mod token;
mod uninstall;

pub(super) use self::uninstall::uninstall;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tracing::{info, warn};

use self::pass::Pass;
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
