//! Pauses after failures that follow one another. Pure but for chance.

use std::time::{Duration, Instant};

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause where the cluster does not have a kind: with the kind come pods that wait for it.
pub(super) const LONGEST_UNSERVED: Duration = Duration::from_secs(5);
/// The time without a failure after which the next one counts as the first: a watch on which nothing happened has lasted meanwhile. Longer
/// than any pause and the connecting that follows it.
const QUIET: Duration = Duration::from_secs(60);

/// The pauses after failures.
pub(super) struct Pauses {
    next: Duration,
    /// When the last failure was, if nothing has succeeded since.
    failed: Option<Instant>,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            next: FIRST,
            failed: None,
        }
    }

    /// How long to wait after a failure at this time, and whether it is the first.
    pub(super) fn after_failure(&mut self, now: Instant, longest: Duration) -> (Duration, bool) {
        let before = self.failed.replace(now);
        let is_first = before.is_none_or(|before| now.duration_since(before) > QUIET);
        if is_first {
            self.next = FIRST;
        }
        let pause = self.next.min(longest);
        self.next = (self.next * 2).min(LONGEST);
        (pause.mul_f64(0.5 + fastrand::f64()), is_first)
    }

    /// Records a success; whether it follows failures.
    pub(super) fn succeeded(&mut self) -> bool {
        self.next = FIRST;
        self.failed.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last of this number of pauses; each failure comes as soon as the pause before is over.
    fn after(pauses: &mut Pauses, now: &mut Instant, failures: u32, longest: Duration) -> Duration {
        let mut last = Duration::ZERO;
        for _ in 0..failures {
            last = pauses.after_failure(*now, longest).0;
            *now += last;
        }
        last
    }

    #[test]
    fn pauses_grow_to_the_longest_and_a_success_starts_them_again() {
        let (mut pauses, mut now) = (Pauses::new(), Instant::now());
        assert!(pauses.after_failure(now, LONGEST).1);
        assert!(!pauses.after_failure(now, LONGEST).1);
        let last = after(&mut pauses, &mut now, 20, LONGEST);
        assert!(last >= LONGEST / 2 && last <= LONGEST * 3 / 2, "{last:?}");
        let last = after(&mut pauses, &mut now, 1, LONGEST_UNSERVED);
        assert!(last <= LONGEST_UNSERVED * 3 / 2, "{last:?}");
        assert!(pauses.succeeded() && !pauses.succeeded());
        let (pause, is_first) = pauses.after_failure(now, LONGEST);
        assert!(is_first && pause <= FIRST * 3 / 2, "{pause:?}");
    }

    #[test]
    fn after_a_watch_on_which_nothing_happened_a_failure_counts_as_the_first() {
        let (mut pauses, now) = (Pauses::new(), Instant::now());
        for _ in 0..20 {
            pauses.after_failure(now, LONGEST);
        }
        let (pause, is_first) = pauses.after_failure(now + QUIET, LONGEST);
        assert!(!is_first && pause >= LONGEST / 2, "{pause:?}");
        let later = now + QUIET * 2 + Duration::from_millis(1);
        let (pause, is_first) = pauses.after_failure(later, LONGEST);
        assert!(is_first && pause <= FIRST * 3 / 2, "{pause:?}");
    }
}
