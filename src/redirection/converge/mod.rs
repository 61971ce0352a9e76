//! Brings a namespace to its plan: read, compare, apply, read back.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use super::wanted::{Done, Handling};
use crate::{
    kernel::{Backend, KernelError, Live, LiveState},
    node::attachments::{Begun, Record, RecordStore},
    plan::{may_be_right, summary},
    reason::{Explanation, Reason},
};

/// A redirection that is to become its plan.
pub(super) struct Converging<'a, B: Backend> {
    pub(super) live: Live<'a, B>,
    /// What goes on record of it.
    pub(super) record: Record,
    /// What is on record of this sandbox.
    pub(super) earlier: Option<&'a Record>,
    /// What is done about that.
    pub(super) handling: Handling,
    /// The pod must not start where foreign rules decide before ours.
    pub(super) refuses_preempted: bool,
    pub(super) store: &'a dyn RecordStore,
}

/// Why rules could not be made.
#[derive(Debug)]
pub(super) enum Failed {
    /// The kernel's word, which may lead to the other backend.
    Kernel(KernelError),
    Said(Explanation),
}

impl From<KernelError> for Failed {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<Explanation> for Failed {
    fn from(explanation: Explanation) -> Self {
        Self::Said(explanation)
    }
}

impl From<Failed> for Explanation {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Kernel(error) => error.into(),
            Failed::Said(explanation) => explanation,
        }
    }
}

impl<B: Backend> Converging<'_, B> {
    /// If something else, such as a repairing agent, changed the rules meanwhile, it starts over.
    pub(super) fn converge(mut self) -> Result<Done, Failed> {
        const ATTEMPTS: u32 = 5;
        for _ in 0..ATTEMPTS {
            match self.attempt() {
                Err(Failed::Kernel(KernelError::Conflict)) => {}
                done => return done,
            }
        }
        Err(KernelError::Conflict.into())
    }

    fn attempt(&mut self) -> Result<Done, Failed> {
        let mut found = self.live.read()?;
        let mut warnings = Vec::new();
        if B::SEES_PREEMPTING_FIRST {
            warnings.extend(self.preempting(&found)?);
        }
        let is_outdated = !found.differences().is_empty() && self.is_outdated(&found);
        let stays = found.of_rules().is_empty() || is_outdated;
        if found.differences().is_empty() || is_outdated {
            self.keep()?;
            let outdated = summary(found.differences());
            warnings.extend(outdated.map(|what| Reason::Outdated.because(what)));
        } else {
            self.ensure_no_conflict(&found)?;
            found = self.apply_on_record(&found)?;
        }
        if !B::SEES_PREEMPTING_FIRST {
            warnings.extend(self.preempting(&found)?);
        }
        let reason = if stays {
            Reason::AlreadyRedirected
        } else {
            Reason::Redirected
        };
        Ok(Done { reason, warnings })
    }

    /// Puts on record that what is there is right, with the format and version that made it.
    fn keep(&self) -> Result<(), Explanation> {
        let mut done = Record {
            done: true,
            ..self.record.clone()
        };
        if let Some(earlier) = self.earlier.filter(|_| self.handling == Handling::Keep) {
            (done.format, done.version) = (earlier.format, earlier.version.clone());
        }
        if self.earlier == Some(&done) {
            Ok(())
        } else {
            done.write(self.store)
        }
    }

    /// Whether what stays was made by a version of this program that plans otherwise: it stays as it is.
    fn is_outdated(&self, found: &LiveState<B::Found>) -> bool {
        self.handling == Handling::Keep
            && self.earlier.is_some_and(|e| may_be_right(e.format))
            && !self.live.redirects_nothing(found)
    }

    /// Applies, and reads back: it is right only if the kernel then reports what was planned. The record is written before and marked done
    /// after. Where nothing could be applied, what was on record before is again. What may have been left stays on record as not done: of a
    /// change that is not made as a whole, and of one that reads back differently.
    fn apply_on_record(
        &mut self,
        found: &LiveState<B::Found>,
    ) -> Result<LiveState<B::Found>, Failed> {
        let begun = Begun::write(&self.record, self.store)?;
        if let Err(error) = self.live.apply(found) {
            match self.earlier {
                // if this fails too, what is on record says that it was not done
                Some(before) => drop(before.write(self.store)),
                None if B::IS_ATOMIC => self.store.remove(&self.record.container_id),
                None => {}
            }
            return Err(error.into());
        }
        let found = self.live.read()?;
        if let Some(what) = summary(found.differences()) {
            let cause = format!("the redirection reads back differently: {what}");
            return Err(Reason::KernelRefused.because(cause).into());
        }
        begun.done(self.store)?;
        Ok(found)
    }

    /// A warning if foreign rules come before ours, or if that is unknown. If they decide, the pod must not start:
    /// unless the profile says so, or it has run before.
    fn preempting(
        &mut self,
        found: &LiveState<B::Found>,
    ) -> Result<Option<Explanation>, Explanation> {
        const ATTEMPTS: usize = 3;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.live.preempting(found) {
                Err(error) => last = Some(error),
                Ok(preempting) => {
                    let stopping: Vec<_> = preempting.iter().filter(|p| p.stops).collect();
                    return match summary(&stopping) {
                        Some(what) if self.refuses_preempted => {
                            Err(Reason::Preempted.because(what))
                        }
                        _ => Ok(summary(&preempting).map(|what| Reason::Preempted.because(what))),
                    };
                }
            }
        }
        let cause =
            last.map(|error| format!("what comes before the redirection cannot be told: {error}"));
        Ok(cause.map(|cause| Reason::Preempted.because(cause)))
    }

    /// Rules that are there already are the planned ones, or what an ADD that was killed left of them.
    fn ensure_no_conflict(&self, found: &LiveState<B::Found>) -> Result<(), Explanation> {
        let conflict = |what: &str| {
            let cause = format!(
                "this network namespace already has other rules of ours or Istio's: {what}"
            );
            Err(Reason::ConflictingAttachment.because(cause))
        };
        if let Some(extra) = found.of_routing().iter().find(|d| d.expected.is_none()) {
            return conflict(&extra.to_string());
        }
        let killed = self.earlier.is_some_and(|e| !e.done);
        if killed || self.handling == Handling::Replace || self.live.is_untouched(found) {
            return Ok(());
        }
        summary(found.of_rules()).map_or(Ok(()), |what| conflict(&what))
    }
}
