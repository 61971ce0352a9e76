use std::{io::ErrorKind, path::Path};

use crate::{
    cni::{Attached, Environment, netns_path},
    kernel::Netns,
    node::attachments::{self, Record},
};

/// DEL: needs nothing, changes nothing that matters, succeeds for every input. The rules die with the network namespace; while it
/// lives they stay, and so does their record.
pub(super) fn del(environment: &Environment) {
    if let Ok((container_id, ifname)) = Attached::record_key(environment)
        && let Ok(Some(record)) = attachments::get(&container_id, &ifname)
        && is_gone(
            &netns_path(environment).unwrap_or_else(|| record.netns.clone()),
            &record,
        )
    {
        attachments::remove(&container_id, &ifname);
    }
    attachments::sweep();
}

/// GC: what is clean by itself needs no list of what lives.
pub(super) fn gc() -> String {
    attachments::sweep();
    String::new()
}

/// Whether the record's network namespace is known to be gone: its path is, or leads to another. Not to know is not enough.
fn is_gone(path: &Path, record: &Record) -> bool {
    if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        return true;
    }
    let cookie = Netns::open(path).ok().and_then(|netns| netns.cookie().ok());
    cookie.is_some_and(|cookie| cookie != record.netns_cookie)
}
