//! A program of tests/stack that stands between an agent or a plugin and the API server.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{
    cluster::{Cluster, script},
    lab::inside,
};

/// It ends with this, or with the tests: both end its standard input.
pub struct Proxy {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Proxy {
    /// Starts it with these arguments and the directory of the cluster's certificates; it listens when this returns.
    #[allow(clippy::disallowed_methods, reason = "the stack is programs")]
    pub fn start(cluster: &Cluster, name: &str, args: &[&str]) -> Self {
        let directory = cluster.directory.to_str().unwrap();
        let mut process = inside(&cluster.netns, || {
            let mut proxy = Command::new(script(name));
            proxy.args(args).arg(directory);
            proxy
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let lines = BufReader::new(process.stdout.take().unwrap());
        let mut proxy = Self { process, lines };
        assert_eq!(proxy.line(), "ready");
        proxy
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Gives it a line.
    pub fn tell(&mut self, line: &str) {
        let mut stdin = self.process.stdin.as_ref().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Ends it: what it has printed since the last line that was read.
    pub fn end(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
        let lines = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
        lines.collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
