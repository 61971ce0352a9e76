use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use crate::cni::Version;

/// Longest that a call may take before its own deadline is known: reading the node's configuration.
const AT_MOST: Duration = Duration::from_secs(61);
/// The extra time for a wait that knows the deadline to report it itself, and for undoing.
const GRACE: Duration = Duration::from_secs(3);

/// The right to answer the runtime, which only one of call, panic and watchdog gets.
#[derive(Clone, Default)]
pub(super) struct AnswerOnce(Arc<AtomicBool>);

impl AnswerOnce {
    /// Takes it, or waits for the process to end if another thread has it.
    pub(super) fn take(&self) {
        while !self.try_take() {
            thread::park();
        }
    }

    /// Takes it, unless it is taken.
    pub(super) fn try_take(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }
}

/// What a call tells the thread that watches it.
enum Progress<T> {
    /// How long is left until its own deadline, and the version to answer in.
    Within(Duration, Version),
    Done(T),
}

/// Watches a call.
pub(super) struct Watchdog<T>(Sender<Progress<T>>);

impl<T> Watchdog<T> {
    /// What is left until the call's own deadline, and the version to answer in.
    pub(super) fn set_deadline(&self, left: Duration, version: Version) {
        self.0.send(Progress::Within(left, version)).ok();
    }
}

/// Runs `call` on a thread of its own, which may enter another network namespace for good, and returns its result. If a wait without a deadline
/// (stdin, a blocking system call, a kernel lock) does not end, `give_up` answers the runtime instead, unless the call is already answering:
/// then it gets a little more time. `None`: no thread could be started, or the call did not end.
pub(super) fn run_watched<T: Send + 'static>(
    call: impl FnOnce(&Watchdog<T>) -> T + Send + 'static,
    mut give_up: impl FnMut(Version) -> Option<T>,
) -> Option<T> {
    let (say, hear) = mpsc::channel();
    let call = move || {
        let watchdog = Watchdog(say);
        let done = call(&watchdog);
        watchdog.0.send(Progress::Done(done)).ok();
    };
    thread::Builder::new().spawn(call).ok()?;
    let (mut left, mut version, mut is_late) = (AT_MOST, Version::V1_1_0, false);
    loop {
        match hear.recv_timeout(left) {
            Ok(Progress::Within(known, of)) => (left, version) = (known + GRACE, of),
            Ok(Progress::Done(done)) => return Some(done),
            // it cannot end without a word: a panic ends the process
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if is_late => return None,
            Err(RecvTimeoutError::Timeout) => match give_up(version) {
                Some(answered) => return Some(answered),
                None => (left, is_late) = (GRACE, true),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_deadline_it_answers_in_the_version_of_the_call() {
        let hangs = |watchdog: &Watchdog<Option<Version>>| {
            watchdog.set_deadline(Duration::from_secs(3600), Version::V1_0_0);
            watchdog.set_deadline(Duration::ZERO, Version::V0_4_0);
            thread::sleep(GRACE * 10);
            None
        };
        let give_up = |version| Some(Some(version));
        assert_eq!(run_watched(hangs, give_up), Some(Some(Version::V0_4_0)));
    }

    #[test]
    fn a_call_that_is_answering_gets_more_time_but_not_without_end() {
        let (late, wait) = mpsc::channel();
        let answers = move |watchdog: &Watchdog<u8>| {
            watchdog.set_deadline(Duration::ZERO, Version::V1_0_0);
            wait.recv().map_or(0, |()| 7)
        };
        let give_up = |_| {
            late.send(()).unwrap();
            None
        };
        assert_eq!(run_watched(answers, give_up), Some(7));
        let never_answers = |watchdog: &Watchdog<u8>| {
            watchdog.set_deadline(Duration::ZERO, Version::V1_0_0);
            thread::sleep(GRACE * 10);
            7
        };
        assert_eq!(run_watched(never_answers, |_| None), None);
    }

    #[test]
    fn a_call_that_ends_returns_its_result() {
        let ends = |watchdog: &Watchdog<u8>| {
            watchdog.set_deadline(Duration::ZERO, Version::V1_0_0);
            7
        };
        assert_eq!(run_watched(ends, |_| Some(0)), Some(7));
    }

    #[test]
    fn only_one_thread_gets_the_right_to_answer() {
        let right = AnswerOnce::default();
        right.take();
        let (took, wait) = mpsc::channel();
        thread::spawn(move || {
            right.take();
            took.send(()).unwrap();
        });
        assert_eq!(
            wait.recv_timeout(Duration::from_millis(100)),
            Err(RecvTimeoutError::Timeout)
        );
    }
}
