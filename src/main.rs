//! One program: a CNI plugin when a runtime calls it, a command line otherwise.

use std::process::ExitCode;

use mesh_optin::{cli, cni::Environment, plugin};

fn main() -> ExitCode {
    match Environment::of_this_process() {
        Some(environment) => plugin::run(environment),
        None => cli::run(),
    }
}
