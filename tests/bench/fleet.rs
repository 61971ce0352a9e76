//! What a fleet of agents asks of an API server: 200 real ones, each with a root of its own, in the network of one kube-apiserver, which has
//! 2,000 namespaces and 2,000 pods. Requests, watches and the API server's memory: at a start, at rest, while pods churn, while refused pods
//! are tried again, and after the API server was restarted. The table of `deploy/README.md` follows from it.
//!
//! `cargo bench --bench fleet` (as root; some 10 minutes, 4 GB).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark starts programs, prints, and fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::mount::MsFlags;
use serde_json::{Value, json};
use support::{
    cluster::Cluster,
    data::data,
    lab::{Node, inside, mount_, on_node},
    run, try_run,
};

const AGENTS: usize = 200;
const NAMESPACES: usize = 2000;
const PODS_OF_NODE: usize = 10;
const REST: Duration = Duration::from_secs(120);
const CHURNED: usize = 200;
const REFUSED: usize = 500;
const USER: &str = "system:serviceaccount:mesh-optin:agent";

fn main() {
    eprintln!("starting kube-apiserver ...");
    let cluster = Cluster::start();
    cluster.apply_rbac();
    cluster.apply_crds();
    eprintln!(
        "making {NAMESPACES} namespaces and {} pods ...",
        AGENTS * PODS_OF_NODE
    );
    in_parts(NAMESPACES, |n| {
        cluster.namespace(&namespace(n), &json!({"istio-injection": "enabled"}));
    });
    in_parts(AGENTS * PODS_OF_NODE, |n| create(&cluster, n));
    cluster.create(
        "/apis/meshoptin.dev/v1alpha1/meshprofiles",
        &json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "default"}, "spec": {}}),
    );
    on_node(|node| measure(&cluster, node));
}

fn measure(cluster: &Cluster, node: &Node) {
    let token = cluster.token("mesh-optin", "agent");
    let fleet = Fleet {
        cluster,
        agents: (0..AGENTS)
            .map(|n| Agent::prepare(cluster, node, n, &token))
            .collect(),
    };
    std::thread::sleep(Duration::from_secs(10));
    let (watches, memory) = (fleet.watches(), cluster.memory());
    println!(
        "\n{AGENTS} agents, {NAMESPACES} namespaces, {} pods\n",
        AGENTS * PODS_OF_NODE
    );
    println!(
        "{:<34}  {:>8}  {:>12}  {:>30}",
        "", "seconds", "requests", "of an agent"
    );
    let running = fleet.during("all start at once", || {
        let running: Vec<_> = fleet
            .agents
            .iter()
            .map(|agent| agent.start(cluster))
            .collect();
        fleet.all_ready();
        running
    });
    fleet.during("namespaces are read for the audit", || {
        std::thread::sleep(Duration::from_secs(30));
    });
    fleet.during("rest", || std::thread::sleep(REST));
    let (more, memory_now) = (fleet.watches() - watches, cluster.memory());
    println!(
        "{:<34}  {:.2} watches of an agent; the API server {:.0} KB more for each ({:.0} MB in all)",
        "",
        more / AGENTS as f64,
        memory_now.saturating_sub(memory) as f64 / 1e3 / AGENTS as f64,
        memory_now as f64 / 1e6
    );
    fleet.during("200 pods are replaced", || {
        for n in 0..CHURNED {
            let n = n * PODS_OF_NODE;
            let path = format!("/api/v1/namespaces/{}/pods/{}", namespace(n), pod(n));
            let now = json!({"gracePeriodSeconds": 0});
            cluster.request("DELETE", &path, &now).unwrap();
            create(cluster, n);
        }
        std::thread::sleep(Duration::from_secs(5));
    });
    let refused: Vec<_> = (0..REFUSED)
        .map(|n| create_as(cluster, &format!("refused-{n}"), n, 0))
        .collect();
    std::thread::sleep(Duration::from_secs(60)); // they are known
    fleet.during("500 refused pods of a node tried 4x", || {
        fleet.retries(&refused)
    });
    fleet.during("the API server is away for 10 s", || {
        cluster.restart(Duration::from_secs(10));
        let started = Instant::now();
        while cluster.request_or_nothing("/readyz").is_none() {
            assert!(started.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(Duration::from_secs(90));
        fleet.all_ready();
    });
    let most = fleet.most_in_a_second();
    println!("{:<34}  {most} lists in the busiest second after that", "");
    println!(
        "{:<34}  {:.1} MB is the mean resident memory of an agent",
        "",
        running
            .iter()
            .map(|agent| resident(agent.0.id()))
            .sum::<f64>()
            / AGENTS as f64
    );
}

struct Fleet<'a> {
    cluster: &'a Cluster,
    agents: Vec<Agent>,
}

/// The root of an agent, and where it answers.
struct Agent {
    root: PathBuf,
    name: String,
    port: String,
}

/// One that runs; it ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Agent {
    fn prepare(cluster: &Cluster, node: &Node, n: usize, token: &str) -> Self {
        let root = node.path(&format!("agents/{n}"));
        for directory in [
            "proc",
            "run/netns",
            "var/lib",
            "opt/cni/bin",
            "etc/cni/multus/net.d",
            "account",
            "etc/mesh-optin",
        ] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        let at = |path: &str| root.join(path).to_str().unwrap().to_owned();
        mount_("/proc", &at("proc"), "", MsFlags::MS_BIND | MsFlags::MS_REC);
        std::fs::write(root.join("mesh-optin"), "").unwrap();
        mount_(
            env!("CARGO_BIN_EXE_mesh-optin"),
            &at("mesh-optin"),
            "",
            MsFlags::MS_BIND,
        );
        std::fs::write(root.join("account/token"), token).unwrap();
        std::fs::write(root.join("account/ca.crt"), cluster.file("ca.crt")).unwrap();
        Self {
            root,
            name: format!("node-{n}"),
            port: (21_000 + n).to_string(),
        }
    }

    fn start(&self, cluster: &Cluster) -> Running {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .arg(&self.root)
            .args([
                "/mesh-optin",
                "agent",
                "--account",
                "/account",
                "--node",
                &self.name,
            ])
            .args([
                "--api-server",
                "127.0.0.1",
                "--api-port",
                "6443",
                "--probe-port",
                &self.port,
            ])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running(inside(&cluster.netns, || command.spawn().unwrap()))
    }

    fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        try_run("curl", &["-s", "-m", "5", &url], "").unwrap_or_default()
    }
}

