//! Records of attachments, a file each: what was wanted in which network namespace. Written before the rules are made, marked done
//! after. They are cleaned by looking at what lives: a DEL may be lost.

use std::{
    fs::{DirBuilder, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::paths;
use crate::{mesh::Intent, plan::PodNetwork};

/// The record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_NETNS`
    pub netns: PathBuf,
    /// `SO_NETNS_COOKIE` of that namespace, which never comes again.
    pub netns_cookie: u64,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID in the API.
    pub uid: String,
    /// What is wanted.
    pub intent: Intent,
    /// What the pod's interfaces were at the first ADD.
    pub network: PodNetwork,
    /// What carries the plan out.
    pub backend: String,
    /// The profile's name.
    pub profile: String,
    /// The version of the program that made it.
    pub version: String,
    /// The rules are in place.
    pub done: bool,
}

impl Record {
    /// Writes it, in one step.
    pub fn write(&self) -> io::Result<()> {
        let directory = directory()?;
        let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(directory)?;
        file.write_all(&serde_json::to_vec(self)?)?; // one system call
        file.persist(path(&self.container_id, &self.ifname)).map_err(|e| e.error)?;
        Ok(())
    }
}

/// The records of a container's attachments. One that cannot be read is left out: then the kernel's word counts alone.
pub fn of_container(container_id: &str) -> Vec<Record> {
    let prefix = format!("{container_id}.");
    let of_container = |name: &str| name.starts_with(&prefix);
    files().filter(|p| name(p).is_some_and(of_container)).filter_map(|p| load(&p)).filter(|r| r.container_id == container_id).collect()
}

/// Removes the records of namespaces whose path is gone, and this one. Errors do not matter: the next call does the same.
pub fn sweep() {
    for path in files() {
        if load(&path).is_none_or(|r| !r.netns.exists()) {
            drop(std::fs::remove_file(path));
        }
    }
}

/// Removes one record.
pub fn remove(container_id: &str, ifname: &str) {
    drop(std::fs::remove_file(path(container_id, ifname)));
}

/// One record.
pub fn get(container_id: &str, ifname: &str) -> Option<Record> {
    load(&path(container_id, ifname))
}

fn path(container_id: &str, ifname: &str) -> PathBuf {
    Path::new(paths::ATTACHMENTS).join(format!("{container_id}.{ifname}.json"))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn files() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(paths::ATTACHMENTS).ok().into_iter().flatten();
    entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| name(p).is_some_and(|n| n.ends_with(".json") && !n.starts_with('.')))
}

fn load(path: &Path) -> Option<Record> {
    serde_json::from_reader(io::BufReader::new(File::open(path).ok()?)).ok()
}

/// The directory, made if it is not there; everything below `/run/mesh-optin` is root's alone.
fn directory() -> io::Result<&'static Path> {
    for path in [paths::RUN, paths::ATTACHMENTS] {
        private_directory(Path::new(path))?;
    }
    Ok(Path::new(paths::ATTACHMENTS))
}

/// Makes a directory that is root's alone, or makes sure that it is.
pub fn private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = std::fs::symlink_metadata(path)?;
            let ours = metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o077 == 0;
            if ours { Ok(()) } else { Err(io::Error::other(format!("{} is not a directory of root's alone (mode 0700)", path.display()))) }
        }
        other => other,
    }
}
