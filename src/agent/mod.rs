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
    install::{Installer, uninstall},
    metrics::Metrics,
    profiles::Profiles,
    serve::Socket,
};
use crate::{
    log,
    node::NodeConfig,
    reason::{Explanation, Reason},
    source::wire::Bypassing,
};

/// What the agent's parts share.
struct Agent {
    cache: Arc<Cache>,
    cluster: Arc<Cluster>,
    profiles: Arc<Profiles>,
    metrics: Arc<Metrics>,
    events: Events,
    /// The inode of our socket.
    socket: u64,
    /// What is wrong with what is installed; `None` before the first pass.
    wrong: Mutex<Option<Vec<Explanation>>>,
    bypassing: Mutex<Vec<Bypassing>>,
}

/// Runs until SIGTERM or SIGINT, or does what it does once.
pub fn run(args: Args) -> Result<(), Explanation> {
    let Some(verb) = args.verb else {
        let account = Account::open(&args.account)?; // it is in our own root
        enter(&args.root)?;
        // one thread for all that waits; what blocks gets two more
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
        return runtime.map_err(|e| Reason::Internal.because(format!("starting: {e}")))?.block_on(work(args, account));
    };
    enter(&args.root)?;
    match verb {
        Verb::Install => install_once(args),
        Verb::Uninstall => uninstall(&args.install),
    }
}

/// Makes the host's root ours: from here on all paths are those that the plugin sees.
fn enter(root: &Path) -> Result<(), Explanation> {
    if root != Path::new("/") {
        let entered = chroot(root).and_then(|()| chdir("/"));
        entered.map_err(|e| Reason::NodeConfigInvalid.because(format!("--root {}: {e}", root.display())))?;
    }
    log::to_stderr(NodeConfig::load().unwrap_or_default().log_level);
    Ok(())
}

fn install_once(args: Args) -> Result<(), Explanation> {
    let wrong = Installer::new(args.install).pass(&Profiles::load(), &Metrics::new());
    wrong.into_iter().next().map_or(Ok(()), Err)
}

async fn work(args: Args, account: Account) -> Result<(), Explanation> {
    let internal = |e: std::io::Error| Reason::Internal.because(e.to_string());
    let (mut end, mut interrupt) = (signal(SignalKind::terminate()).map_err(internal)?, signal(SignalKind::interrupt()).map_err(internal)?);
    let (Some(node), Some(server)) = (args.node.clone(), args.server()) else {
        return Err(Reason::NodeConfigInvalid.because("--node and --api-server are needed"));
    };
    let socket = Socket::bind()?;
    let (events, queue) = Events::new();
    let agent = Arc::new(Agent {
        cache: Arc::new(Cache::new()),
        cluster: Arc::new(Cluster::connect(account, server)?),
        profiles: Arc::new(Profiles::load()),
        metrics: Arc::new(Metrics::new()),
        events,
        socket: socket.inode(),
        wrong: Mutex::default(),
        bypassing: Mutex::default(),
    });
    info!(node, %server, version = env!("CARGO_PKG_VERSION"), "the agent starts");
    let a = agent.clone();
    let (of_pods, of_profiles, of_token, of_events) = (agent.clone(), agent.clone(), agent.clone(), agent.clone());
    tokio::select! {
        () = socket.serve(agent.clone()) => {}
        () = watch::pods(&of_pods.cluster, &node, &of_pods.cache, &of_pods.metrics) => {}
        () = watch::namespaces(a.cluster.clone(), a.cache.clone(), a.metrics.clone()) => {}
        () = agent.profiles.clone().follow_files() => {}
        () = of_profiles.profiles.clone().follow_cluster(&of_profiles.cluster, &of_profiles.metrics) => {}
        () = of_token.cluster.follow_token(&of_token.metrics) => {}
        () = queue.send(of_events.cluster.client(), node.clone(), &of_events.metrics) => {}
        () = keep_installed(agent.clone(), Arc::new(Installer::new(args.install.clone())), node.clone()) => {}
        () = audit::audit(agent.clone(), args.audit_period) => {}
        served = http::serve(agent.clone(), args.listen()) => {
            served.map_err(|e| Reason::NodeConfigInvalid.because(format!("listening on {}: {e}", args.listen())))?;
        }
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("the agent ends");
    Ok(())
}

/// Keeps the node's files right, for ever.
async fn keep_installed(agent: Arc<Agent>, installer: Arc<Installer>, node: String) {
    loop {
        let (of_pass, installing) = (agent.clone(), installer.clone());
        let pass = tokio::task::spawn_blocking(move || installing.pass(&of_pass.profiles, &of_pass.metrics)).await;
        let mut wrong = pass.unwrap_or_else(|e| {
            error!("installing: {e}");
            vec![Reason::Internal.into()]
        });
        wrong.extend(installer.credential(&agent.cluster, &node, &agent.metrics).await);
        *agent.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(wrong);
        tokio::time::sleep(installer.args().install_period).await;
    }
}

impl Agent {
    /// Why plugins cannot be answered, or would not find what they need; `None` when all is there.
    fn not_ready(&self) -> Option<String> {
        if !self.cache.is_listed() {
            return Some("the node's pods are not listed yet".into());
        }
        if !Socket::is_there(self.socket) {
            return Some("another process has taken the socket".into());
        }
        match self.wrong.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
            None => Some("the node's files are not installed yet".into()),
            Some([]) => None,
            Some(wrong) => Some(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    fn bypassing(&self) -> Vec<Bypassing> {
        self.bypassing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn audited(&self, bypassing: Vec<Bypassing>) {
        *self.bypassing.lock().unwrap_or_else(PoisonError::into_inner) = bypassing;
    }
}
