use crate::{
    cni::{Attached, Environment, netns_path},
    kernel::{KernelError, Netns, netns::cookie},
    node::attachments,
};

/// DEL: needs nothing, changes nothing that matters, succeeds for every input. The rules die with the network namespace; while it
/// lives they stay, and so does their record.
pub(super) fn del(environment: &Environment) {
    if let Ok((container_id, ifname)) = Attached::record_key(environment)
        && let Some(record) = attachments::get(&container_id, &ifname)
        && netns_path(environment).and_then(|path| cookie_of(&path)) != Some(record.netns_cookie)
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

fn cookie_of(netns: &std::path::Path) -> Option<u64> {
    Netns::open(netns).ok()?.run(|| -> Result<u64, KernelError> { cookie() }).ok()
}
