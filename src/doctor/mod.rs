//! `kubectl mesh-optin`: what a cluster says of itself, read with the rights of whoever asks. Nothing is changed.
//!
//! Facts are gathered first; what is concluded from them is pure, and printed last.

mod checks;
mod cluster;
mod connect;
mod explain;
mod facts;
mod finding;
mod gather;
mod objects;
mod report;
mod status;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::connect::ClusterTarget;
use crate::terminal::{CommandFailure, Exit, end};

/// Shows how a cluster with mesh-optin is, and what is wrong with it. Changes nothing.
#[derive(Parser)]
#[command(
    name = "kubectl-mesh_optin",
    bin_name = "kubectl mesh-optin",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    target: ClusterTarget,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks whether the cluster is as mesh-optin needs it. Exits with 0 if it is, 5 if something was found, 1 if not all could be seen.
    Doctor(report::Args),
    /// Explains whether a pod of the cluster is redirected: the decision, its reason and every input.
    Explain(explain::Args),
    /// Shows how many nodes, namespaces and pods are as they should be, and which pods are not.
    Status(status::Args),
}

/// Runs the command that was typed; wrong usage ends the program with 2.
pub fn run() -> ExitCode {
    end(ended(Cli::parse()))
}

fn ended(cli: Cli) -> Result<Exit, CommandFailure> {
    match &cli.command {
        Command::Explain(args) => args.check(&cli.target)?,
        Command::Doctor(_) | Command::Status(_) => cli.target.check(false)?,
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandFailure::failed(e.to_string()))?;
    runtime.block_on(async {
        let (cluster, namespace) = cli.target.connect().await?;
        match cli.command {
            Command::Doctor(args) => report::run(&args, &cluster, cli.target.namespace()).await,
            Command::Explain(args) => explain::run(&args, &cluster, &namespace).await,
            Command::Status(args) => status::run(&args, &cluster, cli.target.namespace()).await,
        }
    })
}
