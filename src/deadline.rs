//! One deadline for everything that a call does, and the pauses between attempts until then.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

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
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The whole duration.
    pub fn whole(&self) -> Duration {
        self.end - self.start
    }
}

/// Attempts at something until a deadline.
#[derive(Debug)]
pub(crate) struct Attempts {
    pauses: ExponentialBackoff,
    deadline: Deadline,
}

impl Attempts {
    /// Attempts whose pauses grow from the first to the longest, and are not the same for everybody.
    pub(crate) fn until(deadline: Deadline, first: Duration, longest: Duration) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times()
            .build();
        Self { pauses, deadline }
    }

    /// The pause before the next attempt; `None` where the deadline comes first.
    pub(crate) fn pause(&mut self, at_least: Duration) -> Option<Duration> {
        let pause = self.pauses.next().unwrap_or_default().max(at_least);
        (pause < self.deadline.left()).then_some(pause)
    }

    /// Looks until something is there; `None` where the deadline comes before the next look.
    pub(crate) fn wait_for<T, E>(
        mut self,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        loop {
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            let Some(pause) = self.pause(Duration::ZERO) else {
                return Ok(None);
            };
            std::thread::sleep(pause);
        }
    }

    /// Asks until there is an answer. `again` returns how long to wait before asking again about a failure after so much time, or `None`
    /// where that cannot help. The last failure counts where there is no time left; `None` where there was none.
    pub(crate) async fn make<T, E, Asking: Future<Output = Result<T, E>>>(
        mut self,
        ask: impl Fn() -> Asking,
        again: impl Fn(&E, Duration) -> Option<Duration>,
    ) -> Result<T, Option<E>> {
        let mut last = None;
        loop {
            let waited = self.deadline.elapsed();
            let failure = match tokio::time::timeout(self.deadline.left(), ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_elapsed) => return Err(last),
            };
            let Some(at_least) = again(&failure, waited) else {
                return Err(Some(failure));
            };
            let Some(pause) = self.pause(at_least) else {
                return Err(Some(failure));
            };
            last = Some(failure);
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Longer than any machine takes for what can be done at once.
    const LONG: Duration = Duration::from_secs(60);

    fn attempts(within: Duration) -> Attempts {
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(40));
        Attempts::until(Deadline::after(within), first, longest)
    }

    /// What comes of attempts that answer these in turn, then nothing, and how many there were.
    async fn made(answers: &[Result<(), u8>]) -> (Result<(), Option<u8>>, usize) {
        let count = Cell::new(0);
        let ask = async || {
            let answer = answers.get(count.replace(count.get() + 1)).copied();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        let can_pass = |failure: &u8, _| (*failure < 9).then_some(Duration::ZERO);
        let result = attempts(LONG).make(ask, can_pass).await;
        (result, count.get())
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_with_an_answer_a_lasting_failure_or_the_deadline() {
        assert_eq!(made(&[Err(1), Err(2), Ok(())]).await, (Ok(()), 3));
        assert_eq!(made(&[Err(1), Err(9), Ok(())]).await, (Err(Some(9)), 2));
        assert_eq!(made(&[Err(1), Err(2)]).await, (Err(Some(2)), 3));
        assert_eq!(made(&[]).await, (Err(None), 1));
    }

    #[test]
    fn waiting_ends_with_what_is_there_an_error_or_the_deadline() {
        let found_after = |count: u32, then: Result<u8, u8>, within| {
            let mut looks = 0;
            attempts(within).wait_for(|| {
                looks += 1;
                (looks > count).then_some(then).transpose()
            })
        };
        assert_eq!(found_after(2, Ok(7), LONG), Ok(Some(7)));
        assert_eq!(found_after(2, Err(9), LONG), Err(9));
        let short = Duration::from_millis(300);
        assert_eq!(found_after(1000, Ok(7), short), Ok(None));
    }

    #[test]
    fn a_pause_grows_up_to_the_longest_and_ends_before_the_deadline() {
        let mut attempts = attempts(Duration::from_millis(300));
        let pauses: Vec<_> = (0..50)
            .filter_map(|_| attempts.pause(Duration::ZERO))
            .collect();
        assert_eq!(pauses.len(), 50);
        // up to as much again is added at random
        assert!(
            pauses
                .iter()
                .all(|p| *p >= Duration::from_millis(10) && *p <= Duration::from_millis(80))
        );
        assert!(pauses[10..].iter().all(|p| *p >= Duration::from_millis(40)));
        assert_eq!(attempts.pause(Duration::from_secs(1)), None);
    }
}
