//! The command line: one file per command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 `explain`: skipped, 4 `explain`: refused,
//! 5 `verify`: something was found; for several pods the worst, in the order 1, 4, 5, 3, 0.

mod agent;
mod demo;
mod explain;
mod root;
mod rules;
mod selection;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::terminal::end;

/// CNI plugin for Multus that redirects a pod's traffic to its Istio sidecar if, and only if, the pod opted in.
///
/// With CNI_COMMAND in its environment it is the plugin; otherwise it is this command line.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the node agent: answers the plugin from memory, maintains the node's files, audits its pods.
    Agent(Box<crate::agent::Args>),
    /// Shows the plugin at work on this machine, with pods, redirections and connections of its own. Needs neither a cluster nor root.
    Demo(demo::Args),
    /// Explains whether a pod is redirected: the decision, its reason and every input.
    Explain(explain::Args),
    /// Prints the rules for a pod, without changing anything.
    Rules(rules::Args),
    /// Verifies that pods of this node are still redirected as they should be, and lists every difference.
    Verify(verify::Args),
}

/// Runs the command that was typed; wrong usage ends the program with 2.
pub fn run() -> ExitCode {
    end(match Cli::parse().command {
        Command::Agent(args) => agent::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Verify(args) => verify::run(&args),
    })
}
