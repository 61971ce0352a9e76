//! The program for people at a cluster: `kubectl mesh-optin`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_optin::doctor::run()
}
