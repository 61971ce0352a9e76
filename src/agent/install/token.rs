//! The host's credential for the API server, for when the agent is away: a token bound to this Node, not to the agent's pod.

use std::path::Path;

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Node, ServiceAccount},
};
use kube::{Api, api::PostParams};

use crate::{
    agent::cluster::Cluster,
    node::{paths, state},
    reason::{Explanation, Reason},
    source::api::Credential,
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
    let (namespace, name) =
        account.split_once('/').ok_or_else(|| Reason::NodeConfigInvalid.because("the host account is not namespace/name"))?;
    let refused = |what: &str, e: kube::Error| {
        let explanation = cluster.explain(e.into(), account, std::time::Duration::ZERO);
        let cause = format!("{what}: {}", explanation.cause);
        Explanation { cause, ..explanation }
    };
    let nodes: Api<Node> = Api::all(cluster.client());
    let uid = nodes.get_metadata(node).await.map_err(|e| refused("reading this Node", e))?.metadata.uid;
    let bound = BoundObjectReference { api_version: Some("v1".into()), kind: Some("Node".into()), name: Some(node.into()), uid };
    let spec = TokenRequestSpec { bound_object_ref: Some(bound), expiration_seconds: Some(LIFE), ..TokenRequestSpec::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), namespace);
    let answer =
        accounts.create_token_request(name, &PostParams::default(), &TokenRequest { spec: Some(spec), ..TokenRequest::default() }).await;
    let answer = answer.map_err(|e| refused("asking for the host's token", e))?;
    answer.status.and_then(|s| s.token).ok_or_else(|| Reason::ApiUnreachable.because("the API server gave no token"))
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
