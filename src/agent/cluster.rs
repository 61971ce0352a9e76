//! The connection to the API server with the agent's service account.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tracing::warn;

use super::{metrics::Metrics, namespaces::Reads};
use crate::{
    cluster::{self, Bearer, Concern, Credential, Failure, client},
    mesh::Namespace,
    reason::{Explanation, Reason},
    source::runtime_handler,
};

/// Where a pod finds its service account.
pub(super) const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How often the token is reread: kubelet renews it at 80 % of its lifetime, which is at least an hour.
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

    /// The current content of a file: kubelet renews them.
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

/// The field manager of applied objects.
const MANAGER: &str = "mesh-optin-agent";
/// How long the API server may take to confirm what is known.
pub(super) const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a RuntimeClass is kept before it is read again.
const HANDLER_KEPT: Duration = Duration::from_secs(600);

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

/// A connection to the API server.
pub(super) struct Cluster {
    account: Account,
    server: SocketAddr,
    credential: Credential,
    bearer: Bearer,
    client: Client,
    /// Of RuntimeClasses, by name, and when they were read.
    handlers: Mutex<HashMap<String, (String, Instant)>>,
}

impl Cluster {
    /// With the service account of a directory (`token`, `ca.crt`).
    pub(super) fn connect(
        account: Account,
        server: SocketAddr,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Explanation> {
        let credential = account.credential(server)?;
        let bearer = Bearer::new(&credential.token);
        let client = client(&credential, &bearer, Some(metrics))
            .map_err(|f| explain(f, server, &account, "", Duration::ZERO))?;
        Ok(Self {
            account,
            server,
            credential,
            bearer,
            client,
            handlers: Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where it is.
    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Explains why a look-up failed.
    pub(super) fn explain(&self, failure: Failure, pod: &str, waited: Duration) -> Explanation {
        explain(failure, self.server, &self.account, pod, waited)
    }

    /// The handler of a RuntimeClass, from memory if it was read recently: it changes only if the class is deleted and recreated. An older one
    /// is used if the API server does not answer.
    pub(super) async fn runtime_handler(&self, class: &str) -> Result<String, Failure> {
        let known = self.handlers().get(class).cloned();
        if let Some((handler, read)) = &known
            && read.elapsed() < HANDLER_KEPT
        {
            return Ok(handler.clone());
        }
        let patience = known.as_ref().map_or(PATIENCE, |_| AT_ONCE);
        let asked = runtime_handler(&self.client, class);
        let answer = tokio::time::timeout(patience, asked).await;
        match (answer.unwrap_or(Err(Failure::Timeout)), known) {
            (Ok(handler), _) => {
                if !handler.is_empty() {
                    let read = (handler.clone(), Instant::now());
                    self.handlers().insert(class.to_owned(), read);
                }
                Ok(handler)
            }
            (Err(_), Some((older, _))) => Ok(older),
            (Err(failure), None) => Err(failure),
        }
    }

    /// The handler of a RuntimeClass as far as it is known; empty where it is not.
    pub(super) fn cached_handler(&self, class: &str) -> String {
        let handlers = self.handlers();
        handlers
            .get(class)
            .map(|(handler, _)| handler.clone())
            .unwrap_or_default()
    }

    fn handlers(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an object.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        with_time_limit(cluster::get(&self.client, path)).await
    }

    /// Creates an object, and reads the requested part of the response.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &Value,
    ) -> Result<T, Failure> {
        with_time_limit(cluster::post(&self.client, path, object)).await
    }

    /// Applies an object as the agent.
    pub(super) async fn apply(&self, path: &str, object: &impl Serialize) -> Result<(), Failure> {
        with_time_limit(cluster::apply(&self.client, path, MANAGER, object)).await
    }

    /// The Node that the agent's pod runs on, as its token says: its name and UID.
    pub(super) fn node(&self) -> Option<(String, String)> {
        self.account.credential(self.server).ok()?.node()
    }

    /// Uses renewed tokens, until the CA certificates change: existing connections keep the old ones.
    pub(super) async fn follow_account(&self, metrics: &Metrics) {
        loop {
            match self.account.credential(self.server) {
                Ok(credential) if credential.ca != self.credential.ca => return,
                Ok(credential) => {
                    self.bearer.replace(&credential.token);
                    metrics.token_expires("agent", credential.expiry());
                }
                Err(error) => warn!(reason = error.reason.as_str(), "{error}"),
            }
            tokio::time::sleep(REREAD).await;
        }
    }
}

#[cfg(test)]
impl Cluster {
    /// A cluster whose API server is a function from a path to a status and an object.
    pub(super) fn played_by(api: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        use kube::client::Body;
        let api = Arc::new(api);
        let server = tower::service_fn(move |request: http::Request<Body>| {
            let (code, object) = api(&request.uri().to_string());
            let response = http::Response::builder().status(code);
            let response = response.body(Body::from(object.to_string().into_bytes()));
            std::future::ready(response.map_err(std::io::Error::other))
        });
        let credential = Credential {
            server: SocketAddr::from(([127, 0, 0, 1], 6443)),
            ca: Vec::new(),
            token: String::new(),
        };
        Self {
            account: Account::open(Path::new("/")).unwrap(),
            server: credential.server,
            bearer: Bearer::new(""),
            client: Client::new(server, ""),
            credential,
            handlers: Mutex::default(),
        }
    }
}

impl Reads for Cluster {
    async fn read(&self, name: &str, from_memory: bool) -> Result<Namespace, Failure> {
        let memory = if from_memory {
            "?resourceVersion=0"
        } else {
            ""
        };
        cluster::get(&self.client, &format!("/api/v1/namespaces/{name}{memory}")).await
    }
}

/// How long a request may take that no ADD waits for.
const PATIENCE: Duration = Duration::from_secs(10);

async fn with_time_limit<T>(
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
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
    let concern = failure.concern();
    let explanation = failure.explain(
        &format!("https://{server}"),
        &account.path.join("ca.crt").display().to_string(),
        pod,
        waited,
    );
    match concern {
        Concern::Credential => explanation.remedy(CHECK_ACCOUNT),
        Concern::Server => explanation.remedy("check the API server"),
        Concern::Object => explanation,
    }
}
