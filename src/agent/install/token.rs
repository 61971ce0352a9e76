//! The host's credential for the API server, for when the agent is away: a token bound to this Node, not to the agent's pod.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use serde_json::json;

use crate::{
    agent::cluster::Cluster,
    mesh::Metadata,
    node::{paths, state},
    reason::{Explanation, Reason},
    source::api::{self, Credential, Failure},
};

/// How long a token lives, in seconds.
const LIFE: i64 = 24 * 3600;
/// With less than that left, in seconds, it is renewed.
const EARLY: i64 = LIFE / 2;

/// Makes sure that the credential is there and lives for some time; how long, in seconds, and whether it was written.
pub(super) async fn ensure(cluster: &Cluster, node: &str, account: &str) -> Result<(i64, bool), Explanation> {
    let directory = Path::new(paths::API);
    let server = format!("https://{}\n", cluster.server());
    let ca = cluster.account().file("ca.crt")?;
    let left = |credential: &Credential| Some(credential.expiry()?.as_second() - jiff::Timestamp::now().as_second());
    let there = Credential::load(directory).ok().flatten();
    let is_same = |name: &str, text: &str| std::fs::read_to_string(directory.join(name)).is_ok_and(|there| there == text);
    if let Some(left) = there.as_ref().and_then(left)
        && left > EARLY
        && is_same("server", &server)
        && is_same("ca.crt", &ca)
    {
        return Ok((left, false));
    }
    let token = request(cluster, node, account).await?;
    let credential = Credential::of(cluster.server(), &ca, &token)?;
    private(directory)?;
    for (name, text) in [("server", &server), ("ca.crt", &ca), ("token", &token)] {
        state::replace(&directory.join(name), text.as_bytes(), 0o600)?;
    }
    Ok((left(&credential).unwrap_or_default(), true))
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
    let (namespace, name) =
        account.split_once('/').ok_or_else(|| Reason::NodeConfigInvalid.because("the host account is not namespace/name"))?;
    let refused = |doing: &str, failure: Failure| {
        let explanation = cluster.explain(failure, account, Duration::ZERO);
        Explanation { cause: format!("{doing}: {}", explanation.cause), ..explanation }
    };
    let client = cluster.client();
    let of_node: Node = api::get(&client, &format!("/api/v1/nodes/{node}")).await.map_err(|f| refused("reading this Node", f))?;
    let bound = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": of_node.metadata.uid});
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": bound, "expirationSeconds": LIFE, "audiences": []},
    });
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let answer: Requested = api::post(&client, &path, &asked).await.map_err(|f| refused("asking for the host's token", f))?;
    Ok(answer.status.token)
}

/// Root's alone, whatever it was.
fn private(directory: &Path) -> Result<(), Explanation> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)))
        .map_err(|e| state::unusable(directory, &e))
}
