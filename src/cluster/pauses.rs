//! Pauses between attempts at something that keeps failing.

use std::time::Duration;

use tokio::time::Instant;

/// The range of the pause after a failure, which is drawn at random so that the nodes of a cluster do not come back together. Each further
/// failure doubles the range, up to the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest range for a kind that the API server serves, or should.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest range for a kind that it does not serve.
pub(super) const LONGEST_PAUSE_UNSERVED: Duration = Duration::from_secs(300);
/// The shortest pause.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The time without a failure after which the next one counts as the first: a watch has lasted meanwhile. Longer than any pause or watch.
pub(super) const QUIET: Duration = Duration::from_secs(600);

/// Why something is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The API server does not serve the kind.
    Unserved,
    /// Anything else, with the time that the API server asks to wait.
    Failed(Option<Duration>),
}

/// The pauses after failures.
pub(crate) struct Pauses {
    failures: u32,
    failed: Instant,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self {
            failures: 0,
            failed: Instant::now(),
        }
    }

    /// How long to wait after a failure now.
    pub(crate) fn after_failure(&mut self, cause: Cause) -> Duration {
        if self.failed.elapsed() > QUIET {
            self.failures = 0;
        }
        self.failed = Instant::now();
        let (longest, asked) = match cause {
            Cause::Unserved => (LONGEST_PAUSE_UNSERVED, None),
            Cause::Failed(asked) => (LONGEST_PAUSE, asked),
        };
        let most = longest.min(FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(16)));
        self.failures += 1;
        let pause = most.mul_f64(fastrand::f64());
        // what asks all clients to wait gets them back one after the other
        asked.unwrap_or_default().min(longest) + pause.max(SHORTEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Cause = Cause::Failed(None);

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_lasted_is_reopened_soon() {
        let mut pauses = Pauses::new();
        for _ in 0..9 {
            pauses.after_failure(FAILED);
        }
        let most = |pauses: &mut Pauses| (0..50).map(|_| pauses.after_failure(FAILED)).max();
        assert!(most(&mut pauses) > Some(LONGEST_PAUSE / 2));
        tokio::time::advance(QUIET + Duration::from_secs(1)).await;
        assert!(pauses.after_failure(FAILED) <= FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn each_pause_is_drawn_from_twice_the_range_of_the_one_before() {
        let of = |cause: Cause| {
            let mut all = vec![Duration::ZERO; 12];
            for _ in 0..500 {
                let mut pauses = Pauses::new();
                all.iter_mut()
                    .for_each(|sum| *sum += pauses.after_failure(cause));
            }
            all.into_iter()
                .map(|sum| sum.as_secs_f64() / 500.0)
                .collect::<Vec<_>>()
        };
        for (cause, longest) in [
            (FAILED, LONGEST_PAUSE),
            (Cause::Unserved, LONGEST_PAUSE_UNSERVED),
        ] {
            for (n, mean) in of(cause).into_iter().enumerate() {
                let most = longest.min(FIRST_PAUSE * (1 << n)).as_secs_f64();
                assert!(
                    (0.4 * most..0.65 * most).contains(&mean),
                    "{cause:?}: {n}: {mean} of {most}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_the_api_server_asks_to_wait_is_waited_and_no_longer_than_the_longest() {
        for (asked, least) in [(7, 7), (10_000, 60)] {
            let pause =
                Pauses::new().after_failure(Cause::Failed(Some(Duration::from_secs(asked))));
            let least = Duration::from_secs(least);
            assert!(least <= pause && pause <= least + FIRST_PAUSE, "{pause:?}");
        }
    }
}
