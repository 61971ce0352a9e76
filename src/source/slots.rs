//! At most four look-ups at a time ask the API: a hundred pods that start at once must not grow a hundred TLS clients.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, time::Duration};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc::O_NOFOLLOW,
};

use super::delays;
use crate::{
    deadline::Deadline,
    node::{paths, state},
    reason::{Explanation, Reason},
};

const SLOTS: usize = 4;

/// The right to ask; given back when dropped, or when the process ends.
pub(super) struct Slot(#[expect(dead_code, reason = "holds the lock")] Flock<std::fs::File>);

/// Waits for a slot.
pub(super) async fn take(deadline: Deadline) -> Result<Slot, Explanation> {
    let directory = state::directory(paths::SLOTS)?;
    let mut delays = delays(Duration::from_millis(2), Duration::from_millis(50));
    loop {
        for slot in 0..SLOTS {
            let path = directory.join(slot.to_string());
            let internal = |error: std::io::Error| Reason::Internal.because(format!("{}: {error}", path.display()));
            let mut options = OpenOptions::new();
            let file = options.create(true).write(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW).open(&path);
            match Flock::lock(file.map_err(internal)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Slot(lock)),
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, errno)) => return Err(internal(errno.into())),
            }
        }
        let delay = delays.next().unwrap_or_default();
        if delay >= deadline.left() {
            return Err(Reason::DeadlineExceeded.because(format!("other look-ups kept all {SLOTS} slots for {:?}", deadline.whole())));
        }
        tokio::time::sleep(delay).await;
    }
}
