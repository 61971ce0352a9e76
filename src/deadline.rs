//! One deadline for everything that a call does.

use std::time::{Duration, Instant};

/// The moment by which a call must be answered.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// A deadline this long from now.
    pub fn after(duration: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + duration,
        }
    }

    /// The time that is left; zero if the deadline has passed.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// A deadline after half of the time that is left.
    #[must_use]
    pub fn half(&self) -> Self {
        Self::after(self.left() / 2)
    }

    /// This deadline, extended so that at least this much time is left: for work that must not be left half done.
    #[must_use]
    pub fn or_after(&self, duration: Duration) -> Self {
        if self.left() < duration {
            Self::after(duration)
        } else {
            *self
        }
    }

    /// The time that has passed since it was set.
    pub fn passed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The whole duration.
    pub fn whole(&self) -> Duration {
        self.end - self.start
    }
}
