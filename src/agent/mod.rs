//! The node agent: answers the plugin from memory, maintains the node's files, audits its pods, and reports.

mod args;
mod audit;
mod bypass;
mod cache;
mod cluster;
mod conditions;
mod ending;
#[cfg(test)]
mod fixtures;
mod health;
mod install;
mod look_up;
mod mesh_node;
mod metrics;
mod namespaces;
mod outcomes;
mod ownership;
mod profiles;
mod serve;
mod tasks;
mod watch;

use std::{
    os::unix::net::UnixListener as StdUnixListener,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::net::UnixListener;
use tracing::{error, info};

pub use self::args::Args;
use self::{
    args::Verb,
    cache::Cache,
    cluster::{Account, Cluster},
    ending::{ends, until_ended},
    health::Health,
    install::{Installer, uninstall, verify, wait_for_removal},
    metrics::Metrics,
    namespaces::Namespaces,
    outcomes::Outcomes,
    ownership::newer_agent_owns_node,
    profiles::Profiles,
    tasks::Tasks,
};
use crate::{
    cluster::Failure,
    deadline::Deadline,
    log,
    multus::Multus,
    node::{self, NodeConfig, state},
    reason::{Explanation, Reason},
    telemetry::{self, About, Alive, Delivered, Events, Journal, Observed, Paths, TextFormat},
};

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the agent's parts share.
struct Agent {
    /// This node's name.
    node: String,
    cache: Arc<Cache>,
    namespaces: Arc<Namespaces<Cluster>>,
    cluster: Arc<Cluster>,
    profiles: Arc<Profiles>,
    metrics: Arc<Metrics>,
    events: Events,
    health: Health,
    installer: Installer,
    outcomes: Outcomes,
}

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
        Verb::Uninstall { stay: true, .. } => until_ended(Ok(()), || {
            loop {
                std::thread::park();
            }
        }),
        Verb::Uninstall { until_done, .. } => {
            let ended = "it was ended before everything was removed";
            until_ended(Err(Reason::Uninstalled.because(ended)), move || {
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

fn install_once(args: Args) -> Result<(), Explanation> {
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
    let deadline = Deadline::after(INSTALLING);
    let wrong = loop {
        match installer.pass(&profiles, &metrics) {
            Some(wrong) => break wrong,
            None if deadline.left().is_zero() => {
                return Err(Reason::NodeConfigInvalid.because("another installer is still running"));
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    wrong.into_iter().next().map_or(Ok(()), Err) // all were logged
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
    let outcomes = ownership.while_owner(async || outcomes::collect(&agent).await);
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

/// How long `agent install` waits for another installer.
const INSTALLING: Duration = Duration::from_secs(30);

/// Maintains the node's files until it is canceled.
async fn keep_installed(agent: &Arc<Agent>) {
    let mut changes = agent.profiles.changes();
    loop {
        install(agent).await;
        tokio::time::timeout(agent.installer.args().install_period, changes.changed())
            .await
            .ok();
    }
}

/// One pass over the node's files.
async fn install(agent: &Arc<Agent>) {
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

impl Agent {
    /// Creates an Event about the current state of a pod.
    fn tell(&self, about: About, explanation: Explanation) {
        self.events.tell(about, explanation, Timestamp::now(), self);
    }
}

impl Observed for Agent {
    fn not_ready(&self) -> Option<String> {
        self.health.not_ready()
    }

    fn metrics(&self, form: TextFormat) -> String {
        self.metrics.cached(self.cache.size());
        self.metrics.conditions(&self.health.conditions());
        self.metrics.text(form)
    }
}

impl Journal for Agent {
    async fn create(&self, namespace: &str, event: &Value) -> Result<(), Failure> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let created = self.cluster.post(&path, event).await;
        created.map(|IgnoredAny| ())
    }

    fn count(&self, delivered: Delivered) {
        self.metrics.event(delivered);
    }
}
