use super::*;
#[derive(clap::Args)]
pub(super) struct Args {}
pub(super) fn run(_: &Args) -> Result<Exit, Failure> {
    todo!()
}
