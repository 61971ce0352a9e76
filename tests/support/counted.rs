//! What a call costs, counted: the same number each time, on any machine.
#![expect(unsafe_code, reason = "perf_event_open has no safe API")]

use std::{
    fs::File,
    io::Read,
    os::{fd::FromRawFd, unix::process::CommandExt},
    process::Stdio,
};

use nix::{errno::Errno, libc};

use super::lab::{Call, Node, call_env};

/// A call of the program that the agent has installed, and how many page faults it took, from its start on, of all its threads. Fewer than of
/// one that the linker wrote: what is written at once lies in larger pieces in the page cache.
pub fn page_faults(node: &Node, verb: &str, netns: &str, args: &str, config: &str) -> (Call, u64) {
    let mut counter = PageFaults::of_children();
    let root = node.path("");
    #[allow(
        clippy::disallowed_methods,
        reason = "a runtime calls plugins as processes"
    )]
    let mut command = std::process::Command::new("/opt/cni/bin/mesh-optin");
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .envs(call_env(netns, args));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let enter = move || {
        nix::unistd::chroot(&root)
            .and_then(|()| nix::unistd::chdir("/"))
            .map_err(Into::into)
    };
    // SAFETY: system calls only.
    unsafe { command.pre_exec(enter) };
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.as_bytes()).unwrap();
    let call = Call::of(child.wait_with_output().unwrap());
    (call, counter.read())
}

/// The page faults of this thread's children, each from its exec on.
struct PageFaults(File);

impl PageFaults {
    fn of_children() -> Self {
        /// `struct perf_event_attr` up to `PERF_ATTR_SIZE_VER0`.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            kind: u32,
            size: u32,
            config: u64,
            period: u64,
            sample_type: u64,
            read_format: u64,
            flags: u64,
            more: [u64; 2],
        }
        const SOFTWARE: u32 = 1;
        const PAGE_FAULTS: u64 = 2;
        const DISABLED: u64 = 1;
        const INHERIT: u64 = 1 << 1;
        const ENABLE_ON_EXEC: u64 = 1 << 12;
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: PAGE_FAULTS,
            flags: DISABLED | INHERIT | ENABLE_ON_EXEC,
            ..Attributes::default()
        };
        let (this_thread, any_cpu, no_group, cloexec) = (0, -1, -1, 8);
        // SAFETY: `attributes` outlives the call, and has the size that it says.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_cpu,
                no_group,
                cloexec,
            )
        };
        let fd = Errno::result(fd).expect("page faults are counted as root");
        // SAFETY: a new descriptor, which nobody else owns.
        Self(unsafe { File::from_raw_fd(fd as i32) })
    }

    fn read(&mut self) -> u64 {
        let mut count = [0; 8];
        self.0.read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    }
}

/// A call, and how many instructions the program took for it, of all its threads.
pub fn instructions(node: &Node, verb: &str, netns: &str, args: &str, config: &str) -> (Call, u64) {
    node.install_libraries();
    node.install("/usr/libexec/valgrind", "usr/libexec/valgrind");
    node.install("/usr/bin/valgrind.bin", "valgrind");
    std::fs::create_dir_all(node.path("tmp")).unwrap();
    let mut command = node.command(
        "/valgrind",
        &[
            "--tool=callgrind",
            "--callgrind-out-file=/tmp/callgrind",
            "--log-file=/counted",
            "/mesh-optin",
        ],
    );
    command
        .env("VALGRIND_LIB", "/usr/libexec/valgrind")
        .env("CNI_COMMAND", verb)
        .envs(call_env(netns, args))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.as_bytes()).unwrap();
    let call = Call::of(child.wait_with_output().unwrap());
    let log =
        std::fs::read_to_string(node.path("counted")).unwrap_or_else(|e| panic!("{e}: {call:?}"));
    let count = log
        .lines()
        .find_map(|l| l.split_once("Collected : "))
        .unwrap_or_else(|| panic!("{log} {call:?}"));
    (call, count.1.trim().parse().unwrap())
}
