use std::{fs::File, time::Duration};

use nix::fcntl::Flock;

use crate::{
    deadline::Deadline,
    node::{paths, state},
    reason::{Explanation, Reason},
};

/// So many files, never removed.
const LOCKS: u64 = 64;

/// The right to make rules of iptables in the network namespace of this cookie: one at a time, iptables cannot be held to what was read.
pub(super) fn lock(cookie: u64, deadline: Deadline) -> Result<Flock<File>, Explanation> {
    let name = (cookie % LOCKS).to_string();
    loop {
        if let Some(lock) = state::try_lock(paths::LOCKS, &name)? {
            return Ok(lock);
        }
        if deadline.left().is_zero() {
            return Err(
                Reason::DeadlineExceeded.because("another ADD is still making rules of iptables")
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
