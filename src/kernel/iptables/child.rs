//! A child process that ends by the deadline, whatever it does.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child as Process, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, killpg},
    },
    unistd::Pid,
};

use crate::{
    deadline::{Attempts, Deadline},
    kernel::{KernelError, Lacking, Netns, modules, netns::as_child_of},
};

/// Largest output that is read, in bytes.
const LARGEST: usize = 4 << 20;
/// Looked up by iptables' owner match for names that are numbers; what it says could make host services be asked from inside the pod.
const NSSWITCH: &str = "/etc/nsswitch.conf";

/// Where children run: this thread's network namespace, a mount namespace of their own and, where a pod has its own users, theirs.
pub(crate) struct Sandbox {
    user_namespace: Option<OwnedFd>,
}

impl Sandbox {
    /// For this thread, which is in `netns` and ends with its work.
    pub(super) fn of(netns: &Netns) -> Result<Self, KernelError> {
        let user_namespace = netns
            .foreign_user_namespace()
            .map_err(|e| KernelError::of_errno("finding the netns's user namespace", e))?;
        hide_name_services();
        Ok(Self { user_namespace })
    }
}

/// In a mount namespace of this thread's own. Where that cannot be, children run without: numbers are found without any service.
pub(super) fn hide_name_services() {
    if !Path::new(NSSWITCH).exists() {
        return;
    }
    let none = None::<&str>;
    let private = || {
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
    };
    private()
        .and_then(|()| mount(Some("/dev/null"), NSSWITCH, none, MsFlags::MS_BIND, none))
        .ok();
}

/// A program to run.
pub(super) struct Child<'a> {
    pub(super) program: &'a Path,
    pub(super) args: &'a [&'a str],
    pub(super) stdin: &'a str,
    /// Where rules on owners are written from; for reading, any namespace of users will do.
    pub(super) writes_in: Option<&'a Sandbox>,
    pub(super) deadline: Deadline,
}

