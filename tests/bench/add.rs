//! What an ADD costs, next to the floor: wall, CPU, peak memory, size. Ratios are of medians of runs in turn, on one machine, in one run.
//!
//! `cargo bench` (as root; RUNS=n for more runs).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints and fails by panicking"
)]

#[path = "floor.rs"]
mod floor;
#[path = "../support/mod.rs"]
mod support;

use std::{
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::resource::{UsageWho, getrusage},
    unistd::{Pid, chroot},
};
use serde_json::json;
use support::{
    agent::Agent,
    cluster::{Cluster, SERVER},
    data::data,
    lab::{Node, inside, on_node},
    pods::cni_args,
    run,
};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;
const AT_ONCE: usize = 110;
/// What the floor sends, in the root directory of the node.
const FLOOR_MESSAGES: &str = "floor.messages";
const KINDS: usize = Kind::ALL.len();
const CROWDS: [Kind; 3] = [Kind::Floor, Kind::Manifests, Kind::Agent];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, part, netns, messages] = args.as_slice()
        && part == "floor"
    {
        return floor::run(netns, messages).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    #[allow(clippy::disallowed_methods, reason = "the benchmark's one knob")]
    let runs = std::env::var("RUNS")
        .ok()
        .and_then(|r| r.parse().ok())
        .unwrap_or(60);
    let cluster = prepare_cluster();
    on_node(|node| measure(node, &cluster, runs));
    ExitCode::SUCCESS
}

/// A call that is measured.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Floor,
    Manifests,
    Agent,
    Api,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Floor, "floor"),
        (Self::Manifests, "ADD, source manifests"),
        (Self::Agent, "ADD, source agent"),
        (Self::Api, "ADD, source api"),
    ];

    fn node_yaml(self) -> &'static str {
        match self {
            Self::Floor | Self::Manifests => "{sources: [manifests], manifests: /manifests}",
            Self::Agent => "", // as it is where nobody configures anything
            Self::Api => "{sources: [api]}",
        }
    }
}

struct Sample {
    wall: Duration,
    cpu: Duration,
}

fn measure(node: &Node, cluster: &Cluster, runs: usize) {
    let (pod, namespace) = data("defaults");
    let manifests_args = cni_args(&pod);
    node.manifests(&[pod, namespace]);
    let api_args = cni_args(
        &cluster
            .request("GET", "/api/v1/namespaces/team-a/pods/defaults", &json!({}))
            .unwrap(),
    );
    credential(node, cluster);
    let ourselves = std::env::current_exe().unwrap();
    node.install(ourselves.to_str().unwrap(), "floor");
    floor::encode(&node.path(FLOOR_MESSAGES)).unwrap();
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_mesh-optin"))
        .unwrap()
        .len();
    let agent = Agent::start(node, cluster, "node-1", &[]).ready();
    agent.reaches("mesh_optin_cached_namespaces", 1.0);
    eprintln!(
        "making {} pods ...",
        runs * KINDS + AT_ONCE * CROWDS.len() + KINDS
    );
    let mut pods = Pods { node, made: 0 };
    let args = |kind| {
        if matches!(kind, Kind::Api | Kind::Agent) {
            api_args.as_str()
        } else {
            &manifests_args
        }
    };
    let peaks = Kind::ALL.map(|(kind, _)| {
        (kind != Kind::Floor)
            .then(|| peak_memory(node, cluster, kind, &pods.next(), args(kind), agent.pid))
    });
    let netns: Vec<[String; KINDS]> = (0..runs).map(|_| Kind::ALL.map(|_| pods.next())).collect();
    let crowds = CROWDS
        .map(|_| ())
        .map(|()| (0..AT_ONCE).map(|_| pods.next()).collect::<Vec<_>>());
    let root = node.path("");
    inside(&cluster.netns, || {
        // of this thread and its children only: it has a mount namespace, so a root, of its own
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        chroot(&root)
            .and_then(|()| nix::unistd::chdir("/"))
            .unwrap();
        let mut samples: [Vec<Sample>; KINDS] = Default::default();
        for of_run in &netns {
            for (at, (kind, _)) in Kind::ALL.into_iter().enumerate() {
                configure(kind);
                samples[at].push(sample(kind, &of_run[at], args(kind)));
            }
        }
        let crowd: Vec<_> = CROWDS
            .into_iter()
            .zip(&crowds)
            .map(|(kind, crowd)| {
                configure(kind);
                at_once(kind, crowd, args(kind))
            })
            .collect();
        report(runs, binary, &samples, &peaks, &crowd);
    });
}

