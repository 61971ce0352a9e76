//! A process of a pod: listens as the application and the sidecar would, and connects when the node tells it to.

use std::{
    io::{BufRead, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use nix::sched::CloneFlags;

use super::{CommandFailure, Exit, Part, part, sandbox};
use crate::kernel::Netns;

/// Where the application listens.
pub(super) const APPLICATION: u16 = 8080;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process itself: answers each line of stdin, an address to dial, with where the connection landed.
pub(super) fn run(uid: u32) -> Result<Exit, CommandFailure> {
    sandbox::end_with_parent()?;
    sandbox::enter_as(uid, CloneFlags::empty())?;
    let network = nix::sched::unshare(CloneFlags::CLONE_NEWNET);
    network
        .map_err(|e| CommandFailure::failed(format!("making a pod's network namespace: {e}")))?;
    for port in [APPLICATION, 15001, 15006] {
        listen(
            SocketAddr::from(([0, 0, 0, 0], port)),
            format!("pod:{port}"),
        )?;
    }
    reply("ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        reply(&line.parse().map_or_else(|e| format!("{e}"), dial));
    }
    Ok(Exit::Done)
}

fn reply(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .ok();
}

/// Answers every connection with `name`, on a thread that ends with the process.
pub(super) fn listen(address: SocketAddr, name: String) -> Result<(), CommandFailure> {
    let listener = TcpListener::bind(address)
        .map_err(|e| CommandFailure::failed(format!("listening on {address}: {e}")))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(name.as_bytes()).ok();
        }
    });
    Ok(())
}

/// The name of the listener that answers at an address.
pub(super) fn dial(to: SocketAddr) -> String {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut name = String::new();
        stream.read_to_string(&mut name)?;
        Ok(name)
    };
    answer().unwrap_or_else(|e| format!("nobody ({e})"))
}

/// A process of a pod, as the node holds it.
pub(super) struct PodProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: std::io::BufReader<ChildStdout>,
}

impl PodProcess {
    /// Starts one with this uid.
    pub(super) fn start(uid: u32) -> Result<Self, CommandFailure> {
        let failed =
            |what: String| CommandFailure::failed(format!("starting a pod's process: {what}"));
        let mut child = part(Part::Pod, uid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it has no pipes".into()));
        };
        let mut process = Self {
            child,
            stdin,
            stdout: std::io::BufReader::new(stdout),
        };
        match process.line()?.as_str() {
            "ready" => Ok(process),
            other => Err(failed(format!("it says {other:?}"))),
        }
    }

    /// The path of its network namespace.
    pub(super) fn netns_path(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }

    /// Its network namespace.
    pub(super) fn netns(&self) -> Result<Netns, CommandFailure> {
        Netns::open(self.netns_path().as_ref()).map_err(|e| CommandFailure::failed(e.to_string()))
    }

    /// The name of the listener that answers it at an address.
    pub(super) fn dial(&mut self, to: SocketAddr) -> Result<String, CommandFailure> {
        writeln!(self.stdin, "{to}")
            .map_err(|e| CommandFailure::failed(format!("asking a pod's process: {e}")))?;
        self.line()
    }

    fn line(&mut self) -> Result<String, CommandFailure> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) => Err(CommandFailure::failed("a pod's process ended early")),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(CommandFailure::failed(format!(
                "reading from a pod's process: {error}"
            ))),
        }
    }
}

impl Drop for PodProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
