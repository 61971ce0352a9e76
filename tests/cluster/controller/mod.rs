//! The controller with a real kube-apiserver and the rights that deploy/ gives it.

mod attachments;
mod nodes;
mod refusals;
mod replicas;
mod scale;
mod status;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    controller::{Controller, NODES, PROFILES, attachment_path, until, within},
};

#[test]
fn the_api_server_takes_the_manifests() {
    let cluster = Cluster::start_with_crds();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/controller");
    let taken = cluster.enter(&["kubectl", "apply", "--dry-run=server", "-k", folder]);
    assert!(
        taken.contains("deployment.apps/mesh-optin-controller created"),
        "{taken}"
    );
    assert!(!taken.contains("Warning"), "{taken}");
}

/// What the Lease says about who leads.
fn lease(cluster: &Cluster) -> Value {
    let path = "/apis/coordination.k8s.io/v1/namespaces/mesh-optin/leases/mesh-optin-controller";
    let lease = cluster.request("GET", path, &Value::Null);
    lease.unwrap()["spec"].take()
}

/// A profile of the namespaces of a team, with an attachment in each.
fn of_team(team: &str) -> Value {
    json!({"namespaces": {"matchLabels": {"team": team}}, "attachment": {"placement": "PerNamespace"}})
}
