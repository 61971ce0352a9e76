use tracing::warn;

use super::Failure;
use crate::{
    cni::{Attached, Environment},
    deadline::Deadline,
    kernel::Netns,
    node::attachments,
    plan::summary,
    reason::Reason,
    redirection::verify,
};

/// CHECK: whether the redirection is still what the attachment's record says. A pod that was skipped has none, nor has one whose record
/// was lost: nothing says what it should be.
pub(super) fn check(environment: &Environment, deadline: Deadline) -> Result<String, Failure> {
    let attached = Attached::parse(environment)?;
    let record = attachments::get(&attached.container_id, &attached.ifname)?;
    let Some(record) = record.filter(|r| r.done) else { return Ok(String::new()) };
    let found = verify(&record, &Netns::open(&attached.netns)?, deadline)?;
    if let Some(in_front) = summary(&found.in_front) {
        let warning = Reason::Preempted.because(in_front);
        warn!(namespace = record.namespace, name = record.pod, reason = warning.reason.as_str(), "{warning}");
    }
    summary(&found.differences).map_or_else(|| Ok(String::new()), |drift| Err(Reason::Drifted.because(drift).into()))
}
