//! The command line: one file per command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 `explain`: skipped, 4 `explain`: refused,
//! 5 `verify`: something was found; for several pods the worst, in the order 1, 4, 5, 3, 0.

mod agent;
mod case;
mod demo;
mod explain;
mod output;
mod root;
mod rules;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    Usage,
    Skipped,
    Refused,
    Drifted,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Skipped => 3,
            Self::Refused => 4,
            Self::Drifted => 5,
        }
    }

    /// The worst of several: failed, refused, drifted, skipped, done.
    fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        let severity = |exit: &Self| {
            [
                Self::Done,
                Self::Skipped,
                Self::Drifted,
                Self::Refused,
                Self::Failed,
                Self::Usage,
            ]
            .iter()
            .position(|e| e == exit)
        };
        all.into_iter().max_by_key(severity).unwrap_or(Self::Done)
    }
}

/// A command's failure: what to say, and whether the usage was wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
        }
    }
}

/// Runs the command that was typed.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            error.print().ok();
            return ExitCode::from(exit.code());
        }
    };
    let ended = match cli.command {
        Command::Agent(args) => agent::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Verify(args) => verify::run(&args),
    };
    let exit = ended.unwrap_or_else(|failure| {
        output::complain(&failure.message);
        failure.exit
    });
    ExitCode::from(exit.code())
}
