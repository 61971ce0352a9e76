//! One iptables program, and whether it works.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::child::Child;
use super::PROBE;
use crate::{deadline::Deadline, kernel::KernelError};

/// A pair of programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kernel::iptables) struct Tool {
    pub(in crate::kernel::iptables) save: PathBuf,
    pub(in crate::kernel::iptables) restore: PathBuf,
    /// It works on nf_tables.
    pub(super) nft: bool,
    pub(in crate::kernel::iptables) version: (u32, u32, u32),
}

impl Tool {
    /// `None` if it is not there; [`KernelError::Tool`] if it does not work.
    pub(super) fn find(
        name: &str,
        directories: &[PathBuf],
        deadline: Deadline,
    ) -> Result<Option<Self>, KernelError> {
        let there = |program| {
            directories
                .iter()
                .map(|d| d.join(format!("{name}-{program}")))
                .find(|p| p.is_file())
        };
        let (Some(save), Some(restore)) = (there("save"), there("restore")) else {
            return Ok(None);
        };
        let run = |program: &Path, args: &[&str], stdin: &str| {
            Child {
                program,
                args,
                stdin,
                writes_in: None,
                deadline,
            }
            .output()
        };
        let version = match run(&save, &["--version"], "") {
            Err(KernelError::Tool { .. }) => String::new(), // one so old that it cannot tell is legacy
            other => other?,
        };
        let tool = Self {
            save,
            restore,
            nft: version.contains("nf_tables"),
            version: parse_version(&version),
        };
        match run(&tool.restore, &[], PROBE) {
            Err(KernelError::Conflict) => Ok(Some(tool)),
            other => other.map(|_| Some(tool)),
        }
    }

    /// Whether it knows `--wait`; nf_tables needs no lock, but takes the option.
    pub(in crate::kernel::iptables) fn waits(&self) -> bool {
        self.nft || self.version >= (1, 6, 2)
    }
}

/// The first `v<digits>.<digits>.<digits>`; 0.0.0 if there is none.
fn parse_version(text: &str) -> (u32, u32, u32) {
    let numbers = text.split_whitespace().find_map(|w| {
        w.strip_prefix('v')
            .filter(|v| v.starts_with(|c: char| c.is_ascii_digit()))
    });
    let mut numbers = numbers
        .unwrap_or_default()
        .split('.')
        .map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_write_them() {
        assert_eq!(
            parse_version("iptables-save v1.8.9 (nf_tables)\n"),
            (1, 8, 9)
        );
        assert_eq!(parse_version("iptables v1.6"), (1, 6, 0));
        assert_eq!(parse_version("unrecognized option '--version'"), (0, 0, 0));
    }
}
