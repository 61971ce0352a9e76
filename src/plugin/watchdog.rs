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
/// What a wait that knows the deadline may need to say so itself, and what undoing takes.
const GRACE: Duration = Duration::from_secs(3);

/// The right to answer the runtime. It comes once, whoever takes it: the call, a panic or the watchdog.
#[derive(Clone, Default)]
pub(super) struct Right(Arc<AtomicBool>);

impl Right {
    /// Takes it; where it is taken, the process is about to end.
    pub(super) fn take(&self) {
        while self.0.swap(true, Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Ends the process where a wait that has no deadline (stdin, a blocking system call, a lock of the kernel) does not end.
pub(super) struct Watchdog(Sender<(Duration, Version)>);

impl Watchdog {
    /// Starts watching. `give_up` answers the runtime in the version that is known and ends the process.
    pub(super) fn start(give_up: impl FnOnce(Version) + Send + 'static) -> Self {
        let (within, receive) = mpsc::channel();
        let watch = move || {
            let (mut left, mut version) = (AT_MOST, Version::V1_1_0);
            loop {
                match receive.recv_timeout(left) {
                    Ok(known) => (left, version) = known,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => return give_up(version),
                }
            }
        };
        // without it the waits that know the deadline still hold
        thread::Builder::new()
            .name("watchdog".into())
            .stack_size(128 << 10)
            .spawn(watch)
            .ok();
        Self(within)
    }

    /// What is left until the call's own deadline, and the version to answer in.
    pub(super) fn within(&self, left: Duration, version: Version) {
        self.0.send((left + GRACE, version)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_after_the_deadline_in_the_version_that_is_known() {
        let (gave_up, wait) = mpsc::channel();
        let watchdog = Watchdog::start(move |version| gave_up.send(version).unwrap());
        watchdog.within(Duration::from_secs(3600), Version::V1_0_0);
        watchdog.within(Duration::ZERO, Version::V0_4_0);
        assert_eq!(wait.recv_timeout(GRACE * 10), Ok(Version::V0_4_0));
    }

    #[test]
    fn the_right_to_answer_comes_once() {
        let right = Right::default();
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
