//! A program that runs in the network of a control plane, and ends with its handle.

use std::{
    process::{Command, Stdio},
    sync::mpsc,
    thread::JoinHandle,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{cluster::Cluster, lab::inside};

/// The process. If a test fails, its log is printed.
pub struct Held {
    pub pid: Pid,
    log: Option<JoinHandle<String>>,
}

impl Held {
    /// Starts it; what it writes to stderr is kept as its log.
    pub fn start(cluster: &Cluster, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let (send, receive) = mpsc::channel();
        let netns = cluster.another_handle();
        let log = std::thread::spawn(move || {
            inside(&netns, || {
                let child = command.spawn().unwrap();
                send.send(child.id()).unwrap();
                String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
            })
        });
        Self {
            pid: Pid::from_raw(receive.recv().unwrap().cast_signed()),
            log: Some(log),
        }
    }

    pub fn is_running(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.is_finished())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Ends it by this signal; its log.
    pub fn end(mut self, signal: Signal) -> String {
        self.signal(signal);
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            kill(self.pid, Signal::SIGKILL).ok();
            let log = log.join().unwrap_or_default();
            if std::thread::panicking() {
                std::io::Write::write_all(&mut std::io::stderr(), log.as_bytes()).ok();
            }
        }
    }
}

impl Cluster {
    /// What a program in its network answers at this port; empty where nothing does.
    pub fn answer_at(&self, port: &str, path: &str) -> String {
        let url = format!("http://127.0.0.1:{port}{path}");
        inside(&self.netns, || {
            super::try_run("curl", &["-s", "-m", "5", &url], "").unwrap_or_default()
        })
    }
}

/// The value of a metric in such an answer, if there is one.
pub fn metric_in(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}
