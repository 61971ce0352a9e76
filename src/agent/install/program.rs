//! Installs the program in the CNI directory, under its own name and under other plugins' names that Multus's cache still mentions.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use crate::reason::{Explanation, Reason};

/// Its name, and the type in NADs and configurations.
pub(super) const NAME: &str = "mesh-optin";
/// This program, also when its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";
/// The prefix of a program that is being written: hidden, since people list the directory.
const UNFINISHED: &str = ".mesh-optin.";

/// Identifies a file's content as long as the file is not touched.
type Stamp = (u64, u64, i64, i64);

/// This program, and the state of its installed file.
#[derive(Default)]
pub(super) struct Program {
    ours: Option<String>,
    /// The identity of the file when it was last correct.
    right: Option<Stamp>,
}

impl Program {
    /// A digest of this program.
    pub(super) fn digest(&mut self) -> Result<String, Explanation> {
        if self.ours.is_none() {
            let failed =
                |e: io::Error| Reason::Internal.because(format!("reading {OURSELVES}: {e}"));
            self.ours = Some(digest(Path::new(OURSELVES)).map_err(failed)?);
        }
        Ok(self.ours.clone().unwrap_or_default())
    }

    /// Makes sure that the file is this program; returns whether it was written. A program that is running is not affected.
    pub(super) fn ensure(&mut self, path: &Path) -> Result<bool, Explanation> {
        let there = stamp(path);
        if there.is_some() && there == self.right {
            return Ok(false);
        }
        let is_ours = there.is_some() && digest(path).ok() == Some(self.digest()?);
        if !is_ours {
            put(path).map_err(|e| cannot_install(path, &e))?;
        }
        self.right = stamp(path);
        Ok(!is_ours)
    }
}

/// Gives the program at `path` an alias in the same directory; returns whether it was created. `recorded`: the digest of what we installed
/// there before. `None` if the file there is foreign.
pub(super) fn also(
    path: &Path,
    name: &Path,
    recorded: Option<&String>,
) -> Result<Option<bool>, Explanation> {
    let there = file(name);
    if there.is_some() && there == file(path) {
        return Ok(Some(false));
    }
    if there.is_some() && !is_recorded(name, recorded) {
        return Ok(None);
    }
    link(path, name)
        .map(|()| Some(true))
        .map_err(|e| cannot_install(name, &e))
}

/// The file that has a name: its device and inode.
fn file(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a further name is of the program: a kill may have left it with a digest that is not on record yet.
pub(super) fn is_alias(name: &Path, path: &Path, recorded: &String) -> bool {
    (file(name).is_some() && file(name) == file(path)) || is_recorded(name, Some(recorded))
}

/// Whether a file is the one that we installed.
fn is_recorded(path: &Path, recorded: Option<&String>) -> bool {
    recorded.is_some_and(|recorded| digest(path).is_ok_and(|there| there == *recorded))
}

fn cannot_install(path: &Path, error: &io::Error) -> Explanation {
    Reason::NodeConfigInvalid.because(format!(
        "the program cannot be put at {}: {error}",
        path.display()
    ))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let m = std::fs::symlink_metadata(path)
        .ok()
        .filter(|m| m.is_file() && m.mode() & 0o777 == 0o755)?;
    Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
}

/// FNV-1a, and the length: enough to distinguish the files of admins and installers, which are no attackers.
fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut part) = (File::open(path)?, vec![0; 64 << 10]);
    let (mut hash, mut length) = (0xcbf2_9ce4_8422_2325_u64, 0);
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok(format!("{length:x}-{hash:016x}"));
        }
        length += read;
        for byte in &part[..read] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Removes what a killed installer left beside the programs. The caller holds the lock, so no other installer runs.
pub(super) fn sweep(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).ok();
        } else {
            std::fs::remove_file(path).ok();
        }
    }
}

fn put(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mode = std::fs::Permissions::from_mode(0o755);
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(mode.clone())
        .tempfile_in(directory)?;
    io::copy(&mut File::open(OURSELVES)?, file.as_file_mut())?;
    file.as_file().set_permissions(mode)?; // whatever the umask
    // what is open for writing cannot be executed: closed before it has its name
    let unfinished = file.into_temp_path();
    File::open(&unfinished)?.sync_all()?;
    unfinished.persist(path).map_err(|e| e.error)?;
    File::open(directory)?.sync_all()
}

fn link(path: &Path, name: &Path) -> io::Result<()> {
    let directory = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(name.parent().unwrap_or(Path::new("/")))?;
    let unfinished = directory.path().join(NAME);
    std::fs::hard_link(path, &unfinished)?;
    std::fs::rename(unfinished, name)
}

#[cfg(test)]
mod tests {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::*;

    #[test]
    fn a_program_is_installed_by_rename_and_reinstalled_once_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh-optin");
        std::fs::write(&path, "an older one").unwrap();
        let (mut program, before) = (Program::default(), std::fs::metadata(&path).unwrap().ino());
        assert!(program.ensure(&path).unwrap() && !program.ensure(&path).unwrap());
        let after = std::fs::metadata(&path).unwrap();
        assert!(after.ino() != before && after.mode() & 0o777 == 0o755);
        assert!(
            !Program::default().ensure(&path).unwrap(),
            "another agent finds it right"
        );
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut f| io::Write::write_all(&mut f, b"x"))
            .unwrap();
        assert!(program.ensure(&path).unwrap(), "it was changed");
        // what was killed while it installed
        std::fs::write(dir.path().join(".mesh-optin.abc"), "half").unwrap();
        std::fs::create_dir(dir.path().join(".mesh-optin.def")).unwrap();
        sweep(dir.path());
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_program_is_closed_before_it_gets_its_name_so_that_it_can_be_executed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let events = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let watched = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        events.add_watch(dir.path(), watched).unwrap();
        put(&dir.path().join("mesh-optin")).unwrap();
        let events = events.read_events().unwrap();
        let order: Vec<_> = events.iter().map(|event| event.mask).collect();
        assert_eq!(
            order,
            [AddWatchFlags::IN_CLOSE_WRITE, AddWatchFlags::IN_MOVED_TO]
        );
    }

    #[test]
    fn an_alias_is_created_and_removed_only_where_no_foreign_file_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, name) = (dir.path().join("mesh-optin"), dir.path().join("istio-cni"));
        let mut program = Program::default();
        program.ensure(&path).unwrap();
        let ours = program.digest().unwrap();
        assert_eq!(also(&path, &name, None).unwrap(), Some(true));
        assert_eq!(also(&path, &name, None).unwrap(), Some(false));
        std::fs::remove_file(&path).unwrap();
        program.ensure(&path).unwrap();
        assert_eq!(
            also(&path, &name, Some(&ours)).unwrap(),
            Some(true),
            "as after an update"
        );
        std::fs::remove_file(&name).unwrap();
        std::fs::write(&name, "Istio's own").unwrap();
        assert_eq!(also(&path, &name, Some(&ours)).unwrap(), None);
        assert!(!is_recorded(&name, Some(&ours)) && is_recorded(&path, Some(&ours)));
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "Istio's own");
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing is left beside them"
        );
    }
}
