//! The controller: NetworkAttachmentDefinitions where MeshProfiles want them, the status of MeshProfiles, and MeshNodes that are silent.
//!
//! Everything that is known is looked at as a whole after each change, and what differs is written: nothing is kept that a restart would
//! lose. Two replicas follow the cluster, one writes.

mod args;
mod attachment;
mod conditions;
mod difference;
mod events;
mod failure;
mod followed;
mod leader;
mod lease;
mod metrics;
mod nodes;
mod objects;
mod pauses;
mod reconcile;
mod refusals;
mod statuses;
mod step;
mod texts;
mod unused;
mod view;
mod wanted;
mod writes;

use std::{process::ExitCode, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tracing::{error, info};

pub use self::args::Args;
use self::{lease::Lease, metrics::Metrics, view::View};
use crate::{
    log,
    profile::VERSION,
    telemetry::{Observed, Paths, TextFormat, serve},
};

/// In whose name objects are applied.
const MANAGER: &str = "mesh-optin-controller";

/// What the controller's parts share.
struct Controller {
    view: View,
    metrics: Metrics,
    lease: Arc<Lease>,
}

impl Observed for Controller {
    fn not_ready(&self) -> Option<String> {
        let unknown = self.view.unknown();
        unknown.map(|what| format!("the cluster's {what} are not known yet"))
    }

    fn metrics(&self, form: TextFormat) -> String {
        let leads = !self.lease.left().is_zero();
        self.metrics.leader.set(leads.into());
        self.metrics.text(form)
    }
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> ExitCode {
    log::to_stderr_at_any_level(args.log_level);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(work(args)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("the controller ends: {why}");
            ExitCode::FAILURE
        }
    }
}

/// How long connecting may take, and how long a connection may be silent: a live watch receives something every minute.
const CONNECT: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(300);

async fn work(args: Args) -> Result<(), String> {
    let mut config = match &args.kubeconfig {
        None => Config::incluster().map_err(|e| e.to_string())?,
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| e.to_string())?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(|e| e.to_string())?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENT);
    config.default_retry = false; // each try is paced, and a Lease renewed late is not renewed
    let connect = |config| Client::try_from(config).map_err(|e: kube::Error| e.to_string());
    // of its own: a connection that others keep busy must not cost the Lease
    let (client, of_lease) = (connect(config.clone())?, connect(config)?);

    let of_signal = |kind| signal(kind).map_err(|e| e.to_string());
    let (mut end, mut interrupt) = (
        of_signal(SignalKind::terminate())?,
        of_signal(SignalKind::interrupt())?,
    );
    let controller = Arc::new(Controller {
        view: View::new(client.clone()),
        metrics: Metrics::new(),
        lease: Arc::new(Lease::new()),
    });
    let ending = Arc::new(Notify::new());
    let elect = leader::elect(
        of_lease,
        (&args.namespace, &args.identity),
        &controller.lease,
        ending.clone(),
    );
    tokio::pin!(elect);
    info!(
        identity = args.identity,
        version = VERSION,
        "the controller starts"
    );
    // each works until the program ends: one that does not is an error
    let stopped = tokio::select! {
        () = controller.view.follow() => Some("following the cluster"),
        () = reconcile::reconcile(&controller, client, &args) => Some("writing"),
        () = serve(controller.clone(), Some(args.listen), Paths::All) => Some("serving probes and metrics"),
        () = &mut elect => return Err("electing a leader has stopped".into()),
        _ = end.recv() => None,
        _ = interrupt.recv() => None,
    };
    ending.notify_one();
    elect.await;
    match stopped {
        Some(what) => Err(format!("{what} has stopped")),
        None => {
            info!("the controller ends");
            Ok(())
        }
    }
}
