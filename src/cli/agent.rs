use crate::agent::{self, Args};
use crate::terminal::{CommandFailure, Exit};

/// Runs the agent until it is terminated, or one of its subcommands.
pub(super) fn run(args: Args) -> Result<Exit, CommandFailure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CommandFailure::failed(
            "the agent keeps this node's files and looks into its pods: run it as root",
        ));
    }
    agent::run(args)
        .map(|()| Exit::Done)
        .map_err(|explanation| CommandFailure::failed(explanation.to_string()))
}
