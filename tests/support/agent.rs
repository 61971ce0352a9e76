//! The node agent on a node of the lab, in the network of a control plane.

use std::{
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, SERVER},
    held::{Held, metric_in},
    lab::{Call, Node, inside},
};

/// As long as anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port on which an agent serves its probes: the nodes of the tests share the cluster's network namespace.
fn listen_port() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

/// An agent that runs; it ends with this.
pub struct Agent<'a> {
    cluster: &'a Cluster,
    pub pid: Pid,
    pub listen_port: String,
    process: Held,
}

impl<'a> Agent<'a> {
    /// Starts it for a node of this name, with these further arguments; its service account is that of deploy/.
    pub fn start(node: &Node, cluster: &'a Cluster, name: &str, args: &[&str]) -> Self {
        Self::start_at(
            node,
            cluster,
            name,
            SERVER.rsplit(':').next().unwrap(),
            args,
        )
    }

    /// The same with the API server at this port.
    pub fn start_at(
        node: &Node,
        cluster: &'a Cluster,
        name: &str,
        port: &str,
        args: &[&str],
    ) -> Self {
        Self::start_by(node, cluster, name, port, args, |command| command)
    }

    /// One that may not change network namespaces.
    #[allow(clippy::disallowed_methods, reason = "an agent is a process")]
    pub fn start_without_net_admin(
        node: &Node,
        cluster: &'a Cluster,
        name: &str,
        args: &[&str],
    ) -> Self {
        let port = SERVER.rsplit(':').next().unwrap();
        Self::start_by(node, cluster, name, port, args, |command| {
            let mut without = Command::new("/usr/bin/setpriv");
            without
                .args(["--bounding-set", "-net_admin"])
                .arg(command.get_program())
                .args(command.get_args())
                .env_clear();
            without
        })
    }

    fn start_by(
        node: &Node,
        cluster: &'a Cluster,
        name: &str,
        port: &str,
        args: &[&str],
        by: impl FnOnce(Command) -> Command,
    ) -> Self {
        for (file, text) in [
            ("token", cluster.token_of_agent(name)),
            ("ca.crt", cluster.file("ca.crt")),
        ] {
            node.write(&format!("account/{file}"), &text);
        }
        for directory in ["opt/cni/bin", "etc/cni/multus/net.d"] {
            std::fs::create_dir_all(node.path(directory)).unwrap();
        }
        let listen_port = args
            .iter()
            .skip_while(|arg| **arg != "--probe-port")
            .nth(1)
            .map_or_else(listen_port, |port| (*port).to_owned());
        let mut command = node.command(
            "/mesh-optin",
            &[
                "agent",
                "--node",
                name,
                "--api-server",
                "127.0.0.1",
                "--api-port",
                port,
            ],
        );
        command.args(["--account", "/account"]).args(args);
        if !args.contains(&"--probe-port") {
            command.args(["--probe-port", &listen_port]);
        }
        let process = Held::start(cluster, by(command));
        Self {
            cluster,
            pid: process.pid,
            listen_port,
            process,
        }
    }

    /// Waits until it is ready.
    pub fn ready(self) -> Self {
        let started = Instant::now();
        while self.get("/readyz") != "ready\n" {
            assert!(started.elapsed() < PATIENCE, "{}", self.get("/readyz"));
            std::thread::sleep(Duration::from_millis(50));
        }
        self
    }

    /// What one of its paths answers; empty where nothing does.
    pub fn get(&self, path: &str) -> String {
        self.cluster.answer_at(&self.listen_port, path)
    }

    /// The value of a metric, 0 where it is not there yet.
    pub fn metric(&self, name: &str) -> f64 {
        metric_in(&self.get("/metrics"), name).unwrap_or_default()
    }

    /// Waits until a metric has at least this value.
    pub fn reaches(&self, name: &str, value: f64) {
        let started = Instant::now();
        while self.metric(name) < value {
            assert!(
                started.elapsed() < PATIENCE,
                "{name} does not reach {value}:\n{}",
                self.get("/metrics")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it by this signal; its log.
    pub fn end(self, signal: Signal) -> String {
        self.process.end(signal)
    }
}

impl Cluster {
    /// Creates a pod of tests/data/pods under this name on this node; the object that the API server made of it.
    pub fn create_pod_on(&self, node: &str, file: &str, name: &str) -> Value {
        self.create_changed_pod(file, name, |pod| pod["spec"]["nodeName"] = json!(node))
    }

    /// Reasons and types of a pod's events by now, of its present incarnation.
    pub fn events_of(&self, pod: &Value) -> Vec<(String, String)> {
        let list = self
            .request(
                "GET",
                "/apis/events.k8s.io/v1/namespaces/team-a/events",
                &Value::Null,
            )
            .unwrap();
        let of_pod = |event: &&Value| event["regarding"]["uid"] == pod["metadata"]["uid"];
        let text =
            |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_pod)
            .map(|e| (text(e, "reason"), text(e, "type")))
            .collect()
    }
}

/// An ADD on a node in the cluster's network.
pub fn add(node: &Node, cluster: &Cluster, netns: &str, args: &str) -> Call {
    add_with(
        node,
        cluster,
        netns,
        args,
        r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#,
    )
}

/// The same with this configuration.
pub fn add_with(node: &Node, cluster: &Cluster, netns: &str, args: &str, config: &str) -> Call {
    inside(&cluster.netns, || node.call("ADD", netns, args, config))
}
