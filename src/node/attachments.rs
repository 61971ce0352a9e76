//! Records of attachments, a file each: what was wanted in which network namespace. Written before the rules are made, marked done
//! after. They are cleaned by looking at what lives: a DEL may be lost.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Privacy, paths, read, state};
use crate::{
    mesh::Intent,
    plan::{Form, PodNetwork},
    reason::{Explanation, Reason},
};

/// The record of an attachment. Persisted: a new field needs a default that means what was before it, and a fixture (`tests/pure/compat.rs`).
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
    pub backend: Form,
    /// The profile's name.
    pub profile: String,
    /// The version of the program that made it.
    pub version: String,
    /// What that lowers plans to.
    #[serde(default = "first_format")]
    pub format: u32,
    /// The rules are in place. The last field: [`Begun`] changes it in the text.
    pub done: bool,
}

fn first_format() -> u32 {
    1
}

impl Record {
    /// Writes it, in one step.
    pub fn write(&self) -> Result<(), Explanation> {
        state::write(
            paths::ATTACHMENTS,
            &path(&self.container_id, &self.ifname),
            self,
        )
    }
}

/// A record that was written before its rules are made, to be marked done after. Its text is kept: a record has hundreds of entries.
pub struct Begun {
    path: PathBuf,
    json: Vec<u8>,
}

impl Begun {
    /// Writes the record as not done.
    pub fn write(record: &Record) -> Result<Self, Explanation> {
        let path = path(&record.container_id, &record.ifname);
        let json =
            serde_json::to_vec(record).map_err(|e| Reason::Internal.because(e.to_string()))?;
        state::write_text(paths::ATTACHMENTS, &path, &json)?;
        Ok(Self { path, json })
    }

    /// Writes it again, as done.
    pub fn done(self) -> Result<(), Explanation> {
        let mut json = self.json;
        if json.ends_with(NOT_DONE) {
            json.truncate(json.len() - NOT_DONE.len());
            json.extend_from_slice(DONE);
        }
        state::write_text(paths::ATTACHMENTS, &self.path, &json)
    }
}

/// How the text of a record ends.
const NOT_DONE: &[u8] = br#""done":false}"#;
const DONE: &[u8] = br#""done":true}"#;

/// All records of this node. One that cannot be read is left out.
pub fn all() -> Vec<Record> {
    let mut paths: Vec<_> = files()
        .filter(|p| name(p).is_some_and(|n| n.ends_with(EXTENSION)))
        .collect();
    paths.sort();
    paths.iter().filter_map(|p| load(p).ok()?).collect()
}

/// Fails where the records cannot be listed; that there is no directory yet means that there are none.
pub fn ensure_listable() -> Result<(), Explanation> {
    match std::fs::read_dir(paths::ATTACHMENTS) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let cause = format!(
                "the records in {} cannot be listed: {error}",
                paths::ATTACHMENTS
            );
            Err(Reason::Internal.because(cause))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// How many records cannot be read: of another version of this program, perhaps.
pub fn unreadable() -> usize {
    files()
        .filter(|p| name(p).is_some_and(|n| n.ends_with(EXTENSION)) && load(p).is_err())
        .count()
}

/// The records of a container's attachments. One that cannot be read is left out: then the kernel's word counts alone.
pub fn of_container(container_id: &str) -> Vec<Record> {
    let prefix = format!("{container_id}.");
    let of_container = |path: &PathBuf| {
        name(path).is_some_and(|n| n.starts_with(&prefix) && n.ends_with(EXTENSION))
    };
    let records = files().filter(of_container).filter_map(|p| load(&p).ok()?);
    records.filter(|r| r.container_id == container_id).collect()
}

/// One record; `None` if there is none. An error where it cannot be read.
pub fn get(container_id: &str, ifname: &str) -> Result<Option<Record>, Explanation> {
    let record = load(&path(container_id, ifname))?;
    Ok(record.filter(|r| r.container_id == container_id && r.ifname == ifname))
}

/// Removes one record.
pub fn remove(container_id: &str, ifname: &str) {
    std::fs::remove_file(path(container_id, ifname)).ok();
}

/// Removes the records of network namespaces whose path is gone, and what a killed writer left. Nothing is removed on a doubt: not a
/// record that cannot be read, nor one of another program version. Errors do not matter: the next call does the same.
pub fn sweep() {
    /// What every version of a record has.
    #[derive(Deserialize)]
    struct Place {
        netns: PathBuf,
    }
    let gone = |path: &Path| {
        let text = read(path, Privacy::Private).ok().flatten();
        let place = text.and_then(|t| serde_json::from_str::<Place>(&t).ok());
        place.is_some_and(|p| {
            std::fs::symlink_metadata(p.netns).is_err_and(|e| e.kind() == ErrorKind::NotFound)
        })
    };
    let abandoned = |path: &Path| {
        let written = std::fs::symlink_metadata(path)
            .and_then(|m| m.modified())
            .ok();
        written
            .and_then(|w| w.elapsed().ok())
            .is_some_and(|age| age > NO_LONGER_WRITTEN)
    };
    if !state::is_private(Path::new(paths::ATTACHMENTS)) {
        return;
    }
    for path in files() {
        let Some(name) = name(&path) else { continue };
        if (name.ends_with(EXTENSION) && gone(&path))
            || (name.starts_with(state::UNFINISHED) && abandoned(&path))
        {
            std::fs::remove_file(&path).ok();
        }
    }
}

const EXTENSION: &str = ".json";
/// After that, nobody writes it any more.
const NO_LONGER_WRITTEN: Duration = Duration::from_secs(120);

fn path(container_id: &str, ifname: &str) -> PathBuf {
    Path::new(paths::ATTACHMENTS).join(format!("{container_id}.{ifname}{EXTENSION}"))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn files() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(paths::ATTACHMENTS)
        .ok()
        .into_iter()
        .flatten();
    entries.filter_map(|e| Some(e.ok()?.path()))
}

fn load(path: &Path) -> Result<Option<Record>, Explanation> {
    let Some(text) = read(path, Privacy::Private)? else {
        return Ok(None);
    };
    let broken = |e: serde_json::Error| {
        Reason::Internal.because(format!("the record {} cannot be read: {e}", path.display()))
    };
    serde_json::from_str(&text).map(Some).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_marked_done_at_the_end_of_its_text() {
        let text = include_str!("../../tests/data/compat/0.1.0/record.json");
        let mut record: Record = serde_json::from_str(text).unwrap();
        let json = |record: &Record| serde_json::to_vec(record).unwrap();
        let done = json(&record);
        record.done = false;
        let begun = json(&record);
        assert_eq!(begun.strip_suffix(NOT_DONE), done.strip_suffix(DONE));
        assert!(begun.ends_with(NOT_DONE));
    }
}
