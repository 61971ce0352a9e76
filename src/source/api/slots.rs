//! At most four look-ups at a time ask the API: a hundred pods that start at once must not grow a hundred TLS clients.

use std::{fs::File, time::Duration};

use nix::fcntl::Flock;

use super::super::delays;
use crate::{
    deadline::Deadline,
    node::{paths, state},
    reason::{Explanation, Reason},
};

const SLOTS: usize = 4;

/// The right to ask; given back when dropped, or when the process ends.
pub(super) struct Slot(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

/// Waits for a slot.
pub(super) async fn take(deadline: Deadline) -> Result<Slot, Explanation> {
    let mut delays = delays(Duration::from_millis(2), Duration::from_millis(50));
    loop {
        for slot in 0..SLOTS {
            if let Some(lock) = state::try_lock(paths::SLOTS, &slot.to_string())? {
                return Ok(Slot(lock));
            }
        }
        let delay = delays.next().unwrap_or_default();
        if delay >= deadline.left() {
            return Err(Reason::DeadlineExceeded.because(format!(
                "other look-ups kept all {SLOTS} slots for {:?}",
                deadline.whole()
            )));
        }
        tokio::time::sleep(delay).await;
    }
}
