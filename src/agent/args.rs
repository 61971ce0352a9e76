use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::cluster;

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
    /// Where the API server is
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "IP", required = true)]
    api_server: Option<IpAddr>,
    /// Its port
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", value_name = "PORT", default_value_t = 443)]
    api_port: u16,
    /// The directory of the service account's token and ca.crt
    #[arg(long, value_name = "DIR", default_value = cluster::ACCOUNT)]
    pub(super) account: PathBuf,
    /// The host's root: the agent works there, on the files that the plugin sees
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,
    /// The address that /healthz, /readyz and /metrics are served on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// Its port
    #[arg(long, value_name = "PORT", default_value_t = 9646)]
    listen_port: u16,
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
    #[arg(long, global = true, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(super) cni_bin_dir: PathBuf,
    /// The directory that Multus looks for configurations in, for attachments without a spec
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/cni/multus/net.d")]
    pub(super) multus_conf_dir: PathBuf,
    /// The directory of Multus's cache, which says for which types of plugin a DEL is still to come
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/cni/multus")]
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
    /// Where probes and metrics are served.
    pub(super) fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.listen_port)
    }

    /// The API server's address.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.api_server.map(|ip| SocketAddr::new(ip, self.api_port))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err("is no number of seconds from 1 to 86400".into()),
    }
}
