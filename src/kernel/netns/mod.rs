//! Network namespaces: opened once, checked before anything is written, and entered only by threads that do nothing else afterwards.
#![expect(
    unsafe_code,
    reason = "a namespace's type, owner and cookie, and what a child does before its program, have no safe API"
)]

mod thread;

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{AddressFamily, SockFlag, SockType, socket},
        statfs::fstatfs,
    },
};

use super::KernelError;
use crate::reason::{Explanation, Reason};

pub(super) use self::thread::{as_child_of, run_in_new_netns};
use self::thread::{enter, on_thread};

/// `NSFS_MAGIC` of linux/magic.h
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// `NS_GET_NSTYPE` of linux/nsfs.h: `_IO(0xb7, 0x3)`
const NS_GET_NSTYPE: u8 = 0x3;

nix::ioctl_none_bad!(
    /// The `CLONE_NEW*` flag of a namespace's type.
    ns_get_nstype,
    nix::request_code_none!(0xb7, NS_GET_NSTYPE)
);

/// `NS_GET_USERNS` of linux/nsfs.h: `_IO(0xb7, 0x1)`
const NS_GET_USERNS: u8 = 0x1;

nix::ioctl_none_bad!(
    /// The user namespace that owns a namespace.
    ns_get_userns,
    nix::request_code_none!(0xb7, NS_GET_USERNS)
);

/// A network namespace other than the host's.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Opens it and makes sure of what it is: a namespace, of type net, not the host's.
    pub fn open(path: &Path) -> Result<Self, Explanation> {
        let invalid =
            |why: String| Reason::NetnsInvalid.because(format!("CNI_NETNS {path:?} {why}"));
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK) // a FIFO must not hold us up
            .open(path)
            .map_err(|e| invalid(format!("cannot be opened: {e}")))?;
        let filesystem = fstatfs(&file).map_err(|e| invalid(format!("cannot be examined: {e}")))?;
        if filesystem.filesystem_type().0 as i64 != NSFS_MAGIC {
            return Err(invalid("is not a namespace".into()));
        }
        // SAFETY: an ioctl without argument on an open nsfs file; it writes nothing.
        let kind = unsafe { ns_get_nstype(file.as_raw_fd()) }
            .map_err(|e| invalid(format!("cannot be examined: {e}")))?;
        if kind != libc::CLONE_NEWNET {
            return Err(invalid("is a namespace of another type".into()));
        }
        let netns = Self { file };
        netns.ensure_not_the_hosts()?;
        Ok(netns)
    }

    /// Its cookie, read from within.
    pub fn cookie(&self) -> Result<u64, KernelError> {
        self.run(cookie)
    }

    /// Runs `work` in the namespace, on a thread that is never returned to anybody.
    pub fn run<T: Send, E: Send + From<KernelError>>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        on_thread(|| {
            self.enter_for_good()?;
            work()
        })
    }

    /// Makes it this thread's. The thread must never do anything for the host again.
    pub fn enter_for_good(&self) -> Result<(), KernelError> {
        enter(&self.file).map_err(|e| KernelError::Refused {
            doing: "entering the network namespace".into(),
            errno: e,
        })
    }

    /// The user namespace that owns it, where that is not ours: a pod with `hostUsers: false`.
    pub(super) fn foreign_user_namespace(&self) -> Result<Option<OwnedFd>, Errno> {
        // SAFETY: an ioctl without argument on an open nsfs file; it gives a new file descriptor, which nobody else owns.
        let owner =
            File::from(unsafe { OwnedFd::from_raw_fd(ns_get_userns(self.file.as_raw_fd())?) });
        let identity = |m: std::fs::Metadata| (m.dev(), m.ino());
        let of = |metadata: std::io::Result<_>| {
            metadata
                .map(identity)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))
        };
        let foreign = of(owner.metadata())? != of(std::fs::metadata("/proc/thread-self/ns/user"))?;
        Ok(foreign.then(|| owner.into()))
    }

    /// By device and inode, which are unique among the namespaces that live at one time.
    fn ensure_not_the_hosts(&self) -> Result<(), Explanation> {
        let identity = |path: &str| std::fs::metadata(path).map(|m| (m.dev(), m.ino()));
        let ours = identity("/proc/thread-self/ns/net").map_err(|e| {
            Reason::NetnsInvalid.because(format!(
                "cannot tell the host's network namespace: /proc/thread-self/ns/net: {e}"
            ))
        })?;
        let this = self
            .file
            .metadata()
            .map(|m| (m.dev(), m.ino()))
            .map_err(|e| Reason::NetnsInvalid.because(e.to_string()))?;
        // init's may be hidden from us; ours is the host's wherever a runtime calls plugins
        let init = identity("/proc/1/ns/net").ok();
        if this == ours || Some(this) == init {
            Err(Reason::HostNetns.into())
        } else {
            Ok(())
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` in a network namespace that is made for it and ends with it.
pub fn run_in_scratch<T: Send>(
    work: impl FnOnce(&Netns) -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    run_in_new_netns(|| {
        let file = File::open("/proc/thread-self/ns/net");
        let file = file.map_err(|e| KernelError::of_io("opening a network namespace", &e))?;
        work(&Netns { file })
    })
}

/// The cookie of this thread's network namespace: unlike an inode number it never comes again while the kernel runs.
pub fn cookie() -> Result<u64, KernelError> {
    let doing = "reading the network namespace's cookie";
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|e| KernelError::of_errno(doing, e))?;
    let mut cookie = 0u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `size` outlive the call and `size` is the size of `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(cookie),
        Err(errno @ Errno::ENOPROTOOPT) => Err(KernelError::TooOld { doing, errno }),
        Err(errno) => Err(KernelError::of_errno(doing, errno)),
    }
}
