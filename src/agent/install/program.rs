//! The program in the CNI directory, under its own name and under those that Multus's cache still names.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::reason::{Explanation, Reason};

/// Its name, and the type in NADs and configurations.
pub(super) const NAME: &str = "mesh-optin";
/// This program, also when its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";
/// Most old names: what is cached is what tenants wrote.
const MOST_OLD_NAMES: usize = 16;

/// What identifies a file's content as long as nobody touches it.
type Stamp = (u64, u64, i64, i64);

/// Programs that were compared with ours already.
#[derive(Default)]
pub(super) struct Programs(HashMap<PathBuf, Stamp>);

impl Programs {
    /// Makes sure that the file is this program; whether it had to be written. A running one is never cut off.
    pub(super) fn ensure(&mut self, path: &Path) -> Result<bool, Explanation> {
        let failed = |e: io::Error| Reason::NodeConfigInvalid.because(format!("the program cannot be put at {}: {e}", path.display()));
        if stamp(path).is_some_and(|now| self.0.get(path) == Some(&now)) {
            return Ok(false);
        }
        let is_ours = is_this_program(path).map_err(failed)?;
        if !is_ours {
            put(path).map_err(failed)?;
        }
        if let Some(stamp) = stamp(path) {
            self.0.insert(path.to_owned(), stamp);
        }
        Ok(!is_ours)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let m = std::fs::symlink_metadata(path).ok().filter(|m| m.is_file() && m.mode() & 0o777 == 0o755)?;
    Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
}

fn is_this_program(path: &Path) -> io::Result<bool> {
    if stamp(path).is_none() || std::fs::metadata(OURSELVES)?.len() != std::fs::metadata(path)?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (File::open(OURSELVES)?, File::open(path)?);
    let (mut one, mut other) = ([0; 16 << 10], [0; 16 << 10]);
    loop {
        let length = io::Read::read(&mut ours, &mut one)?;
        if length == 0 {
            return Ok(true);
        }
        io::Read::read_exact(&mut theirs, &mut other[..length])?;
        if one[..length] != other[..length] {
            return Ok(false);
        }
    }
}

fn put(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // hidden: a directory of programs is listed by people, and by some by pattern
    let mut file =
        tempfile::Builder::new().prefix(".mesh-optin.").permissions(std::fs::Permissions::from_mode(0o755)).tempfile_in(directory)?;
    io::copy(&mut File::open(OURSELVES)?, file.as_file_mut())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?; // whatever the umask
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(directory)?.sync_all()
}

/// The types of plugins that sandboxes of this node name in Multus's cache.
pub(super) fn types_in_cache(cache: &Path) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Plugin {
        #[serde(default, rename = "type")]
        kind: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct List {
        plugins: Vec<Plugin>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Delegate {
        conf: Option<Plugin>,
        #[serde(default)]
        conf_list: List,
    }
    let files = std::fs::read_dir(cache).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let delegates = files.filter_map(|file| serde_json::from_slice::<Vec<Delegate>>(&std::fs::read(file).ok()?).ok()).flatten();
    delegates.flat_map(|d| d.conf.into_iter().chain(d.conf_list.plugins)).map(|p| p.kind).filter(|kind| !kind.is_empty()).collect()
}

/// Those of them that Istio's or OpenShift Service Mesh's plugin had: their DELs are still to come.
pub(super) fn old_names(types: &BTreeSet<String>) -> impl Iterator<Item = &String> {
    let is_plain = |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let is_old = |name: &str| name == "istio-cni" || (name.starts_with("v2-") && name.ends_with("-istio-cni"));
    types.iter().filter(move |name| is_plain(name) && is_old(name)).take(MOST_OLD_NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_put_whole_by_rename_and_put_again_when_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh-optin");
        std::fs::write(&path, "an older one").unwrap();
        let (mut programs, before) = (Programs::default(), std::fs::metadata(&path).unwrap().ino());
        assert!(programs.ensure(&path).unwrap() && !programs.ensure(&path).unwrap());
        let after = std::fs::metadata(&path).unwrap();
        assert!(after.ino() != before && after.mode() & 0o777 == 0o755);
        assert!(!Programs::default().ensure(&path).unwrap(), "another agent finds it right");
        std::fs::OpenOptions::new().append(true).open(&path).and_then(|mut f| io::Write::write_all(&mut f, b"x")).unwrap();
        assert!(programs.ensure(&path).unwrap(), "somebody changed it");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn only_names_of_istio_s_plugins_are_taken_from_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let cached = r#"[{"Conf":{"type":"istio-cni","name":"x"},"ConfList":{},"Bytes":""},{"Conf":{},"ConfList":{"plugins":[{"type":"v2-6-istio-cni"},{"type":"../v2-istio-cni"}]}}]"#;
        std::fs::write(dir.path().join("id"), cached).unwrap();
        std::fs::write(dir.path().join("broken"), "[{").unwrap();
        let types = types_in_cache(dir.path());
        assert_eq!(types.len(), 3);
        assert_eq!(old_names(&types).collect::<Vec<_>>(), ["istio-cni", "v2-6-istio-cni"]);
    }
}