impl Child<'_> {
    /// Runs it; what it wrote to stdout.
    pub(super) fn output(&self) -> Result<String, KernelError> {
        let users = self
            .writes_in
            .and_then(|s| s.user_namespace.as_ref())
            .map_or("", |_| " in the pod's user namespace");
        let doing = || format!("running {}{users}", self.program.display());
        let mut process = self.spawn().map_err(|e| KernelError::of_io(doing(), &e))?;
        let ended = self.read(&mut process);
        if ended.is_err() {
            // it, and what it may have started
            killpg(Pid::from_raw(process.id().cast_signed()), Signal::SIGKILL).ok();
            process.wait().ok();
        }
        let (status, stdout, stderr) =
            ended.map_err(|errno| KernelError::of_errno(doing(), errno))?;
        if status.success() {
            return Ok(stdout);
        }
        Err(self.failure(status, &stderr))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that starts programs: iptables is one"
    )]
    fn spawn(&self) -> std::io::Result<Process> {
        let mut stdin = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
        stdin.write_all(self.stdin.as_bytes())?;
        stdin.rewind()?;
        let mut command = Command::new(self.program);
        command.args(self.args).env_clear().process_group(0);
        // a lock of this namespace's own, from iptables 1.8.6 on: the host's is held by others, and is not ours to hold
        command.env("XTABLES_LOCKFILE", "/proc/self/ns/net");
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        as_child_of(
            &mut command,
            self.writes_in
                .and_then(|s| s.user_namespace.as_ref())
                .map(AsFd::as_fd),
        );
        command.spawn()
    }

    /// All that it writes, until it ends. ETIMEDOUT when the deadline has passed, or comes before the next look.
    fn read(&self, process: &mut Process) -> Result<(ExitStatus, String, String), Errno> {
        let (mut stdout, mut stderr) = (process.stdout.take(), process.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let open: Vec<_> = [
                stdout.as_ref().map(AsFd::as_fd),
                stderr.as_ref().map(AsFd::as_fd),
            ]
            .into_iter()
            .flatten()
            .collect();
            if open.is_empty() {
                break;
            }
            let mut polled: Vec<_> = open
                .into_iter()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            let left = self.deadline.left();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, timeout) {
                Ok(0) if left.is_zero() || self.deadline.left().is_zero() => {
                    return Err(Errno::ETIMEDOUT);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let ready: Vec<_> = polled.iter().map(|p| p.any().unwrap_or(true)).collect();
            let mut ready = ready.into_iter();
            if stdout.is_some() && ready.next() == Some(true) && !more(&mut stdout, &mut out)? {
                stdout = None;
            }
            if stderr.is_some() && ready.next() == Some(true) && !more(&mut stderr, &mut err)? {
                stderr = None;
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        // it has closed its output: it is about to end
        let (first, longest) = (Duration::from_micros(200), Duration::from_millis(10));
        let ended = Attempts::until(self.deadline, first, longest).wait_for(|| process.try_wait());
        let ended = ended.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))?;
        Ok((ended.ok_or(Errno::ETIMEDOUT)?, text(out), text(err)))
    }

    fn failure(&self, status: ExitStatus, stderr: &str) -> KernelError {
        // iptables-nft begins with its name and version
        let lines = stderr
            .lines()
            .map(|l| {
                l.split_once("(nf_tables): ")
                    .map_or(l, |(_, said)| said)
                    .trim()
            })
            .filter(|l| !l.is_empty());
        let said = lines.take(2).collect::<Vec<_>>().join("; ");
        let failed = || self.stdin.lines().nth(line_number(stderr)?.checked_sub(1)?);
        // a chain is there since it was looked for; the legacy program says no more than the line
        if said.contains("already exists")
            || said.contains("File exists")
            || failed().is_some_and(|line| line.starts_with("-N "))
        {
            return KernelError::Conflict;
        }
        let at = failed()
            .map(|line| format!(" at {line:?}"))
            .unwrap_or_default();
        let doing = format!("{}{at} ({status})", self.program.display());
        let (what, lower) = (
            if said.is_empty() {
                "it says nothing".to_owned()
            } else {
                said
            },
            stderr.to_lowercase(),
        );
        const LACKING: [&str; 9] = [
            "no chain/target/match by that name",
            "does not exist",
            "missing kernel module",
            "couldn't load",
            "no such file or directory",
            "not supported",
            "can't initialize",
            "failed to initialize",
            "unknown option",
        ];
        if lower.contains("xtables lock") {
            KernelError::Timeout {
                doing: format!("{doing}: {what}"),
            }
        } else {
            let is_lacking = LACKING.iter().any(|l| lower.contains(l));
            let lacking = is_lacking.then(|| {
                // the legacy program fails at the end of a table, and names what it misses
                let words = || stderr.split(|c: char| !c.is_ascii_alphanumeric());
                let module = failed().and_then(modules::of_iptables);
                let module = module.or_else(|| words().find_map(modules::of_extension));
                module.map_or(Lacking::Something, Lacking::Module)
            });
            KernelError::Tool {
                doing,
                what,
                lacking,
            }
        }
    }
}

/// Reads what there is; whether there may be more.
fn more(from: &mut Option<impl Read>, into: &mut Vec<u8>) -> Result<bool, Errno> {
    let mut buffer = [0; 16 << 10];
    let read = from
        .as_mut()
        .map_or(Ok(0), |f| f.read(&mut buffer))
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))?;
    into.extend_from_slice(&buffer[..read]);
    if into.len() > LARGEST {
        Err(Errno::EMSGSIZE)
    } else {
        Ok(read > 0)
    }
}

/// The line of the input that a restore complains about: `line 12 failed`, `line 12: RULE_APPEND failed`.
fn line_number(stderr: &str) -> Option<usize> {
    let after = &stderr[stderr.find("line ")? + "line ".len()..];
    after
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}
