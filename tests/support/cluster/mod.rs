//! A real kube-apiserver of its own, or a whole node, in namespaces that end with the test program.

mod objects;

use std::{
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mesh_optin::kernel::Netns;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::try_run;

/// Where the API server listens, in the cluster's network namespace.
pub const SERVER: &str = "https://127.0.0.1:6443";

/// A file of tests/stack.
pub fn script(name: &str) -> String {
    format!("{}/tests/stack/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What `tests/stack/up` brings up.
pub struct Cluster {
    pub netns: Netns,
    /// Its files, seen from outside of its mount namespace.
    pub directory: PathBuf,
    /// The root of what runs there.
    pub root: PathBuf,
    pub name: String,
    pub up: Pid,
    init: Pid,
    ended: JoinHandle<ExitStatus>,
}

impl Cluster {
    /// The control plane alone.
    pub fn start() -> Self {
        Self::start_as("control-plane")
    }

    /// The same with our service accounts, and namespace team-a, which Istio injects.
    pub fn start_with_team_a() -> Self {
        let cluster = Self::start();
        cluster.namespace("team-a", &json!({"istio-injection": "enabled"}));
        cluster.apply_rbac();
        cluster
    }

    /// Brings it up; fails the test if it does not come up.
    pub fn start_as(mode: &'static str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "test-{}-{}",
            std::process::id(),
            STARTED.fetch_add(1, Ordering::Relaxed)
        );
        let (send, receive) = mpsc::channel();
        let stack = name.clone();
        // The thread stays: with it, or with the test program, it is taken down.
        let ended = std::thread::spawn(move || {
            #[allow(clippy::disallowed_methods, reason = "the stack is programs")]
            let mut up = Command::new("setpriv");
            up.args(["--pdeathsig", "TERM", &script("up"), mode]);
            up.env("STACK", stack)
                .env("PROGRAM", env!("CARGO_BIN_EXE_mesh-optin"))
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let mut up = up.spawn().unwrap();
            send.send(Pid::from_raw(up.id().cast_signed())).unwrap();
            up.wait().unwrap()
        });
        let up = receive.recv().unwrap();
        let started = Instant::now();
        let init = loop {
            if let [_, init, "ready"] = state(&name).lines().collect::<Vec<_>>()[..] {
                break Pid::from_raw(init.parse().unwrap());
            }
            assert!(!ended.is_finished(), "{mode} ended: {:?}", ended.join());
            assert!(
                started.elapsed() < Duration::from_secs(900),
                "{mode} does not come up"
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        let netns = Netns::open(format!("/proc/{init}/ns/net").as_ref()).unwrap();
        let root = PathBuf::from(format!("/proc/{init}/root"));
        Self {
            netns,
            directory: root.join("mnt"),
            root,
            name,
            up,
            init,
            ended,
        }
    }

    /// Runs a program there.
    pub fn enter(&self, args: &[&str]) -> String {
        self.try_enter(args)
            .unwrap_or_else(|e| panic!("{args:?}: {e}"))
    }

    /// The same; the error is what the program said.
    pub fn try_enter(&self, args: &[&str]) -> Result<String, String> {
        let stack = format!("STACK={}", self.name);
        let enter = script("enter");
        try_run("env", &[&[stack.as_str(), &enter], args].concat(), "")
    }

    /// Its network, for a thread that outlasts a borrow.
    pub fn another_handle(&self) -> Netns {
        Netns::open(format!("/proc/{}/ns/net", self.init).as_ref()).unwrap()
    }

    /// Starts the cluster's own controllers: a whole node has them anyway.
    pub fn controllers(&self) {
        let start = "cd /mnt && setsid kube-controller-manager --kubeconfig kubeconfig --use-service-account-credentials \
            --service-account-private-key-file sa.key --root-ca-file ca.crt --bind-address 127.0.0.1 --leader-elect=false >controllers.log 2>&1 </dev/null &";
        self.enter(&["sh", "-c", start]);
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// Sends the API server a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.apiserver(), signal).unwrap();
    }

    /// Ends it and starts it again, after a pause.
    pub fn restart(&self, pause: std::time::Duration) {
        self.signal(Signal::SIGKILL);
        std::thread::sleep(pause);
        self.enter(&["sh", "-c", "setsid /mnt/start-apiserver </dev/null &"]);
    }

    /// Its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.apiserver()));
        let status = status.unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().split_whitespace().next().unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// Its pid as we see it.
    fn apiserver(&self) -> Pid {
        self.program("kube-apiserver")
    }

    /// The pid, as we see it, of a program that runs there.
    pub fn program(&self, name: &str) -> Pid {
        self.process(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        })
    }

    /// The first process there that it is true for.
    fn process(&self, is: impl Fn(&str) -> bool) -> Pid {
        let mut pids = vec![self.init.to_string()];
        while let Some(list) = pids.pop() {
            for pid in list.split_whitespace() {
                if is(pid) {
                    return Pid::from_raw(pid.parse().unwrap());
                }
                pids.push(
                    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
                        .unwrap_or_default(),
                );
            }
        }
        panic!("there is no such process")
    }
}

/// What `up` says of a stack.
pub fn state(name: &str) -> String {
    std::fs::read_to_string(format!("/run/mesh-optin-stack/{name}")).unwrap_or_default()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let started = Instant::now();
        while !self.ended.is_finished() && started.elapsed() < Duration::from_secs(60) {
            kill(self.up, Signal::SIGTERM).ok();
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
