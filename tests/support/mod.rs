//! What several test programs need. Every test lives in namespaces of its own, held by its threads, so that nothing can outlast it.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses a part of it"
)]

pub mod agent;
pub mod cluster;
pub mod connections;
pub mod controller;
pub mod counted;
pub mod data;
pub mod held;
pub mod kubectl;
pub mod lab;
pub mod landings;
pub mod memory;
pub mod pods;
pub mod proxy;
pub mod stack;
pub mod stack_pod;
pub mod traced;
pub mod worked;

use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::Pid,
};

/// CPU time that a process has used.
pub fn cpu_of(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
    let of_both = fields.skip(11).take(2);
    let ticks: u64 = of_both.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Runs `work` in a network namespace of its own.
pub fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("tests need root: a network namespace of their own");
            work()
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Does `work` while another thread does `other`, which ends once its flag is set, also where `work` fails: what came of both.
pub fn beside<T: Send, R>(
    other: impl FnOnce(&AtomicBool) -> T + Send,
    work: impl FnOnce() -> R,
) -> (T, R) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| other(&stop));
        let done = catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let ended = thread.join();
        let done = done.unwrap_or_else(|panic| resume_unwind(panic));
        (ended.unwrap_or_else(|panic| resume_unwind(panic)), done)
    })
}

/// Runs a program of the machine in the calling thread's namespaces and gives its output; fails the test if it fails.
pub fn run(program: &str, args: &[&str], stdin: &str) -> String {
    try_run(program, args, stdin).unwrap_or_else(|e| panic!("{program} {args:?}: {e}"))
}

/// The same; the error is what the program said.
#[allow(
    clippy::disallowed_methods,
    reason = "the independent witnesses are programs"
)]
pub fn try_run(program: &str, args: &[&str], stdin: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(args)
        // a lock of this namespace alone: by default all tests share one
        .env("XTABLES_LOCKFILE", "/proc/self/ns/net")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is needed (tests/run installs it): {e}"));
    // one that fails early reads nothing
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(stdin.as_bytes())
        .ok();
    let output = child.wait_with_output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}
