use std::{io::ErrorKind, path::Path, time::Duration};

use crate::{
    cni::{Attached, Environment, netns_path},
    deadline::Deadline,
    kernel::Netns,
    node::attachments::{self, Record},
    redirection::alone,
    source,
};

/// How long a DEL may clean up after others, where no agent does.
const SWEEP: Duration = Duration::from_millis(50);

/// DEL: needs nothing, changes nothing that matters, succeeds for every input. The rules die with the network namespace; while it
/// lives they stay, and so does their record, without this interface's name.
pub(super) fn del(environment: &Environment) {
    if let Ok((container_id, ifname)) = Attached::record_key(environment)
        && let Ok(Some(record)) = attachments::get(&container_id)
    {
        let netns = netns_path(environment).unwrap_or_else(|| record.netns.clone());
        if is_gone(&netns, &record) {
            attachments::remove(&container_id);
        } else {
            detach(&record, &ifname);
        }
    }
    if !source::agent_listens() {
        attachments::sweep(Deadline::after(SWEEP));
    }
}

/// GC: what is clean by itself needs no list of what lives.
pub(super) fn gc() -> String {
    attachments::sweep(Deadline::after(SWEEP));
    String::new()
}

/// Takes an interface off the record's list. Where an ADD is at work on it, or it fails, it stays there: it only counts.
fn detach(record: &Record, ifname: &str) {
    let Some(_alone) = alone(record.netns_cookie) else {
        return;
    };
    if let Ok(Some(mut now)) = attachments::get(&record.container_id)
        && now.interfaces.iter().any(|name| name == ifname)
    {
        now.interfaces.retain(|name| name != ifname);
        now.write().ok();
    }
}

/// Whether the record's network namespace is known to be gone: its path is, or leads to another. Not to know is not enough.
fn is_gone(path: &Path, record: &Record) -> bool {
    if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        return true;
    }
    let cookie = Netns::open(path).ok().and_then(|netns| netns.cookie().ok());
    cookie.is_some_and(|cookie| cookie != record.netns_cookie)
}
