use std::time::Duration;

use crate::{
    cni::{Attached, Environment, netns_path},
    deadline::Deadline,
    node::attachments::{self, OnDisk, Processes, Record},
    redirection::{Located, locate, lock_if_free},
    source,
};

/// How long a DEL may clean up after others, if no agent does.
const SWEEP: Duration = Duration::from_millis(50);

/// DEL: needs nothing, changes nothing that matters, succeeds for every input. The rules die with the network namespace; while it
/// lives they stay, and so does their record, without this interface's name.
pub(super) fn del(environment: &Environment) {
    if let Ok((container_id, ifname)) = Attached::record_key(environment)
        && let Ok(Some(record)) = attachments::get(&container_id)
    {
        let netns = netns_path(environment).unwrap_or_else(|| record.netns.clone());
        match locate(&record, Some(&netns), Processes::Seen) {
            Located::Gone => attachments::remove(&container_id),
            Located::Alive(_) | Located::Unknown(_) => detach(&record, &ifname),
        }
    }
    if !source::agent_listens() {
        attachments::sweep(Deadline::after(SWEEP), Processes::Seen);
    }
}

/// GC: records are cleaned up without the runtime's list of live attachments.
pub(super) fn gc() -> String {
    attachments::sweep(Deadline::after(SWEEP), Processes::Seen);
    String::new()
}

/// Takes an interface off the record's list. It stays there while an ADD holds the lock, or after a failure: the list is only counted.
fn detach(record: &Record, ifname: &str) {
    let Some(_alone) = lock_if_free(record.netns_cookie) else {
        return;
    };
    if let Ok(Some(mut now)) = attachments::get(&record.container_id)
        && now.interfaces.iter().any(|name| name == ifname)
    {
        now.interfaces.retain(|name| name != ifname);
        now.write(&OnDisk).ok();
    }
}
