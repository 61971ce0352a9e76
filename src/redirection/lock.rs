use std::{fs::File, time::Duration};

use nix::fcntl::Flock;

use crate::{
    deadline::{Attempts, Deadline},
    node::{paths, state},
    reason::{Explanation, Reason},
};

/// The number of lock files; they are never removed.
const LOCKS: u64 = 64;

/// The right to change the redirection of the network namespace of this cookie, and its record: one at a time.
pub(super) fn lock(cookie: u64, deadline: Deadline) -> Result<Flock<File>, Explanation> {
    let (first, longest) = (Duration::from_millis(2), Duration::from_millis(20));
    let locked = Attempts::until(deadline, first, longest).wait_for(|| try_lock(cookie))?;
    locked.ok_or_else(|| {
        Reason::DeadlineExceeded.because("another ADD is still at work in this network namespace")
    })
}

/// The same at once, or not at all.
pub fn lock_if_free(cookie: u64) -> Option<Flock<File>> {
    try_lock(cookie).ok().flatten()
}

fn try_lock(cookie: u64) -> Result<Option<Flock<File>>, Explanation> {
    state::try_lock(paths::LOCKS, &(cookie % LOCKS).to_string())
}
