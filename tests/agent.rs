//! The node agent on a node of the lab, with a real kube-apiserver and the rights that deploy/ gives it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test fails by panicking")]

mod support;

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
    pods::cni_args,
};

const V4: PodNet = PodNet { v4: true, v6: false, net1: false };

fn new_cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.namespace("team-a", &json!({"istio-injection": "enabled"}));
    cluster.apply_rbac();
    cluster
}

/// Shared by the tests that leave it as it is; each has a node of its own name.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(new_cluster)
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

#[test]
fn a_pod_is_answered_from_memory_and_told_on_the_pod() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "memory", &[]).ready();
        let pod = cluster().create_pod_on("memory", "defaults", "from-memory");
        agent.reaches("mesh_optin_cached_pods", 1.0);
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!((call.code, call.logged_reason().as_str()), (0, "Redirected"), "{call:?}");
        is_redirected(&lab);
        assert_eq!(agent.metric(r#"mesh_optin_look_ups_total{source="cache"}"#), 1.0);
        agent.reaches(r#"mesh_optin_decisions_total{reason="Redirected"}"#, 1.0);
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        assert_eq!(cluster().events_of(&pod), [("Redirected".to_owned(), "Normal".to_owned())]);
    });
}
