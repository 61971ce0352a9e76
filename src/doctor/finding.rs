//! What a check says.

use super::cluster::{Seen, Unseen};
use crate::words::words;

words! {
    /// How a check ended.
    pub(super) enum CheckOutcome("outcome of a check") {
        Ok = "ok",
        /// It could be better.
        Advice = "advice",
        /// The cluster does not say.
        Unknown = "unknown",
        /// A right is missing, or there was no answer.
        Skipped = "skipped",
        Warning = "warning",
        Error = "error",
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Finding {
    pub(super) severity: CheckOutcome,
    /// The object.
    pub(super) object: String,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// What a check has found by now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
    pub(super) unseen: Vec<Unseen>,
}

/// Most findings of a check that are listed.
const MOST: usize = 20;

impl Looked {
    /// What was seen; `None` if it was not, and then the reason is kept.
    pub(super) fn see<'a, T>(&mut self, seen: &'a Seen<T>) -> Option<Option<&'a T>> {
        match seen {
            Ok(seen) => Some(seen.as_ref()),
            Err(unseen) => {
                self.unseen(unseen.clone());
                None
            }
        }
    }

    /// The same of a list, which is empty where its kind is not served.
    pub(super) fn list<'a, T>(&mut self, seen: &'a Seen<Vec<T>>) -> Option<&'a [T]> {
        let seen = self.see(seen)?;
        Some(seen.map_or(&[], Vec::as_slice))
    }

    pub(super) fn unseen(&mut self, unseen: Unseen) {
        if !self.unseen.contains(&unseen) {
            self.unseen.push(unseen);
        }
    }

    pub(super) fn not_said(&mut self, what: impl Into<String>) {
        self.unseen(Unseen::NotSaid(what.into()));
    }

    pub(super) fn error(
        &mut self,
        object: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.find(
            CheckOutcome::Error,
            object.into(),
            message.into(),
            remedy.into(),
        );
    }

    pub(super) fn warning(
        &mut self,
        object: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.find(
            CheckOutcome::Warning,
            object.into(),
            message.into(),
            remedy.into(),
        );
    }

    pub(super) fn advice(
        &mut self,
        object: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.find(
            CheckOutcome::Advice,
            object.into(),
            message.into(),
            remedy.into(),
        );
    }

    fn find(&mut self, severity: CheckOutcome, object: String, message: String, remedy: String) {
        self.findings.push(Finding {
            severity,
            object,
            message,
            remedy,
        });
    }

    /// The worst of what was found and not seen.
    pub(super) fn outcome(&self) -> CheckOutcome {
        let found = self.findings.iter().map(|f| f.severity);
        let unseen = self.unseen.iter().map(|unseen| match unseen {
            Unseen::Right(_) | Unseen::Failed(_) => CheckOutcome::Skipped,
            Unseen::NotSaid(_) => CheckOutcome::Unknown,
        });
        found.chain(unseen).max().unwrap_or(CheckOutcome::Ok)
    }

    /// The worst findings, and how many more there are.
    pub(super) fn shown(&self) -> (Vec<&Finding>, usize) {
        let mut all: Vec<_> = self.findings.iter().collect();
        all.sort_by_key(|f| std::cmp::Reverse(f.severity));
        let more = all.len().saturating_sub(MOST);
        all.truncate(MOST);
        (all, more)
    }
}

/// Whether something that the cluster would say was not seen: a right is missing, or there was no answer.
pub(super) fn is_blind(looked: &Looked) -> bool {
    let is_said = |unseen: &Unseen| matches!(unseen, Unseen::NotSaid(_));
    !looked.unseen.iter().all(is_said)
}
