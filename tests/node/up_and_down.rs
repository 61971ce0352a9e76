//! `tests/stack/up` and `down`: however a stack ends, nothing of it is left.

use std::{
    collections::BTreeSet,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{PoisonError, RwLockWriteGuard},
    time::{Duration, Instant},
};

use crate::{
    MACHINE,
    support::{
        cluster::{script, state},
        run,
    },
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// A stack as a person brings it up.
struct Up {
    /// Nothing else makes or ends namespaces and processes meanwhile.
    _alone: RwLockWriteGuard<'static, ()>,
    name: String,
    process: Child,
    /// What was mounted before.
    mounts: String,
}

impl Up {
    fn start(name: &str) -> Self {
        Self::start_as(name, &["thin"])
    }

    fn start_as(name: &str, how: &[&str]) -> Self {
        let alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        let (name, mounts) = (format!("test-{}-{name}", std::process::id()), mounts());
        #[allow(clippy::disallowed_methods, reason = "the stack is programs")]
        let mut up = Command::new("setpriv");
        // a shell that runs the tests in the background has had SIGINT ignored
        let up = up.args(["--pdeathsig", "TERM", "env", "--default-signal=INT"]);
        up.arg(script("up"))
            .args(how)
            .env("STACK", &name)
            .env("PROGRAM", env!("CARGO_BIN_EXE_mesh-optin"));
        let process = up
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            _alone: alone,
            name,
            process,
            mounts,
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    fn run(&self, name: &str, args: &[&str]) -> String {
        run(
            "env",
            &[
                &[format!("STACK={}", self.name).as_str(), &script(name)],
                args,
            ]
            .concat(),
            "",
        )
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(
                started.elapsed() < Duration::from_secs(900),
                "{}: not {what}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_up(&self) -> bool {
        state(&self.name).ends_with("ready\n")
    }

    /// Brings it up, with pods.
    fn with_pods(name: &str) -> Self {
        let up = Self::start(name);
        up.until("up", || up.is_up());
        up.run("enter", &["kubectl", "apply", "-f", &script("pods.yaml")]);
        up.run(
            "enter",
            &[
                "kubectl",
                "wait",
                "-n",
                "team-a",
                "--for=condition=Ready",
                "--timeout=60s",
                "pod/web",
                "pod/batch",
            ],
        );
        up
    }

    /// Does what ends it; fails the test if anything is left.
    fn ends_by(mut self, end: impl FnOnce(&Self)) {
        let (processes, namespaces) = self.processes();
        assert!(
            processes.len() > 1 && !namespaces.is_empty(),
            "{}: {processes:?}",
            self.name
        );
        end(&self);
        let started = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{} does not end",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        // what was killed ends by itself, on a busy machine a moment later
        let left = || -> Vec<_> { processes.iter().filter(|p| is_alive(p)).collect() };
        while !left().is_empty() {
            assert!(
                started.elapsed() < Duration::from_secs(40),
                "processes are left: {:?}",
                left()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let (_, of_all) = of_tree(
            all_pids()
                .into_iter()
                .filter(|pid| is_alive(Path::new(&format!("/proc/{pid}")))),
        );
        assert!(
            of_all.is_disjoint(&namespaces),
            "namespaces are left: {:?}",
            of_all.intersection(&namespaces)
        );
        assert_eq!(mounts(), self.mounts, "mounts are left");
        let interfaces = run("ip", &["-o", "link"], "");
        assert!(
            !interfaces.contains("cni0") && !interfaces.contains("node0"),
            "interfaces are left: {interfaces}"
        );
        assert!(
            !Path::new("/run/mesh-optin-stack").join(&self.name).exists(),
            "its state is left"
        );
        let cgroups = run(
            "find",
            &["/sys/fs/cgroup", "-name", &format!("*{}*", self.name)],
            "",
        );
        assert!(cgroups.is_empty(), "cgroups are left: {cgroups}");
    }

    /// It and all below it, and the namespaces that are theirs alone.
    fn processes(&self) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
        let mut pids = vec![self.process.id()];
        let mut at = 0;
        while let Some(pid) = pids.get(at).copied() {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten();
            let children = tasks
                .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
                .collect::<String>();
            pids.extend(
                children
                    .split_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
            at += 1;
        }
        let (processes, namespaces) = of_tree(pids.into_iter().skip(1));
        let (_, ours) = of_tree([std::process::id()]);
        (processes, namespaces.difference(&ours).cloned().collect())
    }
}

/// Processes, and the namespaces they are in.
fn of_tree(pids: impl IntoIterator<Item = u32>) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut processes, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
    for pid in pids {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let links = std::fs::read_dir(process.join("ns"))
            .into_iter()
            .flatten()
            .flatten();
        namespaces.extend(links.filter_map(|link| std::fs::read_link(link.path()).ok()));
        processes.insert(process);
    }
    (processes, namespaces)
}

/// Whether it is more than what its parent has not asked for yet.
fn is_alive(process: &Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn all_pids() -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[test]
fn down_takes_down_a_stack_with_pods() {
    let up = Up::with_pods("down");
    up.ends_by(|up| drop(up.run("down", &[])));
}

/// The page's commands on a node, without `tests/stack/enter`.
fn shown(page: &str) -> Vec<&str> {
    let enters = |line| str::strip_prefix(line, "# tests/stack/enter ");
    page.lines().filter_map(enters).collect()
}

#[test]
fn the_commands_of_the_readme_redirect_a_pod_on_a_bare_node() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let page = std::fs::read_to_string(page).unwrap();
    let commands = shown(&page);
    assert!(commands.iter().any(|c| c.starts_with("helm install ")));
    let up = Up::start_as("bare", &["thin", "bare"]);
    let started = Instant::now();
    up.until("up", || up.is_up());
    let node = started.elapsed().as_secs_f32();
    let run = |command: &str| up.run("enter", &command.split(' ').collect::<Vec<_>>());
    let (logs, before) = commands.split_last().unwrap();
    for command in before {
        run(command);
    }
    // the sidecar may not serve yet
    up.until("redirected", || run(logs).contains("203.0.113.7:80 15001 "));
    let log = run(logs);
    assert!(
        !log.contains("203.0.113.7:80 80 "),
        "past the sidecar: {log}"
    );
    let redirected = started.elapsed().as_secs_f32();
    let took = format!(
        "a bare node was up after {node:.1} s; after {redirected:.1} s, all by the commands of README.md, a pod's connections landed at its sidecar\n"
    );
    // not by print!, which is shown of failing tests alone
    std::io::stdout().write_all(took.as_bytes()).unwrap();
    up.ends_by(|up| drop(up.run("down", &[])));
}

#[test]
fn ctrl_c_takes_down_a_stack_with_pods() {
    // as a terminal sends it: to the whole process group
    Up::with_pods("ctrl-c").ends_by(|up| killpg(up.pid(), Signal::SIGINT).unwrap());
}

#[test]
fn ctrl_c_and_sigterm_take_down_a_stack_that_is_coming_up() {
    for (name, signal, has) in [
        ("early-int", Signal::SIGINT, None),
        ("later-int", Signal::SIGINT, Some("ready")), // the control plane is
        ("later-term", Signal::SIGTERM, Some("etcd-data")),
    ] {
        let up = Up::start(name);
        up.until("starting", || state(&up.name).lines().count() == 2);
        let there = |file: &str| {
            let state = state(&up.name);
            let init = state.lines().nth(1).unwrap();
            Path::new(&format!("/proc/{init}/root/mnt/{file}")).exists()
        };
        if let Some(file) = has {
            up.until(file, || there(file));
        }
        assert!(!there("node-ready"), "this comes too late to be early");
        up.ends_by(|up| killpg(up.pid(), signal).unwrap());
    }
}

#[test]
fn down_removes_what_a_killed_up_has_left() {
    let up = Up::with_pods("killed");
    up.ends_by(|up| {
        kill(up.pid(), Signal::SIGKILL).unwrap();
        up.run("down", &[]);
    });
}
