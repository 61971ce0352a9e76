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

/// CHECK: whether the redirection is still what the sandbox's record says. A pod that was skipped has none, nor has one whose record
/// was lost: nothing says what it should be.
pub(super) fn check(environment: &Environment, deadline: Deadline) -> Result<String, Failure> {
    let attached = Attached::parse(environment)?;
    let record = attachments::get(&attached.container_id)?;
    let Some(record) = record.filter(|r| r.done) else {
        return Ok(String::new());
    };
    let found = verify(&record, &Netns::open(&attached.netns)?, deadline)?;
    let warn = |reason: Reason, what: Option<String>| {
        if let Some(warning) = what.map(|what| reason.because(what)) {
            warn!(
                namespace = record.namespace,
                name = record.pod,
                reason = warning.reason.as_str(),
                "{warning}"
            );
        }
    };
    warn(Reason::Preempted, summary(&found.in_front));
    let differences = summary(&found.differences);
    match (found.wrong(), differences) {
        (Some(Reason::Drifted), Some(drift)) => Err(Reason::Drifted.because(drift).into()),
        (_, differences) => {
            warn(Reason::Outdated, differences);
            Ok(String::new())
        }
    }
}
