//! Limits look-ups at the API to four at a time: a hundred pods that start at once must not start a hundred TLS clients.

use std::{fs::File, time::Duration};

use nix::fcntl::Flock;

use crate::{
    deadline::{Attempts, Deadline},
    node::{paths, state},
    reason::{Explanation, Reason},
};

const SLOTS: usize = 4;

/// The right to ask; given back when dropped, or when the process ends.
pub(super) struct Slot(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

/// Waits for a slot; `None` where others keep them all until the deadline.
pub(super) async fn take(deadline: Deadline) -> Result<Option<Slot>, Explanation> {
    let (first, longest) = (Duration::from_millis(2), Duration::from_millis(50));
    let mut attempts = Attempts::until(deadline, first, longest);
    loop {
        for slot in 0..SLOTS {
            if let Some(lock) = state::try_lock(paths::SLOTS, &slot.to_string())? {
                return Ok(Some(Slot(lock)));
            }
        }
        let Some(pause) = attempts.pause(Duration::ZERO) else {
            return Ok(None);
        };
        tokio::time::sleep(pause).await;
    }
}

/// What a look-up that got none says.
pub(super) fn all_taken(deadline: Deadline) -> Explanation {
    Reason::DeadlineExceeded.because(format!(
        "other look-ups kept all {SLOTS} slots for {:?}",
        deadline.whole()
    ))
}
