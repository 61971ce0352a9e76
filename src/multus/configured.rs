//! Multus's own configuration on this node, as the runtime finds it: the first file of its directory.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::built;
use crate::{
    reason::{Explanation, Reason},
    words::words,
};

/// Where runtimes look for their configuration: the usual directory, OpenShift's, that of k3s and RKE2.
pub(crate) const RUNTIME_DIRECTORIES: [&str; 3] = [
    "/etc/cni/net.d",
    "/etc/kubernetes/cni/net.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
];
/// The program that a runtime calls.
const THIN: &str = "multus";
const THICK: &str = "multus-shim";
/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

words! {
    /// How Multus runs.
    pub(crate) enum Mode("mode of Multus") {
        /// As a program, with its configuration on the node.
        Thin = "thin",
        /// As a daemon, whose configuration is in its pod.
        Thick = "thick",
    }
}

/// Multus, as it is configured on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Multus {
    pub(crate) file: PathBuf,
    pub(crate) mode: Mode,
    /// Its directories, where they are known.
    pub(crate) bin_dir: Option<PathBuf>,
    pub(crate) conf_dir: Option<PathBuf>,
    pub(crate) cache_dir: Option<PathBuf>,
}

/// What is read of such a file.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    #[serde(rename = "type")]
    kind: String,
    bin_dir: PathBuf,
    conf_dir: PathBuf,
    cni_dir: PathBuf,
    plugins: Vec<File>,
}

impl Default for File {
    /// Those that Multus uses.
    fn default() -> Self {
        Self {
            kind: String::new(),
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: "/etc/cni/multus/net.d".into(),
            cni_dir: "/var/lib/cni/multus".into(),
            plugins: Vec::new(),
        }
    }
}

impl Multus {
    /// Finds the Multus that the runtime calls, in this directory or the usual ones; `None` if it calls none.
    pub(crate) fn find(directory: Option<&Path>) -> Option<Self> {
        let usual = RUNTIME_DIRECTORIES.map(Path::new);
        let directories = directory.map_or(usual.to_vec(), |directory| vec![directory]);
        directories.into_iter().find_map(Self::find_in)
    }

    pub(crate) fn find_in(directory: &Path) -> Option<Self> {
        let entries = std::fs::read_dir(directory).ok()?;
        let is_conf = |path: &PathBuf| {
            let extension = path.extension().and_then(|e| e.to_str());
            extension.is_some_and(|e| ["conf", "conflist", "json"].contains(&e))
        };
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(is_conf)
            .collect();
        files.sort();
        let first = files.into_iter().next()?;
        let is_small = std::fs::metadata(&first).is_ok_and(|m| m.len() <= LARGEST);
        let text = std::fs::read(&first).ok().filter(|_| is_small)?;
        Self::of(first, serde_json::from_slice(&text).ok()?)
    }

    fn of(path: PathBuf, file: File) -> Option<Self> {
        let mut all = file.plugins.into_iter().chain([File {
            plugins: Vec::new(),
            ..file
        }]);
        all.find_map(
            |File {
                 kind,
                 bin_dir,
                 conf_dir,
                 cni_dir,
                 ..
             }| match kind.as_str() {
                THIN => Some(Self {
                    file: path.clone(),
                    mode: Mode::Thin,
                    bin_dir: Some(bin_dir),
                    conf_dir: Some(conf_dir),
                    cache_dir: Some(cni_dir),
                }),
                THICK => Some(Self {
                    file: path.clone(),
                    mode: Mode::Thick,
                    bin_dir: None,
                    conf_dir: None,
                    cache_dir: None,
                }),
                _ => None,
            },
        )
    }

    /// Its version, as the program in the directory of CNI plugins says it; empty where that does not.
    pub(crate) fn version(&self, cni_bin_dir: &Path) -> String {
        let program = match self.mode {
            Mode::Thin => THIN,
            Mode::Thick => THICK,
        };
        built::version(&cni_bin_dir.join(program)).unwrap_or_default()
    }

    /// Why a cache, or its absence, does not prove that no sandbox needs a program.
    pub(super) fn doubt(cache: &Path, found: Option<&Self>) -> Option<Explanation> {
        let found = found?;
        let cause = match &found.cache_dir {
            Some(theirs) if is_same(theirs, cache) => return None, // where it is not there, Multus never made a sandbox
            Some(theirs) => format!(
                "Multus's cache is {}, says {}, and not {}",
                theirs.display(),
                found.file.display(),
                cache.display()
            ),
            None if cache.exists() => return None,
            None => format!(
                "{} is not there, though {} says that Multus runs on this node",
                cache.display(),
                found.file.display()
            ),
        };
        Some(
            Reason::NodeConfigInvalid
                .because(cause)
                .remedy("give the directory of Multus's cache as --multus-cache-dir"),
        )
    }
}

/// Whether both paths are the same directory.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    a == b || real(a) == real(b)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What is found in a directory with these files: names and texts.
    pub(crate) fn found(files: &[(&str, &str)]) -> Option<Multus> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Multus::find_in(directory.path())
    }

    #[test]
    fn the_first_file_of_the_runtime_counts() {
        let thin = r#"{"name":"multus-cni-network","type":"multus","binDir":"/b","delegates":[{"type":"bridge"}]}"#;
        let thick = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"multus-shim"}]}"#;
        let multus = found(&[("00-multus.conf", thin), ("10-a.conflist", "{}")]).unwrap();
        assert_eq!(
            (
                multus.mode,
                multus.bin_dir.as_deref(),
                multus.conf_dir.as_deref()
            ),
            (
                Mode::Thin,
                Some(Path::new("/b")),
                Some(Path::new("/etc/cni/multus/net.d"))
            )
        );
        assert_eq!(
            found(&[("00-multus.conflist", thick)]).unwrap().mode,
            Mode::Thick
        );
        let first = r#"{"name":"a","type":"bridge"}"#;
        assert_eq!(
            found(&[("00-a.conf", first), ("01-multus.conf", thin)]),
            None
        );
        assert_eq!(found(&[("00-a.conf", "{"), ("01-multus.conf", thin)]), None);
    }

    #[test]
    fn a_directory_that_is_not_the_cache_of_multus_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, other) = (
            directory.path().join("cache"),
            directory.path().join("other"),
        );
        let text = format!(r#"{{"type":"multus","cniDir":"{}"}}"#, cache.display());
        let thin = found(&[("00-multus.conf", &text)]);
        let thick = found(&[("00-multus.conf", r#"{"type":"multus-shim"}"#)]);
        let doubts =
            |cache: &Path, multus: &Option<Multus>| Multus::doubt(cache, multus.as_ref()).is_some();
        // there is none yet, Multus is elsewhere, nobody knows where it is, and it is not there at all
        assert!(!doubts(&cache, &thin) && doubts(&other, &thin));
        assert!(doubts(&cache, &thick) && !doubts(&cache, &None));
        std::fs::create_dir(&cache).unwrap();
        assert!(!doubts(&cache, &thick) && !doubts(&cache, &thin));
    }
}
