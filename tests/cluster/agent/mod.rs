//! The node agent on a node of the lab, with a real kube-apiserver and the rights that deploy/ gives it.

mod absence;
mod answering;
mod before;
mod cost;
mod faults;
mod installing;
mod judging;
mod mesh_node;
mod namespaces;
mod older;
mod outcomes;
mod ownership;
mod profiles;
mod uninstalling;
mod watching;

use std::time::{Duration, Instant};

use crate::{
    cluster,
    support::{
        agent::{Agent, add},
        cluster::Cluster,
        lab::{APP, CONFIG, Node, PodLab, V4, on_node},
        memory::Limited,
        pods::cni_args,
    },
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A node that has no source but the agent.
fn on_node_with_agent<T: Send>(work: impl FnOnce(&Node) -> T + Send) -> T {
    on_node(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 15s}");
        work(node)
    })
}

fn is_redirected(lab: &PodLab) {
    assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "pod:15001");
}

/// An agent that audits every second, and a pod of its node that it redirected: agent, pod and network.
fn redirected_and_audited<'a>(node: &Node, name: &str) -> (Agent<'a>, Value, PodLab) {
    let agent = Agent::start(node, cluster(), name, &["--audit-period", "1"]).ready();
    let pod = cluster().create_pod_on(name, "defaults", name);
    let lab = node.pod("a", V4);
    let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
    assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
    (agent, pod, lab)
}

/// Waits until something is so; fails the test with what is said if it takes too long.
fn until(is_so: impl Fn() -> bool, said: impl Fn() -> String) {
    until_within(40, is_so, said);
}

/// The same within this number of seconds.
fn until_within(seconds: u64, is_so: impl Fn() -> bool, said: impl Fn() -> String) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed().as_secs() < seconds, "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A MeshProfile as the cluster has it.
fn profile(spec: &Value) -> Value {
    json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "default"}, "spec": spec})
}
