//! One deadline over everything that a call does.

use std::time::{Duration, Instant};

/// The moment by which a call must be answered.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// From now on, so long.
    pub fn after(duration: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + duration,
        }
    }

    /// What is left; zero when it has passed.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Half of what is left.
    #[must_use]
    pub fn half(&self) -> Self {
        Self::after(self.left() / 2)
    }

    /// This, or so long from now if less is left: for what must not be left half done.
    #[must_use]
    pub fn or_after(&self, duration: Duration) -> Self {
        if self.left() < duration {
            Self::after(duration)
        } else {
            *self
        }
    }

    /// What has passed since it was set.
    pub fn passed(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long the whole was.
    pub fn whole(&self) -> Duration {
        self.end - self.start
    }
}
