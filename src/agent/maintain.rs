//! Keeps the node's files as they should be, or installs them once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tracing::error;

use super::{
    args::Args,
    install::{Installer, verify},
    metrics::Metrics,
    owner::newer_agent_owns_node,
    profiles::Profiles,
    shared::Agent,
};
use crate::{
    deadline::{Attempts, Deadline},
    multus::Multus,
    reason::{Explanation, Reason},
};

/// How long `agent install` waits for another installer.
const INSTALLING: Duration = Duration::from_secs(30);

/// Maintains the node's files until it is canceled.
pub(super) async fn keep_installed(agent: &Arc<Agent>) {
    let mut changes = agent.profiles.changes();
    loop {
        install(agent).await;
        tokio::time::timeout(agent.installer.args().install_period, changes.changed())
            .await
            .ok();
    }
}

/// One pass over the node's files.
pub(super) async fn install(agent: &Arc<Agent>) {
    let of_pass = agent.clone();
    let pass = move || {
        let Agent {
            installer, metrics, ..
        } = &*of_pass;
        let found = Multus::find(installer.args().runtime_conf_dir.as_deref());
        let health = &of_pass.health;
        let was_called = health.was_called.load(Ordering::Relaxed);
        let paths = verify(found.as_ref(), installer.args(), was_called);
        health.findings().paths = paths;
        health.findings().multus = found;
        installer.pass(&of_pass.profiles, metrics)
    };
    match tokio::task::spawn_blocking(pass).await {
        Ok(Some(wrong)) => {
            agent.health.findings().installed = Some(wrong);
        }
        Ok(None) => {} // another installer runs: the earlier findings count
        Err(error) => error!("installing: {error}"),
    }
}

/// Installs the node's files once.
pub(super) fn install_once(args: Args) -> Result<(), Explanation> {
    let (installer, profiles, metrics) = (
        Installer::new(args.install),
        Profiles::load(),
        Metrics::new(),
    );
    if newer_agent_owns_node() {
        return Err(Reason::NodeConfigInvalid
            .because("an agent of a newer version runs on this node and installs its own program")
            .remedy("end it first"));
    }
    let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
    let wrong = Attempts::until(Deadline::after(INSTALLING), first, longest)
        .wait_for(|| Ok::<_, Explanation>(installer.pass(&profiles, &metrics)))?;
    let running = || Reason::NodeConfigInvalid.because("another installer is still running");
    wrong
        .ok_or_else(running)?
        .into_iter()
        .next()
        .map_or(Ok(()), Err) // all were logged
}
