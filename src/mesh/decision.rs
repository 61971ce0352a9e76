//! A decision, and what is found on the way to it.

use super::{Input, Intent};
use crate::reason::{Explanation, Reason};

/// What to do with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Redirect its traffic like this.
    Redirect(Box<Intent>),
    /// Touch nothing, for this reason.
    Skip(Explanation),
    /// Fail the ADD, for this reason: the pod does not start.
    Refuse(Explanation),
}

impl Decision {
    /// The reason's code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Redirect(_) => Reason::Redirected,
            Self::Skip(e) | Self::Refuse(e) => e.reason,
        }
    }
}

/// A decision with everything that led to it.
#[derive(Debug, Clone)]
pub struct Decided {
    /// What to do.
    pub decision: Decision,
    /// The inputs that led to it, in the order in which they were read.
    pub inputs: Vec<Input>,
    /// Warnings: the pod starts all the same.
    pub warnings: Vec<Explanation>,
    /// The first of these that would refuse the pod if it had not run before.
    pub tolerated: Option<Explanation>,
    /// Why a pod of the mesh should have a sidecar, if it has none.
    pub missing_sidecar: Option<Explanation>,
    /// It stays out of the mesh, which its profile does not allow.
    pub stays_out: bool,
}

/// A decision other than an Intent.
pub(super) enum NoIntent {
    Skip(Explanation),
    /// Skip, and warn of it.
    Warn(Explanation),
    Refuse(Explanation),
}

/// What was found on the way to a decision.
pub(super) struct SoFar {
    pub(super) has_run: bool,
    /// The inputs, if they are asked for.
    pub(super) inputs: Option<Vec<Input>>,
    pub(super) warnings: Vec<Explanation>,
    pub(super) tolerated: Option<Explanation>,
    pub(super) missing_sidecar: Option<Explanation>,
    pub(super) stays_out: bool,
}

impl SoFar {
    /// Refuses the pod, unless it has run: then it gets a warning.
    pub(super) fn refuse(&mut self, why: Explanation) -> Result<(), NoIntent> {
        if !self.has_run {
            return Err(NoIntent::Refuse(why));
        }
        self.tolerated.get_or_insert_with(|| why.clone());
        self.warnings.push(why);
        Ok(())
    }

    /// Refuses a pod that must not stay out of the mesh, unless it has run: then it stays out, with a warning.
    pub(super) fn refuse_to_skip(&mut self, why: Explanation, skip: Explanation) -> NoIntent {
        self.stays_out = true;
        match self.refuse(why) {
            Err(refused) => refused,
            Ok(()) => NoIntent::Skip(skip),
        }
    }
}

pub(super) fn not_enrolled(namespace: &str) -> Explanation {
    Reason::NotEnrolled.because(format!(
        "neither namespace {namespace} nor the pod is enrolled in the mesh"
    ))
}
