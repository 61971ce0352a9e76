//! Outcomes of ADDs while no agent is running: one file each, in the format of `source::wire`, kept until an agent is back.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::libc::O_NOFOLLOW;

use super::{Privacy, paths, read, state};

/// Most outcomes that are kept; further ones are counted.
pub const MOST: usize = 512;
/// Most outcomes that are counted.
const MOST_DROPPED: u64 = 1 << 20;
const EXTENSION: &str = ".json";
/// A file whose length is the number of outcomes that were not kept.
const DROPPED: &str = "dropped";
/// The age after which a temporary file is abandoned.
const NO_LONGER_WRITTEN: Duration = Duration::from_secs(120);

/// Keeps an outcome, or counts it. If neither is possible it is lost: it must not fail the ADD.
pub fn keep(line: &[u8]) {
    let Ok(directory) = state::directory(paths::OUTCOMES) else {
        return;
    };
    if files().count() < MOST {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("{:020}.{}{EXTENSION}", now.as_nanos(), std::process::id());
        state::write_text(paths::OUTCOMES, &directory.join(name), line).ok();
        return;
    }
    let mut options = OpenOptions::new();
    let options = options.create(true).append(true).mode(0o600);
    if let Ok(mut file) = options
        .custom_flags(O_NOFOLLOW)
        .open(directory.join(DROPPED))
        && file.metadata().is_ok_and(|m| m.len() < MOST_DROPPED)
    {
        file.write_all(b".").ok();
    }
}

/// Takes all outcomes that were kept, the oldest first, and the number of those that were not.
pub fn take() -> (Vec<String>, u64) {
    let directory = Path::new(paths::OUTCOMES);
    if !state::is_private(directory) {
        return (Vec::new(), 0);
    }
    let mut paths: Vec<_> = files().collect();
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        let is_whole = path.to_str().is_some_and(|p| p.ends_with(EXTENSION));
        if is_whole {
            lines.extend(read(&path, Privacy::Private).ok().flatten());
        }
        if is_whole || state::is_older(&path, NO_LONGER_WRITTEN) {
            std::fs::remove_file(path).ok();
        }
    }
    let dropped = directory.join(DROPPED);
    let count = std::fs::symlink_metadata(&dropped).map_or(0, |m| m.len());
    if count > 0 {
        std::fs::remove_file(dropped).ok();
    }
    (lines, count)
}

fn files() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(paths::OUTCOMES).ok();
    let paths = entries
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()));
    paths.filter(|path| !path.ends_with(DROPPED))
}
