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
        Self { start, end: start + duration }
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

    /// How long the whole was.
    pub fn whole(&self) -> Duration {
        self.end - self.start
    }
}
