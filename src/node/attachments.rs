//! Records of redirections, one file per sandbox: what was wanted in which network namespace, by which attachments. A record is
//! written before the rules, and marked done after. DELs may be lost, so records are cleaned up by looking at which namespaces still
//! exist.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Privacy, paths, read, state};
use crate::{
    deadline::Deadline,
    mesh::Intent,
    plan::{Form, PodNetwork},
    reason::{Explanation, Reason},
};

/// The record of a sandbox's redirection. Persisted: a new field needs a default that means what was before it, and a fixture (`tests/pure/compat`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME` of the first attachment.
    pub ifname: String,
    /// The same of all attachments of the sandbox that ADDs were made for and no DEL. Version 0.1.0 has a record for each and no list.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// When the first of them was made.
    #[serde(default)]
    pub made: Timestamp,
    /// The Intent is one of an attachment that has traffic settings of its own: then another with other settings is a conflict.
    #[serde(default = "yes")]
    pub speaks: bool,
    /// `CNI_NETNS`
    pub netns: PathBuf,
    /// `SO_NETNS_COOKIE` of that namespace, which is never reused.
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
    /// The form of the rules.
    pub backend: Form,
    /// The profile's name.
    pub profile: String,
    /// Its `resourceVersion`; empty where it is no object of a cluster.
    #[serde(default)]
    pub profile_version: String,
    /// The version of the program that made it.
    pub version: String,
    /// The format of its rules, [`crate::plan::FORMAT`].
    #[serde(default = "first_format")]
    pub format: u32,
    /// The rules are in place. The last field: [`Begun`] changes it in the text.
    pub done: bool,
}

fn first_format() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// Where records are kept. A test may keep them in memory.
pub trait RecordStore {
    /// Writes the text of a sandbox's record, in one step.
    fn put(&self, container_id: &str, json: &[u8]) -> Result<(), Explanation>;

    /// Removes a sandbox's record.
    fn remove(&self, container_id: &str);
}

/// The records of this node.
pub struct OnDisk;

impl RecordStore for OnDisk {
    fn put(&self, container_id: &str, json: &[u8]) -> Result<(), Explanation> {
        state::write_text(paths::ATTACHMENTS, &path(container_id), json)
    }

    fn remove(&self, container_id: &str) {
        remove(container_id);
    }
}

impl Record {
    /// Writes it, in one step.
    pub fn write(&self, to: &dyn RecordStore) -> Result<(), Explanation> {
        to.put(&self.container_id, &self.json()?)
    }

    fn json(&self) -> Result<Vec<u8>, Explanation> {
        serde_json::to_vec(self).map_err(|e| Reason::Internal.because(e.to_string()))
    }
}

/// A record that was written before its rules are made, to be marked done after. Its text is kept: a record has hundreds of entries.
pub struct Begun<'a> {
    container_id: &'a str,
    json: Vec<u8>,
}

impl<'a> Begun<'a> {
    /// Writes the record as not done.
    pub fn write(record: &'a Record, to: &dyn RecordStore) -> Result<Self, Explanation> {
        let (container_id, json) = (record.container_id.as_str(), record.json()?);
        to.put(container_id, &json)?;
        Ok(Self { container_id, json })
    }

    /// Rewrites it as done.
    pub fn done(self, to: &dyn RecordStore) -> Result<(), Explanation> {
        let mut json = self.json;
        if json.ends_with(NOT_DONE) {
            json.truncate(json.len() - NOT_DONE.len());
            json.extend_from_slice(DONE);
        }
        to.put(self.container_id, &json)
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

/// The record of a sandbox; `None` if there is none. An error where it cannot be read.
pub fn get(container_id: &str) -> Result<Option<Record>, Explanation> {
    let is_its = |record: &Record| record.container_id == container_id;
    if let Some(record) = load(&path(container_id))?.filter(is_its) {
        return Ok(Some(record));
    }
    let mut records = Vec::new();
    for path in older(container_id) {
        records.extend(load(&path)?.filter(is_its));
    }
    // of several all that are done are equal
    let interfaces = records.iter().map(|r| r.ifname.clone()).collect();
    let record = records.into_iter().max_by_key(|r| r.done);
    Ok(record.map(|r| Record { interfaces, ..r }))
}

/// The interface names of a sandbox's attachments, at little cost; none where that cannot be read.
pub fn interfaces(container_id: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct RecordedInterfaces {
        #[serde(default)]
        interfaces: Vec<String>,
    }
    let text = read(&path(container_id), Privacy::Private).ok().flatten();
    let read = text.and_then(|text| serde_json::from_str::<RecordedInterfaces>(&text).ok());
    read.map(|r| r.interfaces).unwrap_or_default()
}

/// Removes a sandbox's record.
pub fn remove(container_id: &str) {
    for path in older(container_id).chain([path(container_id)]) {
        std::fs::remove_file(path).ok();
    }
}

/// The records that version 0.1.0 wrote for a sandbox: `<container id>.<interface>.json`. What another sandbox's name begins with the same
/// is among them.
fn older(container_id: &str) -> impl Iterator<Item = PathBuf> {
    let prefix = format!("{container_id}.");
    let is_older = move |path: &PathBuf| {
        let inner = name(path).and_then(|n| n.strip_prefix(&prefix)?.strip_suffix(EXTENSION));
        inner.is_some_and(|interface| !interface.is_empty())
    };
    files().filter(is_older)
}

/// Whether this process sees those of the node: some runtimes name a network namespace by a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// As the runtime's plugins do.
    Seen,
    /// In a container they have a namespace of their own.
    MayBeHidden,
}

/// Removes the records of network namespaces whose path is gone, and what a killed writer left, until `by`. In doubt nothing is removed:
/// neither an unreadable record nor one of another program version. Errors are ignored, as the next call does the same. It starts at a random
/// record, so that many short calls cover all.
pub fn sweep(by: Deadline, processes: Processes) {
    /// What every version of a record has.
    #[derive(Deserialize)]
    struct Place {
        netns: PathBuf,
    }
    let gone = |path: &Path| {
        let text = read(path, Privacy::Private).ok().flatten();
        let place = text.and_then(|t| serde_json::from_str::<Place>(&t).ok());
        place.is_some_and(|p| {
            let is_hidden = processes == Processes::MayBeHidden && p.netns.starts_with("/proc");
            let metadata = std::fs::symlink_metadata(p.netns);
            !is_hidden && metadata.is_err_and(|e| e.kind() == ErrorKind::NotFound)
        })
    };
    let abandoned = |path: &Path| state::is_older(path, NO_LONGER_WRITTEN);
    if !state::is_private(Path::new(paths::ATTACHMENTS)) {
        return;
    }
    let mut files: Vec<_> = files().collect();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let first = now.subsec_micros() as usize % files.len().max(1);
    files.rotate_left(first);
    for path in files {
        if by.left().is_zero() {
            return;
        }
        let Some(name) = name(&path) else { continue };
        if (name.ends_with(EXTENSION) && gone(&path))
            || (name.starts_with(state::UNFINISHED) && abandoned(&path))
        {
            std::fs::remove_file(&path).ok();
        }
    }
}

const EXTENSION: &str = ".json";
/// The age after which a temporary file is abandoned.
const NO_LONGER_WRITTEN: Duration = Duration::from_secs(120);

fn path(container_id: &str) -> PathBuf {
    Path::new(paths::ATTACHMENTS).join(format!("{container_id}{EXTENSION}"))
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
