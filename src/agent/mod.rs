//! The node agent: answers the plugin from memory, maintains the node's files, audits its pods, and reports.

mod args;
mod audit;
mod bypass;
mod cache;
mod cluster;
mod conditions;
mod counts;
mod ending;
#[cfg(test)]
mod fixtures;
mod health;
mod install;
mod look_up;
mod maintain;
mod mesh_node;
mod metrics;
mod namespaces;
mod outcomes;
mod owner;
mod ownership;
mod profiles;
mod reports;
mod serve;
mod shared;
mod take_over;
mod tasks;
mod token;
mod watch;

use std::{os::unix::net::UnixListener as StdUnixListener, path::Path, sync::Arc};

use tokio::net::UnixListener;
use tracing::{error, info};

pub use self::args::Args;
use self::{
    args::Verb,
    cache::Cache,
    cluster::{Account, Cluster},
    ending::{ends, run_until_signal},
    health::Health,
    install::{Installer, uninstall, wait_for_removal},
    maintain::{install_once, keep_installed},
    metrics::Metrics,
    namespaces::Namespaces,
    outcomes::Outcomes,
    profiles::Profiles,
    shared::Agent,
    tasks::Tasks,
};
use crate::{
    log,
    node::{self, NodeConfig, state},
    profile::VERSION,
    reason::{Explanation, Reason},
    telemetry::{self, Alive, Events, Paths},
};

/// Runs until SIGTERM or SIGINT, or runs one of the subcommands.
pub fn run(args: Args) -> Result<(), Explanation> {
    let Some(verb) = args.verb else {
        // account and socket are in our own root
        let probes = args.probe_socket.as_deref().map(listen).transpose()?;
        let account = Account::open(&args.account)?;
        enter(&args.root)?;
        // one thread for all that waits; what blocks gets a few more
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build();
        return runtime
            .map_err(|e| Reason::Internal.because(format!("starting: {e}")))?
            .block_on(work(args, account, probes));
    };
    match verb {
        Verb::Probe => {
            let missing = "there is no --probe-socket to ask at";
            let socket = args.probe_socket;
            let socket = socket.ok_or_else(|| Reason::NodeConfigInvalid.because(missing))?;
            telemetry::probe(&socket)
        }
        Verb::Install => enter(&args.root).and_then(|()| install_once(args)),
        Verb::Uninstall { stay: true, .. } => run_until_signal(Ok(()), || {
            loop {
                std::thread::park();
            }
        }),
        Verb::Uninstall { until_done, .. } => {
            let ended = "it was ended before everything was removed";
            run_until_signal(Err(Reason::Uninstalled.because(ended)), move || {
                enter(&args.root).and_then(|()| uninstall(&args.install, until_done))
            })
        }
    }
}

/// Makes the host's root ours: from here on all paths are those that the plugin sees.
fn enter(root: &Path) -> Result<(), Explanation> {
    node::enter(root)?;
    state::tighten();
    log::to_stderr_at_any_level(NodeConfig::load().unwrap_or_default().log_level.into());
    Ok(())
}

/// A socket for probes, in place of an earlier container's.
fn listen(path: &Path) -> Result<StdUnixListener, Explanation> {
    let bind = || {
        std::fs::remove_file(path).ok();
        let listener = StdUnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|e: std::io::Error| {
        Reason::NodeConfigInvalid.because(format!("--probe-socket {}: {e}", path.display()))
    })
}

async fn work(
    args: Args,
    account: Account,
    probes: Option<StdUnixListener>,
) -> Result<(), Explanation> {
    let internal = |e: std::io::Error| Reason::Internal.because(e.to_string());
    let (mut end, mut interrupt) = ends().map_err(internal)?;
    let probes = probes
        .map(UnixListener::from_std)
        .transpose()
        .map_err(internal)?;
    let alive = Alive::watched();
    let (node, server) = (args.node.clone().unwrap_or_default(), args.server()?);
    let (events, queue) = Events::new(args.events);
    let metrics = Arc::new(Metrics::new());
    let cluster = Arc::new(Cluster::connect(account, server, metrics.clone())?);
    let (cache, profiles) = (Arc::new(Cache::new()), Arc::new(Profiles::load()));
    let agent = Arc::new(Agent {
        node: node.clone(),
        namespaces: Arc::new(Namespaces::new(cluster.clone(), cache.clone())),
        health: Health::new(cache.clone(), profiles.clone()),
        cache,
        cluster,
        profiles,
        metrics,
        events,
        installer: Installer::new(args.install.clone()),
        outcomes: Outcomes::default(),
    });
    info!(node, %server, version = VERSION, "the agent starts");
    let Agent {
        cache,
        namespaces,
        cluster,
        profiles,
        metrics,
        ..
    } = &*agent;
    let prefetch = |namespace, arrived| namespaces.prefetch(namespace, arrived);
    let ownership = &agent.health.ownership;
    let mut tasks = Tasks::default();
    tasks.add("answering plugins", serve::serve(agent.clone()));
    let pods = watch::pods(cluster, &node, cache, &prefetch);
    tasks.add("watching pods", pods);
    tasks.add("the self-test", agent.health.test_itself());
    tasks.add("reading namespaces", namespaces.refresh());
    tasks.add("keeping profiles", profiles.clone().keep(ownership));
    tasks.add("watching profiles", profiles.follow(cluster));
    tasks.add("sending Events", queue.send(&*agent, &node));
    let install = ownership.while_owner(async || keep_installed(&agent).await);
    tasks.add("installing", install);
    let token = ownership.while_owner(async || agent.keep_token().await);
    tasks.add("renewing the host's token", token);
    let outcomes = ownership.while_owner(async || reports::collect(&agent).await);
    tasks.add("collecting outcomes", outcomes);
    let report = ownership.while_owner(async || mesh_node::report(&agent).await);
    tasks.add("reporting to the MeshNode", report);
    let audit = async || audit::audit(agent.clone(), args.audit_period).await;
    tasks.add("the audit", ownership.while_owner(audit));
    let to_all = async || telemetry::serve(agent.clone(), args.metrics(), Paths::Metrics).await;
    tasks.add("serving metrics", ownership.while_owner(to_all));
    let to_kubelet = telemetry::serve(agent.clone(), args.probes(), Paths::All);
    tasks.add("serving probes", to_kubelet);
    let on_socket = telemetry::serve_socket(agent.clone(), probes);
    tasks.add("serving probes on a socket", on_socket);
    tasks.add("the heartbeat", alive.beat());
    tokio::select! {
        ended = tasks.run() => return Err(ended),
        () = cluster.follow_account(metrics) => info!("the cluster's certificates have changed: starting again"),
        gone = wait_for_removal(&args.install) => error!("{} was removed from the node: the agent ends, so that its container mounts the directory again", gone.display()),
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("the agent ends");
    Ok(())
}
