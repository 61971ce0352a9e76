//! The host's credential for the API server, for when the agent is away: a token bound to this Node, not to the agent's pod.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use serde_json::json;

use crate::{
    agent::cluster::Cluster,
    mesh::Metadata,
    node::{paths, state},
    reason::{Explanation, Reason},
    source::api::{Credential, Failure},
};

/// How long a token should live, in seconds; an API server may give less.
const LIFE: i64 = 24 * 3600;

/// The host's credential as it is now.
pub(super) struct Kept {
    /// How long the token is still valid.
    pub(super) left: Duration,
    /// How long it may stay.
    pub(super) renew_in: Duration,
}

/// What is there, if it is whole and of this cluster. It says nothing of whether the API server still takes it.
pub(super) fn kept(cluster: &Cluster) -> Option<Kept> {
    let directory = Path::new(paths::API);
    let credential = Credential::load(directory).ok().flatten()?;
    let ca = cluster.account().file("ca.crt").ok()?;
    let is_same = |name: &str, text: &str| {
        std::fs::read_to_string(directory.join(name)).is_ok_and(|there| there == text)
    };
    (is_same("server", &server(cluster)) && is_same("ca.crt", &ca))
        .then(|| kept_of(&credential))
        .flatten()
}

fn kept_of(credential: &Credential) -> Option<Kept> {
    let (expiry, now) = (
        credential.expiry()?.as_second(),
        jiff::Timestamp::now().as_second(),
    );
    let life = credential
        .issued()
        .map_or(LIFE, |issued| expiry - issued.as_second());
    let seconds = |s: i64| Duration::from_secs(s.try_into().unwrap_or(0));
    Some(Kept {
        left: seconds(expiry - now),
        renew_in: seconds(expiry - life / 2 - now),
    })
}

fn server(cluster: &Cluster) -> String {
    format!("https://{}\n", cluster.server())
}

/// Asks for a token and puts it there, with whom to ask and whom to believe.
pub(super) async fn renew(
    cluster: &Cluster,
    node: &str,
    account: &str,
) -> Result<Kept, Explanation> {
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
