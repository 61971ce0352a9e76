//! Reads files of the admin: owned by root, not writable by others, not reached through a link.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};

use crate::reason::{Explanation, Reason};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Most files of a directory.
const MOST_FILES: usize = 1024;

/// Who may read a file's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Everyone.
    Public,
    /// Root alone: it holds credentials or state.
    Private,
}

/// The text of a file; `None` if it does not exist.
pub fn read(path: &Path, privacy: Privacy) -> Result<Option<String>, Explanation> {
    let Some(directory) = path.parent() else {
        return Ok(None);
    };
    if open(directory, O_DIRECTORY, privacy)?.is_none() {
        return Ok(None);
    }
    let Some(file) = open(path, O_NONBLOCK, Privacy::Public)? else {
        return Ok(None);
    };
    let metadata = file.metadata().map_err(|e| invalid(path, &e.to_string()))?;
    if !metadata.is_file() {
        return Err(invalid(path, "is not a regular file"));
    }
    let mut text = String::with_capacity(metadata.len().min(LARGEST) as usize + 1);
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(|e| invalid(path, &e.to_string()))?;
    if text.len() as u64 > LARGEST {
        return Err(invalid(path, &format!("is larger than {LARGEST} bytes")));
    }
    Ok(Some(text))
}

/// The files of a directory with one of these extensions, by name; empty if it does not exist.
pub fn list(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Explanation> {
    if open(directory, O_DIRECTORY, Privacy::Public)?.is_none() {
        return Ok(Vec::new());
    }
    let wanted = |p: &PathBuf| {
        let hidden = p
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        !hidden
            && p.extension()
                .and_then(|e| e.to_str())
                .is_some_and(|e| extensions.contains(&e))
    };
    let entries = std::fs::read_dir(directory).map_err(|e| invalid(directory, &e.to_string()))?;
    let mut files: Vec<_> = entries
        .map(|e| e.map(|e| e.path()))
        .filter(|e| e.as_ref().map_or(true, wanted))
        .take(MOST_FILES + 1)
        .collect::<Result<_, _>>()
        .map_err(|e| invalid(directory, &e.to_string()))?;
    if files.len() > MOST_FILES {
        return Err(invalid(
            directory,
            &format!("has more than {MOST_FILES} files"),
        ));
    }
    files.sort();
    Ok(files)
}

fn open(path: &Path, flags: i32, privacy: Privacy) -> Result<Option<File>, Explanation> {
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(flags | O_NOFOLLOW)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(path, &format!("cannot be opened: {error}"))),
    };
    let metadata = file.metadata().map_err(|e| invalid(path, &e.to_string()))?;
    if metadata.uid() != 0 {
        return Err(invalid(
            path,
            &format!("belongs to uid {}, not to root", metadata.uid()),
        ));
    }
    let forbidden = match privacy {
        Privacy::Public => 0o022,
        Privacy::Private => 0o077,
    };
    if metadata.mode() & forbidden != 0 {
        return Err(invalid(
            path,
            &format!(
                "has mode {:o}; others must not have {forbidden:o}",
                metadata.mode() & 0o7777
            ),
        ));
    }
    Ok(Some(file))
}

fn invalid(path: &Path, why: &str) -> Explanation {
    Reason::NodeConfigInvalid.because(format!("{} {why}", path.display()))
}
