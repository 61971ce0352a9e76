use crate::{
    cni::Attached,
    deadline::Deadline,
    mesh::{Intent, Pod, Profile},
    node::attachments::{self, Record},
    plan::Form,
    reason::{Explanation, Reason},
};

/// What is to be redirected, for whom.
pub struct Redirection<'a> {
    /// The network namespace, as the runtime names it.
    pub attached: &'a Attached,
    /// The pod in it.
    pub pod: &'a Pod,
    /// What governs it.
    pub profile: &'a Profile,
    /// What is wanted.
    pub intent: &'a Intent,
    /// When it must be done.
    pub deadline: Deadline,
}

/// The record of an earlier ADD in this namespace that wanted the same; a conflict where one that was done wanted something else.
pub(super) fn earlier(
    wanted: &Redirection<'_>,
    cookie: u64,
) -> Result<Option<Record>, Explanation> {
    let records = attachments::of_container(&wanted.attached.container_id)
        .into_iter()
        .filter(|r| r.netns_cookie == cookie);
    let (same, other): (Vec<_>, Vec<_>) = records.partition(|r| r.intent == *wanted.intent);
    match other.iter().find(|r| r.done) {
        Some(other) => Err(Reason::ConflictingAttachment.because(format!(
            "the attachment for {} in this pod has other settings",
            other.ifname
        ))),
        // With nftables an ADD that was killed left nothing, or was done: its record says nothing. Of two, what is done is known better.
        None => Ok(same
            .into_iter()
            .filter(|r| r.done || r.backend != Form::Nftables)
            .max_by_key(|r| r.done)),
    }
}
