//! What commands print and how they end: exit codes, tables, sentences, and color only on a terminal.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use serde::Serialize;

use crate::reason::is_unshowable;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    Skipped,
    Refused,
    Found,
}

impl Exit {
    /// The program's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Skipped => 3,
            Self::Refused => 4,
            Self::Found => 5,
        }
    }

    /// The worst of several: failed, refused, drifted, skipped, done.
    pub(crate) fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        let severity = |exit: &Self| {
            [
                Self::Done,
                Self::Skipped,
                Self::Found,
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

/// A command's failure: what to print, and whether the usage was wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CommandFailure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl CommandFailure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
        }
    }
}

/// The exit code of a program whose command has ended; why it failed goes to stderr.
pub(crate) fn end(ended: Result<Exit, CommandFailure>) -> ExitCode {
    let exit = ended.unwrap_or_else(|failure| {
        complain(&failure.message);
        failure.exit
    });
    ExitCode::from(exit.code())
}

/// Writes to stdout; a reader that has closed its end is no failure.
pub(crate) fn print(text: &str) {
    write!(std::io::stdout().lock(), "{text}").ok();
}

/// How a command prints.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Writes a report about pods as JSON.
pub(crate) fn print_json(pods: &impl Serialize) -> Result<(), CommandFailure> {
    let json = serde_json::to_string_pretty(&serde_json::json!({ "pods": pods }))
        .map_err(|e| CommandFailure::failed(e.to_string()))?;
    print(&format!("{json}\n"));
    Ok(())
}

/// Writes a line to stderr.
pub(crate) fn complain(message: &str) {
    writeln!(std::io::stderr().lock(), "mesh-optin: {}", plain(message)).ok();
}

/// A color of the terminal.
#[derive(Clone, Copy)]
pub(crate) enum Color {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// The text in a color, if stdout is a terminal.
pub(crate) fn colored(text: &str, color: Color) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{}m{text}\x1b[0m", color as u8)
    } else {
        text.to_owned()
    }
}

/// Rows as columns that line up, indented; control characters of any cell are escaped.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
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
pub(crate) fn plain(text: &str) -> String {
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
