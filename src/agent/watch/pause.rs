//! Pauses between attempts at something that fails.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::delays;

/// Pause after the first failure of a list or a watch. Each further pause is twice as long, up to [`LONGEST_PAUSE`]; the jitter adds up
/// to as much again, so that the nodes of a cluster do not come back together.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A failure after so long without one is the first again: a watch held meanwhile. Longer than any pause, and than a watch lasts.
pub(super) const QUIET: Duration = Duration::from_secs(300);

/// The pauses after failures.
pub(super) struct Pauses {
    next: Box<dyn Iterator<Item = Duration> + Send>,
    failed: Instant,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            next: Box::new(delays(FIRST_PAUSE, LONGEST_PAUSE)),
            failed: Instant::now(),
        }
    }

    /// How long to wait after a failure now.
    pub(super) fn after_failure(&mut self) -> Duration {
        if self.failed.elapsed() > QUIET {
            *self = Self::new();
        }
        self.failed = Instant::now();
        self.next.next().unwrap_or(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_held_for_long_is_opened_again_soon() {
        let mut pauses = Pauses::new();
        for _ in 0..9 {
            pauses.after_failure();
        }
        tokio::time::advance(QUIET).await;
        assert!(pauses.after_failure() >= LONGEST_PAUSE);
        tokio::time::advance(QUIET + Duration::from_secs(1)).await;
        assert!(pauses.after_failure() <= 2 * FIRST_PAUSE);
    }
}
