//! The node agent: answers the plugin from memory, keeps the node's files, watches over its pods, and tells.

mod args;
mod audit;
mod bypass;
mod cache;
mod cluster;
mod events;
mod http;
mod install;
mod look_up;
mod metrics;
mod profiles;
mod serve;
mod watch;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::unistd::{chdir, chroot};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

pub use self::args::Args;
use self::{
    args::Verb,
    cache::Cache,
    cluster::{Account, Cluster},
    events::Events,
    http::Paths,
    install::{Installer, uninstall},
    metrics::Metrics,
    profiles::Profiles,
};
use crate::{
    deadline::Deadline,
    log,
    node::NodeConfig,
    reason::{Explanation, Reason},
    source::wire::Bypassing,
};

/// What the agent's parts share.
struct Agent {
    /// This node's name.
    node: String,
    cache: Arc<Cache>,
    cluster: Arc<Cluster>,
    profiles: Arc<Profiles>,
    metrics: Arc<Metrics>,
    events: Events,
    /// Since when no plugin can ask; `None` while it can.
    deaf: Mutex<Option<Instant>>,
    /// What is wrong with what is installed; `None` before the first pass.
    wrong: Mutex<Option<Vec<Explanation>>>,
    bypassing: Mutex<Vec<Bypassing>>,
}

/// Runs until SIGTERM or SIGINT, or does what it does once.
pub fn run(args: Args) -> Result<(), Explanation> {
    let Some(verb) = args.verb else {
        let account = Account::open(&args.account)?; // it is in our own root
        enter(&args.root)?;
        // one thread for all that waits; what blocks gets a few more
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build();
        return runtime
            .map_err(|e| Reason::Internal.because(format!("starting: {e}")))?
            .block_on(work(args, account));
    };
    enter(&args.root)?;
    match verb {
        Verb::Install => install_once(args),
        Verb::Uninstall => uninstall(),
    }
}

/// Makes the host's root ours: from here on all paths are those that the plugin sees.
fn enter(root: &Path) -> Result<(), Explanation> {
    if root != Path::new("/") {
        let entered = chroot(root).and_then(|()| chdir("/"));
        entered.map_err(|e| {
            Reason::NodeConfigInvalid.because(format!("--root {}: {e}", root.display()))
        })?;
    }
    log::to_stderr(NodeConfig::load().unwrap_or_default().log_level);
    Ok(())
}

fn install_once(args: Args) -> Result<(), Explanation> {
    let (installer, profiles, metrics) = (
        Installer::new(args.install),
        Profiles::load(),
        Metrics::new(),
    );
    let deadline = Deadline::after(INSTALLING);
    let wrong = loop {
        match installer.pass(&profiles, &metrics) {
            Some(wrong) => break wrong,
            None if deadline.left().is_zero() => {
                return Err(Reason::NodeConfigInvalid.because("another installer does not end"));
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    // all were logged; what the cluster has to say is the running agent's to ask
    wrong
        .into_iter()
        .find(|e| e.reason != Reason::AgentUnavailable)
        .map_or(Ok(()), Err)
}

async fn work(args: Args, account: Account) -> Result<(), Explanation> {
    let internal = |e: std::io::Error| Reason::Internal.because(e.to_string());
    let (mut end, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(internal)?,
        signal(SignalKind::interrupt()).map_err(internal)?,
    );
    let (node, server) = (args.node.clone().unwrap_or_default(), args.server()?);
    let (events, queue) = Events::new();
    let agent = Arc::new(Agent {
        node: node.clone(),
        cache: Arc::new(Cache::new()),
        cluster: Arc::new(Cluster::connect(account, server)?),
        profiles: Arc::new(Profiles::load()),
        metrics: Arc::new(Metrics::new()),
        events,
        deaf: Mutex::new(Some(Instant::now())),
        wrong: Mutex::default(),
        bypassing: Mutex::default(),
    });
    info!(node, %server, version = env!("CARGO_PKG_VERSION"), "the agent starts");
    let Agent {
        cache,
        cluster,
        profiles,
        metrics,
        ..
    } = &*agent;
    let installer = Arc::new(Installer::new(args.install.clone()));
    tokio::select! {
        served = serve::serve(agent.clone()) => served?,
        () = watch::pods(cluster, &node, cache, metrics) => {}
        () = watch::namespaces(cluster.clone(), cache.clone(), metrics.clone()) => {}
        () = profiles.clone().keep() => {}
        () = profiles.follow(cluster, metrics) => {}
        () = cluster.follow_account(metrics) => info!("the cluster's certificates have changed: starting again"),
        () = queue.send(cluster, &node, metrics) => {}
        () = keep_installed(agent.clone(), installer.clone()) => {}
        () = installer.keep_token(cluster, &node, metrics) => {}
        () = audit::audit(agent.clone(), args.audit_period) => {}
        () = http::serve(agent.clone(), Some(args.probes()), Paths::All) => {}
        () = http::serve(agent.clone(), args.metrics(), Paths::Metrics) => {}
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("the agent ends");
    Ok(())
}

/// For `agent install`, while another installer is at it.
const INSTALLING: Duration = Duration::from_secs(30);

/// Keeps the node's files right, for ever.
async fn keep_installed(agent: Arc<Agent>, installer: Arc<Installer>) {
    let mut changes = agent.profiles.changes();
    loop {
        let (of_pass, installing) = (agent.clone(), installer.clone());
        let pass = tokio::task::spawn_blocking(move || {
            installing.pass(&of_pass.profiles, &of_pass.metrics)
        })
        .await;
        match pass {
            Ok(Some(wrong)) => {
                *agent.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(wrong)
            }
            Ok(None) => {} // another installer is at it: what was found before counts
            Err(error) => error!("installing: {error}"),
        }
        tokio::time::timeout(installer.args().install_period, changes.changed())
            .await
            .ok();
    }
}

impl Agent {
    /// Why plugins cannot be answered, or would not find what they need; `None` when all is there.
    fn not_ready(&self) -> Option<String> {
        if !self.cache.is_listed() {
            return Some("the node's pods are not listed yet".into());
        }
        if self.deaf_for().is_some() {
            return Some("another process has taken the socket".into());
        }
        let Some(mut wrong) = self
            .wrong
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
        else {
            return Some("the node's files are not installed yet".into());
        };
        wrong.extend(self.profiles.wrong());
        (!wrong.is_empty()).then(|| {
            wrong
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    /// For how long no plugin could ask.
    fn deaf_for(&self) -> Option<Duration> {
        self.deaf
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|since| since.elapsed())
    }

    /// Whether plugins can ask.
    fn hears(&self, hears: bool) {
        let mut deaf = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        *deaf = if hears {
            None
        } else {
            deaf.or_else(|| Some(Instant::now()))
        };
    }

    fn bypassing(&self) -> Vec<Bypassing> {
        self.bypassing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn audited(&self, bypassing: Vec<Bypassing>) {
        *self
            .bypassing
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = bypassing;
    }
}
