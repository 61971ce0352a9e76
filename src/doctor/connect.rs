use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::cluster::{Cluster, is_name};
use crate::terminal::CommandFailure;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Which cluster, and what of it; the flags that kubectl has.
#[derive(clap::Args)]
pub(super) struct ClusterTarget {
    /// The context of the kubeconfig file [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig file [default: those of KUBECONFIG, else ~/.kube/config, else the service account of this pod]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The pod's namespace; of status and doctor: look at this namespace only
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Look at all namespaces, which status and doctor do by default
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl ClusterTarget {
    /// The namespace that was typed.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Refuses what cannot be meant.
    pub(super) fn check(&self, is_of_one: bool) -> Result<(), CommandFailure> {
        if is_of_one && self.all_namespaces {
            return Err(CommandFailure::usage(
                "a pod is in one namespace: give it with -n",
            ));
        }
        match &self.namespace {
            Some(name) if !is_name(name) => Err(CommandFailure::usage(format!(
                "{name:?} is no name of a namespace"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// The cluster, and the namespace of whoever asks.
    pub(super) async fn connect(&self) -> Result<(Cluster, String), CommandFailure> {
        let mut config = self.config().await.map_err(CommandFailure::failed)?;
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false; // how long an answer may take is the request's to say
        let own = self.namespace.clone();
        let namespace = own.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|e| CommandFailure::failed(e.to_string()))?;
        Ok((Cluster::new(client), namespace))
    }

    async fn config(&self) -> Result<Config, String> {
        let file = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        match file {
            Ok(file) => {
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(|e| format!("the kubeconfig cannot be used: {e}"))
            }
            Err(error) if self.kubeconfig.is_some() || self.context.is_some() => {
                Err(format!("the kubeconfig cannot be read: {error}"))
            }
            Err(error) => Config::incluster().map_err(|no_pod| {
                format!(
                    "there is no kubeconfig to be read ({error}), and this is no pod ({no_pod})"
                )
            }),
        }
    }
}
