use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use tracing::Level;

/// Maintains the NetworkAttachmentDefinitions that MeshProfiles ask for, and the status of MeshProfiles.
#[derive(Debug, Parser)]
#[command(name = "mesh-optin-controller", version, max_term_width = 100)]
pub struct Args {
    /// The address that serves /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub(super) listen: SocketAddr,
    /// The namespace of the Lease by which replicas elect a leader
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "mesh-optin"
    )]
    pub(super) namespace: String,
    /// The name of this replica
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value_t = any_name())]
    pub(super) identity: String,
    /// How to reach the API server when not running in a pod
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The least severe level that is logged: error, warn, info or debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: Level,
    /// After how many seconds without a reference from any pod an attachment that no profile wants is removed
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub(super) unused_after: Duration,
    /// After how many seconds without a report an agent is silent.
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = seconds)]
    pub(super) silent_after: Duration,
}

fn any_name() -> String {
    format!("controller-{:08x}", fastrand::u32(..))
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
