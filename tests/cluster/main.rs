//! The agent, source `api` and the controller with a real kube-apiserver, with the rights that deploy/ gives. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says how much it tried"
)]

mod admission;
mod agent;
mod api;
mod behind_tls;
mod bounds;
mod controller;
mod doctor;
mod helm;
mod image;
mod priorities;
mod profiles;
mod removal;
#[path = "../support/mod.rs"]
mod support;

use std::sync::OnceLock;

use support::cluster::Cluster;

/// Shared by the tests that leave it as it is; each has nodes and pods of names of its own.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start_with_team_a)
}
