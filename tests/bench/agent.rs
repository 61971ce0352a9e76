//! What the agent costs: memory with 30, 250 and 2,500 pods, CPU at rest, CPU and API requests while 250 pods churn.
//!
//! `cargo bench --bench agent` (as root).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints and fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::json;
use support::{agent::Agent, cluster::Cluster, data::data, lab::on_node};

const NAMESPACES: usize = 25;
const REST: Duration = Duration::from_secs(30);
const CHURN: usize = 250;
const USER: &str = "system:serviceaccount:mesh-optin:agent";

fn main() {
    eprintln!("starting kube-apiserver ...");
    let cluster = Cluster::start();
    cluster.apply_rbac();
    (0..NAMESPACES).for_each(|n| {
        cluster.namespace(
            &format!("bench-{n}"),
            &json!({"istio-injection": "enabled"}),
        )
    });
    println!(
        "\n{:>6}  {:>9}  {:>9}  {:>22}",
        "pods", "RSS", "peak RSS", "CPU at rest"
    );
    for pods in [30, 250, 2500] {
        on_node(|node| {
            let name = format!("node-{pods}");
            eprintln!("making {pods} pods ...");
            create(&cluster, &name, 0..pods);
            let agent = Agent::start(node, &cluster, &name, &[]);
            agent.reaches("mesh_optin_cached_pods", pods as f64);
            std::thread::sleep(Duration::from_secs(3));
            let before = cpu(agent.pid);
            std::thread::sleep(REST);
            let at_rest = (cpu(agent.pid) - before).as_secs_f64() / REST.as_secs_f64();
            let memory = |field| status(agent.pid, field) as f64 / 1e3;
            println!(
                "{pods:6}  {:6.1} MB  {:6.1} MB  {:16.3} % core",
                memory("VmRSS:"),
                memory("VmHWM:"),
                at_rest * 100.0
            );
            if pods == CHURN {
                churn(&cluster, &name, &agent);
            }
        });
    }
}

/// Deletes and creates every pod of a node once.
fn churn(cluster: &Cluster, name: &str, agent: &Agent) {
    let (requests, before, started) = (
        cluster.requests_of(USER).len(),
        cpu(agent.pid),
        Instant::now(),
    );
    for n in 0..CHURN {
        let path = format!("/api/v1/namespaces/{}/pods/{name}-{n}", namespace(n));
        cluster
            .request("DELETE", &path, &json!({"gracePeriodSeconds": 0}))
            .unwrap();
        create(cluster, name, n..n + 1);
    }
    let took = started.elapsed();
    agent.reaches("mesh_optin_cached_pods", CHURN as f64);
    let used = (cpu(agent.pid) - before).as_secs_f64();
    println!(
        "        {CHURN} pods deleted and recreated in {:.0} s: {:.0} ms CPU ({:.2} ms each), {} requests to the API server",
        took.as_secs_f64(),
        used * 1e3,
        used * 1e3 / CHURN as f64,
        cluster.requests_of(USER).len() - requests
    );
}

fn namespace(n: usize) -> String {
    format!("bench-{}", n % NAMESPACES)
}

fn create(cluster: &Cluster, node: &str, range: std::ops::Range<usize>) {
    let (mut pod, _) = data("defaults");
    pod["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|k, _| !["uid", "resourceVersion", "creationTimestamp"].contains(&k.as_str()));
    (pod["status"], pod["spec"]["nodeName"]) = (json!({}), json!(node));
    std::thread::scope(|scope| {
        for half in [
            range.start..range.start.midpoint(range.end),
            range.start.midpoint(range.end)..range.end,
        ] {
            let mut pod = pod.clone();
            scope.spawn(move || {
                for n in half {
                    (pod["metadata"]["name"], pod["metadata"]["namespace"]) =
                        (json!(format!("{node}-{n}")), json!(namespace(n)));
                    cluster.create(&format!("/api/v1/namespaces/{}/pods", namespace(n)), &pod);
                }
            });
        }
    });
}

/// A field of its status, in KiB.
fn status(pid: Pid, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(field)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// CPU time of it by now.
fn cpu(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2)
        .map(|f| f.parse().unwrap())
        .collect();
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .unwrap()
        .unwrap();
    Duration::from_secs_f64(fields.iter().sum::<u64>() as f64 / hertz as f64)
}
