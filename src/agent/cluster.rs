//! The API server, as the agent's service account sees it.

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::Client;
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::warn;

use super::metrics::Metrics;
use crate::{
    reason::{Explanation, Reason},
    source::api::{self, Bearer, Credential, Failure, client},
};

/// Where a pod finds its service account.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How often a token is read anew: kubelet renews it at 80 % of its life, of an hour at least.
const REREAD: Duration = Duration::from_secs(30);

/// The service account's directory: opened before our root becomes the host's.
pub(super) struct Account {
    directory: File,
    path: PathBuf,
}

impl Account {
    pub(super) fn open(path: &Path) -> Result<Self, Explanation> {
        let directory = File::open(path).map_err(|e| missing(path, &e))?;
        Ok(Self {
            directory,
            path: path.into(),
        })
    }

    /// A file of it, as it is now: kubelet renews them.
    pub(super) fn file(&self, name: &str) -> Result<String, Explanation> {
        let read = || -> std::io::Result<String> {
            let file = openat(
                &self.directory,
                name,
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            std::io::read_to_string(File::from(file).take(LARGEST))
        };
        read().map_err(|e| missing(&self.path.join(name), &e))
    }

    fn credential(&self, server: SocketAddr) -> Result<Credential, Explanation> {
        Credential::of(server, &self.file("ca.crt")?, &self.file("token")?)
    }
}

/// Largest file of an account, in bytes.
const LARGEST: u64 = 1 << 20;

fn missing(path: &Path, error: &std::io::Error) -> Explanation {
    Reason::ApiUnauthorized
        .because(format!(
            "the agent's service account: {}: {error}",
            path.display()
        ))
        .remedy(CHECK_ACCOUNT)
}

/// Connections to the API server: one for requests and the node's pods, more for watches of namespaces. They share a token.
pub(super) struct Cluster {
    account: Account,
    server: SocketAddr,
    credential: Credential,
    bearer: Bearer,
    client: Client,
    watching: Mutex<Vec<Client>>,
}

impl Cluster {
    /// With the service account of a directory (`token`, `ca.crt`).
    pub(super) fn connect(account: Account, server: SocketAddr) -> Result<Self, Explanation> {
        let credential = account.credential(server)?;
        let bearer = Bearer::new(&credential.token);
        let client = client(&credential, &bearer)
            .map_err(|f| explain(f, server, &account, "", Duration::ZERO))?;
        Ok(Self {
            account,
            server,
            credential,
            bearer,
            client,
            watching: Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client whose connection is one of those for watches of namespaces.
    pub(super) fn watching_client(&self, connection: usize) -> Result<Client, Explanation> {
        let mut clients = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        while clients.len() <= connection {
            clients.push(
                client(&self.credential, &self.bearer)
                    .map_err(|f| self.explain(f, "", Duration::ZERO))?,
            );
        }
        Ok(clients[connection].clone())
    }

    /// Where it is.
    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// What a look-up failed with.
    pub(super) fn explain(&self, failure: Failure, pod: &str, waited: Duration) -> Explanation {
        explain(failure, self.server, &self.account, pod, waited)
    }

    /// Asks for an object.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        within(api::get(&self.client, path)).await
    }

    /// Creates an object, and reads what is asked for of the answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &Value,
    ) -> Result<T, Failure> {
        within(api::post(&self.client, path, object)).await
    }

    /// Takes a renewed token into use, until the certificates to believe are others: those are our connections'.
    pub(super) async fn follow_account(&self, metrics: &Metrics) {
        loop {
            match self.account.credential(self.server) {
                Ok(credential) if credential.ca != self.credential.ca => return,
                Ok(credential) => {
                    self.bearer.replace(&credential.token);
                    let left = |expiry: jiff::Timestamp| {
                        expiry.as_second() - jiff::Timestamp::now().as_second()
                    };
                    metrics.token_left(credential.expiry().map(left));
                }
                Err(error) => warn!(reason = error.reason.as_str(), "{error}"),
            }
            tokio::time::sleep(REREAD).await;
        }
    }
}

/// Longest that a request may take that nobody waits for.
const PATIENCE: Duration = Duration::from_secs(10);

async fn within<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, request)
        .await
        .unwrap_or(Err(Failure::Timeout))
}

const CHECK_ACCOUNT: &str = "check the service account of the mesh-optin agent";

fn explain(
    failure: Failure,
    server: SocketAddr,
    account: &Account,
    pod: &str,
    waited: Duration,
) -> Explanation {
    let explanation = failure.explain(
        &format!("https://{server}"),
        &account.path.join("ca.crt").display().to_string(),
        pod,
        waited,
    );
    let is_account_s = matches!(
        explanation.reason,
        Reason::ApiForbidden | Reason::ApiUnauthorized
    );
    let is_server_s = matches!(
        explanation.reason,
        Reason::ApiUnreachable | Reason::DeadlineExceeded
    );
    if is_account_s {
        explanation.remedy(CHECK_ACCOUNT)
    } else if is_server_s {
        explanation.remedy("check the API server")
    } else {
        explanation
    }
}
