//! The whole product on this machine: the pods of the examples, the real plugin, called as Multus calls it, and real connections.
//!
//! There are three kinds of process, all of them this program, and each ends with its parent. The demo starts the *node*, which has
//! user, mount and network namespaces of its own and an empty tmpfs as its root, so that the plugin finds its files at their usual
//! paths. The node starts one *process of a pod* for each pod and uid, in a child user namespace that maps that one uid and owns the
//! pod's network namespace. An ordinary user can map only one uid, so each pod is made twice: once as its application sees it (uid
//! 1000), and once as its sidecar does (uid 1337).

mod node;
mod pod;
mod sandbox;
mod story;
mod workload;

use std::process::Command;

use crate::terminal::{CommandFailure, Exit};

/// Arguments of `demo`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What this process is in the demo
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// The uid of a pod's process
    #[arg(long, hide = true, default_value_t = 0)]
    uid: u32,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Node,
    Pod,
}

/// Plays this process's part.
pub(super) fn run(args: &Args) -> Result<Exit, CommandFailure> {
    match args.part {
        None => start(),
        Some(Part::Node) => story::play(),
        Some(Part::Pod) => pod::run(args.uid),
    }
}

fn start() -> Result<Exit, CommandFailure> {
    let status = part(Part::Node, 0)
        .status()
        .map_err(|e| CommandFailure::failed(format!("starting the demo's node: {e}")))?;
    match status.code() {
        Some(0) => Ok(Exit::Done),
        _ => Ok(Exit::Failed), // it has said why
    }
}

/// This program in another part, with nothing in its environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the demo's processes are the one exception"
)]
fn part(part: Part, uid: u32) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let name = match part {
        Part::Node => "node",
        Part::Pod => "pod",
    };
    command
        .args(["demo", "--part", name, "--uid", &uid.to_string()])
        .env_clear();
    command
}

/// The plugin, called as Multus calls it.
#[expect(
    clippy::disallowed_methods,
    reason = "the demo's processes are the one exception"
)]
fn plugin() -> Command {
    let mut command = Command::new("/mesh-optin");
    command.env_clear();
    command
}
