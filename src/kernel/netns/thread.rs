//! Threads and processes in other namespaces, which are never reused.

use std::{
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
    unistd::{getpid, getppid},
};

use super::super::KernelError;

/// Runs `work` in a network namespace that is made for it and ends with it.
pub(in crate::kernel) fn run_in_new_netns<T: Send>(
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|e| KernelError::of_errno("making a network namespace", e))?;
        work()
    })
}

pub(super) fn on_thread<T: Send, E: Send + From<KernelError>>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(KernelError::of_io("starting a thread", &error).into()),
        }
    })
}

/// Makes a command's process end with this thread and, in a pod's user namespace, be its root: only from there does the kernel take
/// rules on owners from iptables.
pub(in crate::kernel) fn as_child_of(
    command: &mut Command,
    user_namespace: Option<BorrowedFd<'_>>,
) {
    let (user_namespace, parent) = (user_namespace.map(|fd| fd.as_raw_fd()), getpid());
    let prepare = move || {
        if let Some(fd) = user_namespace {
            // SAFETY: system calls only, on a descriptor that the parent keeps open until the child runs its program.
            Errno::result(unsafe { libc::setns(fd, libc::CLONE_NEWUSER) })?;
            // SAFETY: system calls only. Its groups may be none of ours to set: then it keeps them, which gives no right.
            unsafe { libc::setgroups(0, std::ptr::null()) };
            // SAFETY: system calls only.
            Errno::result(unsafe { libc::setresgid(0, 0, 0) })
                .and_then(|_| Errno::result(unsafe { libc::setresuid(0, 0, 0) }))?;
        }
        prctl::set_pdeathsig(Signal::SIGKILL)?; // after a change of user, which forgets it
        let orphan = getppid() != parent; // it ended before that could tell
        if orphan {
            Err(Errno::ESRCH.into())
        } else {
            Ok(())
        }
    };
    // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

#[expect(clippy::disallowed_methods, reason = "the one home of setns")]
pub(super) fn enter(namespace: impl AsFd) -> Result<(), Errno> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
}
