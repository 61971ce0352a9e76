//! The last outcomes of ADDs, for `explain`.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::source::wire::Outcome;

/// The last outcomes.
#[derive(Default)]
pub(super) struct Outcomes(Mutex<VecDeque<Outcome>>);

/// Most outcomes that are remembered: enough for the pods of most nodes.
const REMEMBERED: usize = 512;
/// Most outcomes of one pod in an answer.
const MOST_ANSWERED: usize = 4;

impl Outcomes {
    /// The outcomes of a pod, the latest last.
    pub(super) fn of(&self, uid: &str) -> Vec<Outcome> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pod = all.iter().rev().filter(|o| o.uid.as_deref() == Some(uid));
        let mut last: Vec<_> = of_pod.take(MOST_ANSWERED).cloned().collect();
        last.reverse();
        last
    }

    pub(super) fn remember(&self, outcome: Outcome) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.pop_front();
        }
        all.push_back(outcome);
    }
}
