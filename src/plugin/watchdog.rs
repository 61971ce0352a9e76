use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

/// Longest that a call may take before its own deadline is known: reading stdin, opening files.
const AT_MOST: Duration = Duration::from_secs(61);
/// What a wait that knows the deadline may need to say so itself.
const GRACE: Duration = Duration::from_secs(1);

/// Ends the process where a wait that has no deadline (a blocking system call, a lock of the kernel) does not end.
pub(super) struct Watchdog {
    answered: Arc<AtomicBool>,
    within: Sender<Duration>,
}

impl Watchdog {
    /// Starts watching. `give_up` answers the runtime and ends the process.
    pub(super) fn start(give_up: impl FnOnce() + Send + 'static) -> Self {
        let (within, receive) = mpsc::channel();
        let answered = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&answered);
        let watch = move || {
            let mut left = AT_MOST;
            loop {
                match receive.recv_timeout(left) {
                    Ok(deadline) => left = deadline,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if seen.swap(true, Ordering::SeqCst) => return,
                    Err(RecvTimeoutError::Timeout) => return give_up(),
                }
            }
        };
        // without it the waits that know the deadline still hold
        thread::Builder::new().name("watchdog".into()).stack_size(128 << 10).spawn(watch).ok();
        Self { answered, within }
    }

    /// The call's own deadline is known.
    pub(super) fn within(&self, deadline: Duration) {
        self.within.send(deadline + GRACE).ok();
    }

    /// Takes the right to answer. It comes once: where the watchdog has it, the process is about to end.
    pub(super) fn answer(&self) {
        if self.answered.swap(true, Ordering::SeqCst) {
            loop {
                thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_after_the_deadline_unless_there_was_an_answer() {
        let (gave_up, wait) = mpsc::channel();
        let watchdog = Watchdog::start(move || gave_up.send(()).unwrap());
        watchdog.within(Duration::from_millis(10));
        assert_eq!(wait.recv_timeout(GRACE * 5), Ok(()));
        let (gave_up, wait) = mpsc::channel();
        let watchdog = Watchdog::start(move || gave_up.send(()).unwrap());
        watchdog.within(Duration::ZERO);
        watchdog.answer();
        assert_eq!(wait.recv_timeout(GRACE * 2), Err(RecvTimeoutError::Disconnected));
    }
}
