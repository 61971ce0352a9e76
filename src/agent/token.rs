//! Keeps the host's credential for the API server, used while the agent is away. Its token is bound to this Node, not to the agent's
//! pod.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};

use super::{cluster::Cluster, conditions::NodeFinding, shared::Agent};
use crate::{
    cluster::{Credential, Failure},
    mesh::Metadata,
    node::{paths, state},
    reason::{Explanation, Reason},
};

/// How long a token should live, in seconds; an API server may give less.
const LIFE: i64 = 24 * 3600;
/// The pause after a failed renewal.
const PAUSE: Duration = Duration::from_secs(60);
/// The least time between two renewals: with a wrong clock every token looks old.
const AT_LEAST: Duration = Duration::from_secs(300);

/// The current host credential.
struct KeptToken {
    /// When the token expires, in seconds since 1970.
    expiry: i64,
    /// How long it is still valid.
    left: Duration,
    /// How long it may stay.
    renew_in: Duration,
}

impl Agent {
    /// Keeps the host credential valid, if one is asked for, until it is canceled. It is for when the agent is away: a problem with it is a
    /// condition, and affects nothing else.
    pub(super) async fn keep_token(&self) {
        let Some(account) = &self.installer.args().host_account else {
            self.health.findings().host_credential = NodeFinding::NotRequested;
            tokio::task::spawn_blocking(remove_ours).await.ok();
            return std::future::pending().await;
        };
        let (cluster, metrics) = (&*self.cluster, &*self.metrics);
        // the first one is always renewed: the account or the Node may have changed
        let mut renewed = None::<(Instant, i64)>;
        loop {
            let of_cluster = self.cluster.clone();
            let there = tokio::task::spawn_blocking(move || kept(credential()?, &of_cluster)).await;
            let stays = |kept: &KeptToken| {
                renewed.is_some_and(|(at, expiry)| {
                    let is_fresh = expiry == kept.expiry && at.elapsed() < AT_LEAST;
                    is_fresh || !kept.renew_in.is_zero()
                })
            };
            let there = there.ok().flatten();
            let (mut pause, renewal) = match there.filter(stays) {
                Some(_) => (self.installer.args().install_period, None),
                None => (PAUSE, Some(renew(cluster, &self.node, account).await)),
            };
            let finding = match renewal {
                None => NodeFinding::Holds,
                Some(Ok(kept)) => {
                    pause = self.installer.args().install_period;
                    renewed = Some((Instant::now(), kept.expiry));
                    metrics.count_install("token", true);
                    let seconds = kept.left.as_secs();
                    info!(seconds, "the host's token was renewed");
                    NodeFinding::Holds
                }
                Some(Err(error)) => {
                    metrics.count_install("token", false);
                    NodeFinding::Wrong(error)
                }
            };
            let before =
                std::mem::replace(&mut self.health.findings().host_credential, finding.clone());
            if let NodeFinding::Wrong(error) = &finding
                && before != finding
            {
                let reason = error.reason.as_str();
                warn!(reason, "the host's credential: {error}");
            }
            // of the installed one, whether or not the renewal succeeded
            let expiry = tokio::task::spawn_blocking(|| credential()?.expiry()).await;
            metrics.token_expires("host", expiry.ok().flatten());
            tokio::time::sleep(pause).await;
        }
    }
}

/// Removes a credential that an earlier agent with `--host-account` installed: it would be used until it expires. One that an admin installed
/// is not bound to a Node, and stays.
fn remove_ours() {
    if credential().is_some_and(|credential| credential.node().is_some()) {
        info!("the host's credential is removed: none is asked for any more");
        std::fs::remove_dir_all(paths::API).ok();
    }
}

/// The installed credential.
fn credential() -> Option<Credential> {
    Credential::load(Path::new(paths::API)).ok().flatten()
}

/// The installed credential, if it is complete and for this cluster. The API server may reject it all the same.
fn kept(credential: Credential, cluster: &Cluster) -> Option<KeptToken> {
    let directory = Path::new(paths::API);
    let ca = cluster.account().file("ca.crt").ok()?;
    let is_same = |name: &str, text: &str| {
        std::fs::read_to_string(directory.join(name)).is_ok_and(|there| there == text)
    };
    (is_same("server", &server(cluster)) && is_same("ca.crt", &ca))
        .then(|| kept_of(&credential))
        .flatten()
}

fn kept_of(credential: &Credential) -> Option<KeptToken> {
    let (expiry, now) = (
        credential.expiry()?.as_second(),
        jiff::Timestamp::now().as_second(),
    );
    let life = credential
        .issue_time()
        .map_or(LIFE, |issued| expiry - issued.as_second());
    let seconds = |s: i64| Duration::from_secs(s.try_into().unwrap_or(0));
    Some(KeptToken {
        expiry,
        left: seconds(expiry - now),
        renew_in: seconds(expiry - life / 2 - now),
    })
}

fn server(cluster: &Cluster) -> String {
    format!("https://{}\n", cluster.server())
}

/// Requests a token and installs it, with the server's address and CA.
async fn renew(cluster: &Cluster, node: &str, account: &str) -> Result<KeptToken, Explanation> {
    let (server, ca) = (server(cluster), cluster.account().file("ca.crt")?);
    let token = request(cluster, node, account).await?;
    let credential = Credential::of(cluster.server(), &ca, &token)?;
    let write = move || {
        let directory = Path::new(paths::API);
        state::private(directory)?;
        [("server", server), ("ca.crt", ca), ("token", token)]
            .iter()
            .try_for_each(|(name, text)| {
                state::replace(&directory.join(name), text.as_bytes(), 0o600)
            })
    };
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|e| Reason::Internal.because(e.to_string()))??;
    kept_of(&credential).ok_or_else(|| {
        Reason::ApiUnreachable.because("the token for the host does not say when it expires")
    })
}

async fn request(cluster: &Cluster, node: &str, account: &str) -> Result<String, Explanation> {
    #[derive(Deserialize)]
    struct Node {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Requested {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        token: String,
    }
    let (namespace, name) = account.split_once('/').ok_or_else(|| {
        Reason::NodeConfigInvalid.because("the host account is not namespace/name")
    })?;
    let refused = |doing: &str, failure: Failure| {
        let explanation = cluster.explain(failure, account, Duration::ZERO);
        Explanation {
            cause: format!("{doing}: {}", explanation.cause),
            ..explanation
        }
    };
    let of_node: Node = cluster
        .get(&format!("/api/v1/nodes/{node}"))
        .await
        .map_err(|f| refused("reading this Node", f))?;
    let bound =
        json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": of_node.metadata.uid});
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": bound, "expirationSeconds": LIFE, "audiences": []},
    });
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let answer: Requested = cluster
        .post(&path, &asked)
        .await
        .map_err(|f| refused("asking for the host's token", f))?;
    Ok(answer.status.token)
}
