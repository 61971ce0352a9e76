//! Whether the network namespace of a record is still there.

use std::{io::ErrorKind, path::Path};

use crate::{
    kernel::Netns,
    node::attachments::{Processes, Record},
    reason::{Explanation, Reason},
};

/// What is known of a record's network namespace.
#[derive(Debug)]
pub enum Located {
    /// It is there.
    Alive(Netns),
    /// Its path is gone, or leads to another.
    Gone,
    /// It cannot be told, and why: not to know is not enough to take it for gone.
    Unknown(Explanation),
}

/// Looks for the network namespace of a record at a path, by default the record's own.
pub fn locate(record: &Record, path: Option<&Path>, processes: Processes) -> Located {
    let path = path.unwrap_or(&record.netns);
    if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        let may_be_hidden = processes == Processes::MayBeHidden && path.starts_with("/proc");
        return if may_be_hidden {
            let cause = format!("{} cannot be seen from here", path.display());
            Located::Unknown(Reason::NetnsInvalid.because(cause))
        } else {
            Located::Gone
        };
    }
    let opened = Netns::open(path).and_then(|netns| Ok((netns.cookie()?, netns)));
    match opened {
        Ok((cookie, netns)) if cookie == record.netns_cookie => Located::Alive(netns),
        Ok(_) => Located::Gone,
        Err(why) => Located::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_gone() {
        let text = include_str!("../../tests/data/compat/0.1.0/record.json");
        let directory = tempfile::tempdir().unwrap();
        let record = Record {
            netns: directory.path().join("netns"),
            ..serde_json::from_str(text).unwrap()
        };
        let at = |path: Option<&Path>, processes| locate(&record, path, processes);
        let (seen, hidden) = (Processes::Seen, Processes::MayBeHidden);
        assert!(matches!(at(None, hidden), Located::Gone));
        std::fs::write(&record.netns, "").unwrap();
        assert!(matches!(at(None, seen), Located::Unknown(_)));
        let of_process = Some(Path::new("/proc/0/ns/net"));
        assert!(matches!(at(of_process, seen), Located::Gone));
        assert!(matches!(at(of_process, hidden), Located::Unknown(_)));
    }
}