impl Fleet<'_> {
    /// Does something, and says what the fleet asked for meanwhile.
    fn during<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        eprintln!("{what} ...");
        let (before, started) = (self.requests().len(), Instant::now());
        let done = work();
        let took = started.elapsed();
        let requests = self.requests().split_off(before);
        let mut verbs = std::collections::BTreeMap::<&str, usize>::new();
        for request in &requests {
            *verbs.entry(request.split(' ').next().unwrap()).or_default() += 1;
        }
        let each = |count: usize| count as f64 / AGENTS as f64;
        let verbs: Vec<_> = verbs
            .iter()
            .map(|(verb, count)| format!("{verb} {:.2}", each(*count)))
            .collect();
        println!(
            "{what:<34}  {:8.0}  {:12}  {:>30}",
            took.as_secs_f64(),
            requests.len(),
            verbs.join(", ")
        );
        done
    }

    fn requests(&self) -> Vec<String> {
        self.cluster.requests_of(USER)
    }

    fn all_ready(&self) {
        inside(&self.cluster.netns, || {
            for agent in &self.agents {
                let started = Instant::now();
                while agent.get("/readyz") != "ready\n" {
                    assert!(
                        started.elapsed() < Duration::from_secs(240),
                        "{}: {}",
                        agent.name,
                        agent.get("/readyz")
                    );
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        });
    }

    /// All watches that the API server has open.
    fn watches(&self) -> f64 {
        let text = self.cluster.enter(&["kubectl", "get", "--raw", "/metrics"]);
        let of_watches = text.lines().filter(|line| {
            line.starts_with("apiserver_longrunning_requests{") && line.contains(r#"verb="WATCH""#)
        });
        of_watches
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Pods of one node are looked up as kubelet has them tried again: every 15 s.
    fn retries(&self, refused: &[Value]) {
        let socket = self.agents[0].root.join("run/mesh-optin/agent.sock");
        for _ in 0..4 {
            let started = Instant::now();
            for pod in refused {
                let metadata = &pod["metadata"];
                let question = json!({"version": 2, "ask": {"lookUp": {"namespace": metadata["namespace"],
                    "name": metadata["name"], "uid": metadata["uid"], "millis": 10_000}}});
                let mut stream = UnixStream::connect(&socket).unwrap();
                writeln!(stream, "{question}").unwrap();
                let mut answer = String::new();
                BufReader::new(&stream).read_line(&mut answer).unwrap();
                assert!(answer.contains(r#""found""#), "{answer}");
                writeln!(stream, "null").unwrap();
            }
            std::thread::sleep(Duration::from_secs(15).saturating_sub(started.elapsed()));
        }
    }

    /// The most lists that were begun in one second since the API server was started last.
    fn most_in_a_second(&self) -> usize {
        let log = self.cluster.file("audit.log");
        let mut seconds = std::collections::BTreeMap::<String, usize>::new();
        for line in log.lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if event["user"]["username"] == USER && event["verb"] == "list" {
                let at = event["requestReceivedTimestamp"].as_str().unwrap();
                *seconds.entry(at[..19].to_owned()).or_default() += 1;
            }
        }
        let last = seconds.iter().rev().take(100);
        last.map(|(_, count)| *count).max().unwrap_or_default()
    }
}

fn namespace(n: usize) -> String {
    format!("fleet-{}", n % NAMESPACES)
}

fn pod(n: usize) -> String {
    format!("p-{n}")
}

/// The nth pod: each node has as many.
fn create(cluster: &Cluster, n: usize) {
    create_as(cluster, &pod(n), n, n / PODS_OF_NODE);
}

/// A pod of this name, of the nth namespace, on a node.
fn create_as(cluster: &Cluster, name: &str, n: usize, node: usize) -> Value {
    let (mut object, _) = data("defaults");
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|k, _| !["uid", "resourceVersion", "creationTimestamp"].contains(&k.as_str()));
    (metadata["name"], metadata["namespace"]) = (json!(name), json!(namespace(n)));
    object["spec"]["nodeName"] = json!(format!("node-{node}"));
    object["status"] = json!({});
    cluster.create(
        &format!("/api/v1/namespaces/{}/pods", namespace(n)),
        &object,
    )
}

/// Does something this many times, in four threads.
fn in_parts(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            let work = &work;
            scope.spawn(move || (part..count).step_by(4).for_each(work));
        }
    });
}

fn resident(pid: u32) -> f64 {
    let status = run("cat", &[&format!("/proc/{pid}/status")], "");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().next().unwrap();
    kilobytes.parse::<f64>().unwrap() / 1e3
}
