//! The directories below `/run/mesh-optin`, which only root may use.

use std::{
    fs::{DirBuilder, File, OpenOptions, symlink_metadata},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc::O_NOFOLLOW,
};
use serde::Serialize;

use super::paths;
use crate::reason::{Explanation, Reason};

/// Creates a directory of state and the one that it is in (root's, 0700), or checks those that exist.
pub fn directory(path: &'static str) -> Result<&'static Path, Explanation> {
    for path in [paths::RUN, path].map(Path::new) {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_private(path) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(not_ours(path));
            }
            other => other.map_err(|e| unusable(path, &e))?,
        }
    }
    Ok(Path::new(path))
}

/// Makes the state directory accessible to root alone, if root owns it and no one else could write to it: kubelet creates a directory that it
/// mounts readable by everyone.
pub fn tighten() {
    let run = Path::new(paths::RUN);
    let is_owned_by_root =
        |m: std::fs::Metadata| m.is_dir() && m.uid() == 0 && m.mode() & 0o022 == 0;
    if symlink_metadata(run).is_ok_and(is_owned_by_root) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(run, mode).ok(); // its users report what is wrong with it
    }
}

/// The prefix of files that are being written; a file gets its name when it is whole.
pub(super) const UNFINISHED: &str = ".new";

/// Writes a JSON file into a directory of state, by rename.
pub fn write(into: &'static str, path: &Path, what: &impl Serialize) -> Result<(), Explanation> {
    let json = serde_json::to_vec(what).map_err(|e| unusable(path, &e.into()))?;
    write_text(into, path, &json)
}

/// Like `write`, for JSON that is already text.
pub(super) fn write_text(into: &'static str, path: &Path, json: &[u8]) -> Result<(), Explanation> {
    let directory = directory(into)?;
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(directory)?;
        file.write_all(json)?; // one system call
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| unusable(directory, &e))
}

/// Creates a directory and its parent for root alone, or makes existing ones so.
pub fn private(directory: &Path) -> Result<(), Explanation> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| {
            std::fs::set_permissions(
                directory,
                std::os::unix::fs::PermissionsExt::from_mode(0o700),
            )
        });
    made.map_err(|e| unusable(directory, &e))
}

/// Replaces a file by rename, complete and synced to disk: no reader ever sees a part of it.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Explanation> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let write = || -> io::Result<()> {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(permissions)
            .tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|e| {
        Reason::NodeConfigInvalid.because(format!("{} cannot be written: {e}", path.display()))
    })
}

/// Takes a lock that ends with the process at the latest; `None` while another process has it.
pub fn try_lock(into: &'static str, name: &str) -> Result<Option<Flock<File>>, Explanation> {
    let path = directory(into)?.join(name);
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(&path);
    match Flock::lock(
        file.map_err(|e| unusable(&path, &e))?,
        FlockArg::LockExclusiveNonblock,
    ) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(unusable(&path, &errno.into())),
    }
}

/// Checks whether state could be kept: there is none yet, or only root can access it.
pub fn check() -> Result<(), Explanation> {
    let run = Path::new(paths::RUN);
    let sound =
        symlink_metadata(run).is_err_and(|e| e.kind() == ErrorKind::NotFound) || is_private(run);
    if sound { Ok(()) } else { Err(not_ours(run)) }
}

/// Whether a file was written longer ago than that.
pub fn is_older(path: &Path, than: std::time::Duration) -> bool {
    let written = symlink_metadata(path).and_then(|m| m.modified());
    let age = written.ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age > than)
}

/// Whether it is a directory, not a link, that only root can access.
pub fn is_private(path: &Path) -> bool {
    symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == 0 && m.mode() & 0o077 == 0)
}

fn not_ours(path: &Path) -> Explanation {
    unusable(
        path,
        &io::Error::other("it is not a directory of root's alone"),
    )
}

/// State that cannot be written.
pub fn unusable(path: &Path, error: &io::Error) -> Explanation {
    Reason::NodeConfigInvalid
        .because(format!(
            "the directory {} cannot be used: {error}",
            path.display()
        ))
        .remedy("make sure that it is root's alone (mode 0700) and writable")
}
