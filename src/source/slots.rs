//! At most four look-ups at a time ask the API: a hundred pods that start at once must not grow a hundred TLS clients.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc::O_NOFOLLOW,
};

use crate::{
    deadline::Deadline,
    node::{attachments::private_directory, paths},
    reason::{Explanation, Reason},
};

const SLOTS: usize = 4;

/// The right to ask; given back when dropped, or when the process ends.
pub(super) struct Slot(#[expect(dead_code, reason = "holds the lock")] Flock<std::fs::File>);

/// Waits for a slot.
pub(super) fn take(deadline: Deadline) -> Result<Slot, Explanation> {
    let internal = |what: &str, error: std::io::Error| Reason::Internal.because(format!("{what}: {error}"));
    for directory in [paths::RUN, paths::SLOTS] {
        private_directory(Path::new(directory)).map_err(|e| internal(directory, e))?;
    }
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(2))
        .with_max_delay(Duration::from_millis(50))
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        for slot in 0..SLOTS {
            let path = Path::new(paths::SLOTS).join(slot.to_string());
            let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW).open(&path);
            let file = file.map_err(|e| internal(&path.display().to_string(), e))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Slot(lock)),
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, errno)) => return Err(internal(&path.display().to_string(), errno.into())),
            }
        }
        let delay = delays.next().unwrap_or(Duration::from_millis(50));
        if delay >= deadline.left() {
            return Err(Reason::DeadlineExceeded.because(format!("other look-ups kept all {SLOTS} slots for {:?}", deadline.whole())));
        }
        std::thread::sleep(delay);
    }
}
