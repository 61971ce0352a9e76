use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::cluster;
use crate::reason::{Explanation, Reason, quote};

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
    /// Its port
    #[arg(
        long,
        env = "KUBERNETES_SERVICE_PORT",
        value_name = "PORT",
        default_value = "443"
    )]
    api_port: String,
    /// The directory of the service account's token and ca.crt
    #[arg(long, value_name = "DIR", default_value = cluster::ACCOUNT)]
    pub(super) account: PathBuf,
    /// The host's root: the agent works there, on the files that the plugin sees
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,
    /// The port of 127.0.0.1 on which /healthz, /readyz and /metrics are served
    #[arg(long, value_name = "PORT", default_value_t = 9646)]
    probe_port: u16,
    /// An address on which /metrics is served to others
    #[arg(long, value_name = "IP")]
    metrics_address: Option<IpAddr>,
    /// Its port
    #[arg(long, value_name = "PORT", default_value_t = 9647)]
    metrics_port: u16,
    /// How often every pod of the node is looked at
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(super) audit_period: Duration,
    #[command(flatten)]
    pub(super) install: Install,
}

/// What is put onto the node, and where.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Install {
    /// The directory that Multus looks for CNI plugins in; OpenShift: /var/lib/cni/bin
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/opt/cni/bin"
    )]
    pub(super) cni_bin_dir: PathBuf,
    /// The directory that Multus looks for configurations in, for attachments without a spec
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/etc/cni/multus/net.d"
    )]
    pub(super) multus_conf_dir: PathBuf,
    /// The directory of Multus's cache, which says for which types of plugin a DEL is still to come
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/cni/multus"
    )]
    pub(super) multus_cache_dir: PathBuf,
    /// A further attachment without a spec to write a configuration for, such as v2-6-istio-cni; those of the profiles are written anyway
    #[arg(long = "attachment", global = true, value_name = "NAME")]
    pub(super) attachments: Vec<String>,
    /// A service account, namespace/name, that may only get pods and namespaces: its token is kept on the host for when the agent is away
    #[arg(long, global = true, value_name = "NAMESPACE/NAME")]
    pub(super) host_account: Option<String>,
    /// How often the node's files are looked at
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) install_period: Duration,
}

/// What an agent does once.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(super) enum Verb {
    /// Puts the program and its configurations onto the node, and ends.
    Install,
    /// Removes what was put onto the node; while a sandbox names it, a program stays that answers DEL and refuses ADD.
    Uninstall,
}

impl Args {
    /// Where all paths are served.
    pub(super) fn probes(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.probe_port)
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
        Ok(_) | Err(_) => Err("is no number of seconds from 1 to 86400".into()),
    }
}
