//! The controller's program: one Deployment for a cluster.

use std::process::ExitCode;

use clap::Parser;
use mesh_optin::controller::{self, Args};

fn main() -> ExitCode {
    controller::run(Args::parse())
}
