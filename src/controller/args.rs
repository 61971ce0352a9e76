use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use tracing::Level;

/// Keeps NetworkAttachmentDefinitions where MeshProfiles want them, and says in their status what holds of them.
#[derive(Debug, Parser)]
#[command(name = "mesh-optin-controller", version, max_term_width = 100)]
pub struct Args {
    /// Serves /healthz, /readyz and /metrics at this address.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub(super) listen: SocketAddr,
    /// The namespace of the Lease that says which replica leads.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "mesh-optin"
    )]
    pub(super) namespace: String,
    /// The name of this replica.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value_t = any_name())]
    pub(super) identity: String,
    /// How to reach the API server, where this is no pod.
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// From which level on is logged: error, warn, info or debug.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: Level,
    /// After how many seconds in which no pod named it an attachment is removed that no profile wants.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub(super) unused_after: Duration,
}

fn any_name() -> String {
    format!("controller-{:08x}", fastrand::u32(..))
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
