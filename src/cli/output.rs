//! Output for people: tables, sentences, and color only on a terminal.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::Failure;
use crate::reason::is_unshowable;

/// Writes to stdout; a reader that has closed its end is no failure.
pub(super) fn say(text: &str) {
    write!(std::io::stdout().lock(), "{text}").ok();
}

/// How a command prints.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// Writes a report about pods as JSON.
pub(super) fn say_json(pods: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(&serde_json::json!({ "pods": pods }))
        .map_err(|e| Failure::failed(e.to_string()))?;
    say(&format!("{json}\n"));
    Ok(())
}

/// Writes a line to stderr.
pub(super) fn complain(message: &str) {
    writeln!(std::io::stderr().lock(), "mesh-optin: {}", plain(message)).ok();
}

/// A color of the terminal.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// The text in a color, if stdout is a terminal.
pub(super) fn coloured(text: &str, colour: Colour) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{}m{text}\x1b[0m", colour as u8)
    } else {
        text.to_owned()
    }
}

/// Rows as columns that line up, indented; control characters of any cell are escaped.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.clone().map(|cell| plain(&cell)))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Text that cannot move a terminal's cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if is_unshowable(c) {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}
