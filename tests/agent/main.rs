//! The node agent on a node of the lab, with a real kube-apiserver and the rights that deploy/ gives it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod absence;
mod answering;
mod installing;
mod profiles;
#[path = "../support/mod.rs"]
mod support;
mod watching;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    agent::{Agent, add},
    cluster::Cluster,
    lab::{APP, Node, PodLab, PodNet, on_node},
    memory::Limited,
    pods::cni_args,
};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;
const V4: PodNet = PodNet {
    v4: true,
    v6: false,
    net1: false,
};

/// Shared by the tests that leave it as it is; each has a node of its own name.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start_with_team_a)
}

/// A node that has no source but the agent.
fn on_agent_s_node<T: Send>(work: impl FnOnce(&Node) -> T + Send) -> T {
    on_node(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 15s}");
        work(node)
    })
}

fn is_redirected(lab: &PodLab) {
    assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "pod:15001");
}

/// Waits until something is so; fails the test with what is said if it takes too long.
fn until(is_so: impl Fn() -> bool, said: impl Fn() -> String) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(40), "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A MeshProfile as the cluster has it.
fn profile(spec: &Value) -> Value {
    json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "default"}, "spec": spec})
}
