use tracing::warn;

use super::CallFailure;
use crate::{
    cni::{Attached, Environment},
    deadline::Deadline,
    kernel::Netns,
    node::attachments,
    plan::summary,
    reason::{Explanation, Reason},
    redirection::{Verdict, verify},
};

/// CHECK: whether the redirection is still what the sandbox's record says. A pod that was skipped has no record, and without one there is
/// nothing to compare with.
pub(super) fn check(environment: &Environment, deadline: Deadline) -> Result<String, CallFailure> {
    let attached = Attached::parse(environment)?;
    let record = attachments::get(&attached.container_id)?;
    let Some(record) = record.filter(|r| r.done) else {
        return Ok(String::new());
    };
    let found = verify(&record, &Netns::open(&attached.netns)?, deadline)?;
    let warn = |warning: &Explanation| {
        warn!(
            namespace = record.namespace,
            name = record.pod,
            reason = warning.reason.as_str(),
            "{warning}"
        );
    };
    if let Some(what) = summary(&found.in_front) {
        warn(&Reason::Preempted.because(what));
    }
    match (found.verdict(), found.problem()) {
        (Verdict::Drifted | Verdict::Bypassing, Some(problem)) => return Err(problem.into()),
        (Verdict::Outdated, Some(outdated)) => warn(&outdated),
        // what is in front was told above
        (Verdict::Preempted | Verdict::Consistent, _) | (_, None) => {}
    }
    Ok(String::new())
}
