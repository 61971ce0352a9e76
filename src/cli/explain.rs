use super::selection::PodSelection;
use crate::{
    explain::{report_of, text},
    terminal::{CommandFailure, Exit, Format, print, print_json},
};

/// Arguments of `explain`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: PodSelection,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Explains every selected pod.
pub(super) fn run(args: &Args) -> Result<Exit, CommandFailure> {
    let cases = args.selection.cases()?;
    let reports: Vec<_> = cases.iter().map(report_of).collect();
    match args.output {
        Format::Json => print_json(&reports)?,
        Format::Text => reports.iter().for_each(|report| print(&text(report))),
    }
    Ok(Exit::worst(reports.iter().map(|report| report.exit())))
}
