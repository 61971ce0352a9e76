use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::cluster;
use crate::{
    node::{LogLevel, NodeSettings, SourceKind},
    profile::DefaultProfile,
    reason::{Explanation, Reason, quote},
    telemetry::WantedEvents,
};

/// Arguments of `agent`.
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_negates_reqs = true)]
pub struct Args {
    /// What to do instead of running
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
    /// This node's name
    #[arg(long, env = "NODE_NAME", required = true)]
    pub(super) node: Option<String>,
    /// The IP address of the API server
    #[arg(
        long,
        env = "KUBERNETES_SERVICE_HOST",
        value_name = "IP",
        required = true
    )]
    api_server: Option<String>,
    /// The port of the API server
    #[arg(
        long,
        env = "KUBERNETES_SERVICE_PORT",
        value_name = "PORT",
        default_value = "443"
    )]
    api_port: String,
    /// The directory with the service account's token and ca.crt
    #[arg(long, value_name = "DIR", default_value = cluster::ACCOUNT)]
    pub(super) account: PathBuf,
    /// The host's root directory, below which all other paths are
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,
    /// A socket in the agent's own container that serves /healthz, /readyz and /metrics, for `agent probe`
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) probe_socket: Option<PathBuf>,
    /// A port of 127.0.0.1 that serves the same
    #[arg(long, value_name = "PORT")]
    probe_port: Option<u16>,
    /// An address on which /metrics is served to other hosts
    #[arg(long, value_name = "IP")]
    metrics_address: Option<IpAddr>,
    /// The port of the metrics address
    #[arg(long, value_name = "PORT", default_value_t = 9647)]
    metrics_port: u16,
    /// How often every pod of the node is audited
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(super) audit_period: Duration,
    /// Which Events are created on pods: all, warnings or none
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(super) events: WantedEvents,
    #[command(flatten)]
    pub(super) install: Install,
}

/// What is installed on the node, and where.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Install {
    /// The directory where Multus looks for CNI plugins; on OpenShift /var/lib/cni/bin
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/opt/cni/bin"
    )]
    pub(super) cni_bin_dir: PathBuf,
    /// The directory where Multus looks for the configurations of attachments without a spec
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/etc/cni/multus/net.d"
    )]
    pub(super) multus_conf_dir: PathBuf,
    /// The directory with the runtime's CNI configuration, in which Multus's own is looked up [default: the usual ones]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) runtime_conf_dir: Option<PathBuf>,
    /// The directory of Multus's cache, which says which plugins still have to be called for a DEL [default: /var/lib/cni/multus; for
    /// `uninstall` the one that the agent has used]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) multus_cache_dir: Option<PathBuf>,
    /// An additional attachment without a spec that needs a configuration, such as v2-6-istio-cni; those of the profiles have one anyway
    #[arg(long = "attachment", global = true, value_name = "NAME")]
    pub(super) attachments: Vec<String>,
    /// A service account that may only get pods and namespaces; its token is kept on the host, for use while the agent is away
    #[arg(long, global = true, value_name = "NAMESPACE/NAME")]
    pub(super) host_account: Option<String>,
    /// An attachment, such as istio-cni, whose configuration may replace another plugin's, which is kept and restored by `uninstall`
    #[arg(long = "take-over", global = true, value_name = "NAME")]
    pub(super) take_over: Vec<String>,
    /// Settings that are the same on every node; each key of a node's /etc/mesh-optin/node.yaml takes precedence
    #[command(flatten)]
    pub(super) settings: Settings,
    /// How often the node's files are checked
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) install_period: Duration,
}

impl Install {
    /// The directory of Multus's cache.
    pub(super) fn cache_dir(&self) -> &Path {
        let given = self.multus_cache_dir.as_deref();
        given.unwrap_or_else(|| Path::new("/var/lib/cni/multus"))
    }
}

/// Settings that are written to the node for the plugin, if they are given.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Settings {
    /// Where the plugin looks up pods, in order: agent, api
    #[arg(long, global = true, value_name = "SOURCE", value_delimiter = ',')]
    sources: Option<Vec<SourceKind>>,
    /// How long a call of the plugin may take in all: 100ms to 60s
    #[arg(long, global = true, value_name = "TIME")]
    deadline: Option<String>,
    /// What governs if there is no MeshProfile: Auto, BuiltIn or Required
    #[arg(long, global = true, value_name = "WHAT")]
    default_profile: Option<DefaultProfile>,
    /// The least severe level that plugin and agent log: error, warn, info or debug
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

impl Settings {
    /// The settings as they are written; an error if one is not valid.
    pub(super) fn of_node(&self) -> Result<NodeSettings, Explanation> {
        let settings = NodeSettings {
            sources: self.sources.clone(),
            deadline: self.deadline.clone(),
            default_profile: self.default_profile,
            log_level: self.log_level,
            ..NodeSettings::default()
        };
        settings.check().map_err(|why| {
            let remedy = "correct the agent's arguments";
            Reason::NodeConfigInvalid.because(why).remedy(remedy)
        })?;
        Ok(settings)
    }
}

impl Default for Install {
    fn default() -> Self {
        Self {
            cni_bin_dir: "/opt/cni/bin".into(),
            multus_conf_dir: "/etc/cni/multus/net.d".into(),
            runtime_conf_dir: None,
            multus_cache_dir: None,
            attachments: Vec::new(),
            host_account: None,
            take_over: Vec::new(),
            settings: Settings::default(),
            install_period: Duration::from_secs(10),
        }
    }
}

/// What is done instead of running the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub(super) enum Verb {
    /// Installs the program and its configurations on the node, and exits.
    Install,
    /// Asks the agent in the same container, at its --probe-socket, whether it is ready; if not, says why and fails.
    Probe,
    /// Removes what was installed on the node. While a sandbox names the program it stays, answers DEL and refuses ADD.
    Uninstall {
        /// Retry until nothing names the program any more
        #[arg(long)]
        until_done: bool,
        /// Do nothing until terminated: for the container of a DaemonSet that has finished uninstalling
        #[arg(long, conflicts_with = "until_done")]
        stay: bool,
    },
}

impl Args {
    /// Where all paths are served.
    pub(super) fn probes(&self) -> Option<SocketAddr> {
        self.probe_port
            .map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
    }

    /// Where metrics alone are served.
    pub(super) fn metrics(&self) -> Option<SocketAddr> {
        self.metrics_address
            .map(|ip| SocketAddr::new(ip, self.metrics_port))
    }

    /// The API server's address. It is read here, so that a command that does not need it does not mind it.
    pub(super) fn server(&self) -> Result<SocketAddr, Explanation> {
        let (ip, port) = (
            self.api_server.as_deref().unwrap_or_default(),
            &self.api_port,
        );
        let address = ip
            .parse()
            .ok()
            .zip(port.parse().ok())
            .map(|(ip, port)| SocketAddr::new(ip, port));
        address.ok_or_else(|| {
            let cause = format!(
                "the API server {}:{} is not an IP address and a port",
                quote(ip),
                quote(port)
            );
            Reason::NodeConfigInvalid
                .because(cause)
                .remedy("give --api-server and --api-port")
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err("is not a number of seconds from 1 to 86400".into()),
    }
}