fn report(
    runs: usize,
    binary: u64,
    samples: &[Vec<Sample>; KINDS],
    peaks: &[Option<u64>; KINDS],
    crowd: &[Duration],
) {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let floor = (
        median(&samples[0], |s| s.wall),
        median(&samples[0], |s| s.cpu),
    );
    println!(
        "\nmedians of {runs} runs in turn        wall     x floor    CPU      x floor   peak RSS"
    );
    for ((kind, name), (samples, peak)) in Kind::ALL.into_iter().zip(samples.iter().zip(peaks)) {
        let (wall, cpu) = (median(samples, |s| s.wall), median(samples, |s| s.cpu));
        let peak = peak.map_or_else(String::new, |kib| format!("{:.1} MB", kib as f64 / 1e3));
        let ratio = |a: Duration, b: Duration| {
            if kind == Kind::Floor {
                String::new()
            } else {
                format!("{:.2}", a.as_secs_f64() / b.as_secs_f64())
            }
        };
        println!(
            "{name:28} {:8.2} ms {:>8} {:8.2} ms {:>8}   {peak:>8}",
            ms(wall),
            ratio(wall, floor.0),
            ms(cpu),
            ratio(cpu, floor.1)
        );
    }
    let [floor, manifests, agent] = [0, 1, 2].map(|at| ms(crowd[at]));
    println!(
        "{AT_ONCE} at once, all done after: floor {floor:.0} ms, ADD with source manifests {manifests:.0} ms, with source agent {agent:.0} ms"
    );
    println!("size of the program: {:.2} MB", binary as f64 / 1e6);
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> Duration) -> Duration {
    let mut all: Vec<_> = samples.iter().map(of).collect();
    all.sort();
    all[all.len() / 2]
}

/// Which source the plugin asks.
fn configure(kind: Kind) {
    std::fs::write("/etc/mesh-optin/node.yaml", kind.node_yaml()).unwrap();
}

#[allow(
    clippy::disallowed_methods,
    reason = "a runtime calls plugins as processes"
)]
fn command(kind: Kind, netns: &str, args: &str) -> Command {
    let mut command = Command::new(if kind == Kind::Floor {
        "/floor"
    } else {
        "/mesh-optin"
    });
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped()); // the root has no /dev/null
    if kind == Kind::Floor {
        command.args(["floor", netns, &format!("/{FLOOR_MESSAGES}")]);
    } else {
        let id = netns.rsplit('/').next().unwrap();
        command.envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "net1"),
            ("CNI_ARGS", args),
        ]);
    }
    command
}

fn sample(kind: Kind, netns: &str, args: &str) -> Sample {
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
        Duration::from_micros(
            (micros(usage.user_time()) + micros(usage.system_time()))
                .try_into()
                .unwrap(),
        )
    };
    let (before, started) = (cpu(), Instant::now());
    let mut child = command(kind, netns, args).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), CONFIG.as_bytes()).ok();
    assert!(child.wait().unwrap().success());
    Sample {
        wall: started.elapsed(),
        cpu: cpu() - before,
    }
}

fn at_once(kind: Kind, netns: &[String], args: &str) -> Duration {
    let started = Instant::now();
    let children: Vec<_> = netns
        .iter()
        .map(|netns| {
            let mut child = command(kind, netns, args).spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), CONFIG.as_bytes()).ok();
            child
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    started.elapsed()
}

/// `VmHWM` in KiB, read while strace holds the process at its exit.
fn peak_memory(
    node: &Node,
    cluster: &Cluster,
    kind: Kind,
    netns: &str,
    args: &str,
    agent: Pid,
) -> u64 {
    let (root, trace) = (node.path(""), node.path("trace"));
    node.write("etc/mesh-optin/node.yaml", kind.node_yaml());
    let script = format!(
        "export CNI_COMMAND=ADD CNI_CONTAINERID=peak CNI_NETNS={netns} CNI_IFNAME=net1 CNI_ARGS='{args}'
         exec strace -f -o {} -e trace=exit_group -e inject=exit_group:delay_enter=500000 chroot {} /mesh-optin",
        trace.display(),
        root.display()
    );
    inside(&cluster.netns, || {
        std::thread::scope(|scope| {
            let peak = scope.spawn(|| {
                let started = Instant::now();
                let mut peak = 0;
                while started.elapsed() < Duration::from_millis(450) {
                    peak = peak.max(high_water_mark(agent));
                    std::thread::sleep(Duration::from_millis(5));
                }
                peak
            });
            run("sh", &["-c", &script], CONFIG);
            peak.join().unwrap()
        })
    })
}

fn high_water_mark(agent: Pid) -> u64 {
    let of = |pid: std::ffi::OsString| {
        // the agent has the same name
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.display())).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|l| l.strip_prefix(name))
                .map(str::trim)
        };
        if field("Name:")? == "mesh-optin" && pid != agent.to_string().as_str() {
            field("VmHWM:")?.trim_end_matches(" kB").parse().ok()
        } else {
            None
        }
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| of(e.ok()?.file_name()))
        .max()
        .unwrap_or(0)
}

/// Pods with an eth0 and nothing else.
struct Pods<'a> {
    node: &'a Node,
    made: usize,
}

impl Pods<'_> {
    fn next(&mut self) -> String {
        self.made += 1;
        self.node.new_netns_with_eth0(&format!("p{}", self.made))
    }
}

fn prepare_cluster() -> Cluster {
    eprintln!("starting kube-apiserver ...");
    let cluster = Cluster::start_with_team_a();
    cluster.create_data_pod("defaults", "defaults");
    cluster
}

fn credential(node: &Node, cluster: &Cluster) {
    node.credential(
        SERVER,
        &cluster.file("ca.crt"),
        &cluster.token("mesh-optin", "node"),
    );
}
