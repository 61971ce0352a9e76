//! What is known about an ADD so far. When it ends, its outcome is reported to the agent, whatever it is and whichever source answered.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::{
    cni::PodRef,
    deadline::Deadline,
    node::SourceKind,
    reason::Explanation,
    source::{
        Conversation, tell,
        wire::{Outcome, Report},
    },
};

/// The course of an ADD.
pub(super) struct Course {
    pub(super) deadline: Deadline,
    pub(super) pod: Option<PodRef>,
    /// Of the profile that decided.
    pub(super) profile: String,
    pub(super) warnings: Vec<Explanation>,
    source: Option<SourceKind>,
    conversation: Option<Conversation>,
    /// When the look-up had ended.
    looked_up: Option<Duration>,
}

impl Course {
    pub(super) fn new(deadline: Deadline) -> Self {
        Self {
            deadline,
            pod: None,
            profile: String::new(),
            warnings: Vec::new(),
            source: None,
            conversation: None,
            looked_up: None,
        }
    }

    /// Namespace and name of the pod, as far as they are known.
    pub(super) fn pod(&self) -> (&str, &str) {
        self.pod
            .as_ref()
            .map_or(("", ""), |p| (&p.namespace, &p.name))
    }

    /// A source has answered for the pod.
    pub(super) fn note_source(&mut self, by: SourceKind, conversation: Option<Conversation>) {
        (self.source, self.conversation) = (Some(by), conversation);
        self.looked_up = Some(self.deadline.elapsed());
    }

    /// The ADD has ended. Logs its warnings.
    pub(super) fn report(&mut self, end: Result<&Explanation, &Explanation>) {
        let conversation = self.conversation.take();
        let (namespace, name) = self.pod();
        for warning in &self.warnings {
            warn!(
                namespace,
                name,
                reason = warning.reason.as_str(),
                "{warning}"
            );
        }
        let passed = self.deadline.elapsed();
        let look_up = self.looked_up.unwrap_or(passed);
        let report = Report {
            outcome: end.unwrap_or_else(|refusal| refusal).into(),
            refused: end.is_err(),
            warnings: self.warnings.iter().map(Into::into).collect(),
            profile: self.profile.clone(),
            look_up,
            apply: passed.saturating_sub(look_up),
        };
        if conversation.is_some_and(|agent| agent.report(Some(&report))) {
            return;
        }
        tell(Outcome {
            at: Timestamp::now(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: self.pod.as_ref().and_then(|p| p.uid.clone()),
            source: self.source,
            report,
        });
    }
}
