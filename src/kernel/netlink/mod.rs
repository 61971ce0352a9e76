//! Netlink sockets. Every wait ends at the deadline, and so does reading a long dump.

pub(super) mod nla;

use std::os::fd::AsFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    libc::MSG_DONTWAIT,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::deadline::Deadline;

/// `NLM_F_*` of linux/netlink.h.
pub(super) mod flag {
    pub(super) const REQUEST: u16 = 0x1;
    pub(in crate::kernel) const ACK: u16 = 0x4;
    /// The dump is inconsistent.
    pub(super) const DUMP_INTR: u16 = 0x10;
    pub(in crate::kernel) const DUMP: u16 = 0x300;
    pub(in crate::kernel) const EXCL: u16 = 0x200;
    pub(in crate::kernel) const CREATE: u16 = 0x400;
    pub(in crate::kernel) const APPEND: u16 = 0x800;
}
/// `NLMSG_ERROR` and `NLMSG_DONE` of linux/netlink.h.
pub(super) const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// What stands for a dump that another change made inconsistent.
pub(super) const INCONSISTENT: Errno = Errno::ERESTART;
/// Most objects, and most bytes, that are read of a dump: what others have put into a namespace costs neither memory nor time beyond it.
/// The largest plan has a tenth of each.
const MOST_OBJECTS: usize = 2048;
const MOST_BYTES: usize = 512 << 10;
/// The kernel's largest dump message is 32 KiB.
const BUFFER: usize = 64 << 10;
/// `struct nlmsghdr`
const HEADER: usize = 16;

/// A socket of one of netlink's families.
pub(super) struct Netlink {
    socket: Socket,
    protocol: isize,
    deadline: Deadline,
    sequence: u32,
    buffer: Vec<u8>,
}

/// How much of a dump was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Extent {
    Whole,
    /// There is more than is ever read.
    Cut,
}

impl Netlink {
    /// Opens one in this thread's network namespace.
    pub(super) fn open(protocol: isize, deadline: Deadline) -> Result<Self, Errno> {
        Ok(Self {
            socket: connect(protocol)?,
            protocol,
            deadline,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// The number of the last message of what is sent next.
    pub(super) fn set_sequence(&mut self, last: u32) {
        self.sequence = last;
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.socket
            .send(bytes, 0)
            .map(|_| ())
            .map_err(|e| errno(&e))
    }

    /// The messages of the next datagram.
    pub(super) fn messages(&mut self) -> Result<Messages<'_>, Errno> {
        self.receive()?;
        Ok(Messages(&self.buffer))
    }

    /// Sends a message that was made with the last sequence number, and gives each message of the answer, up to what is ever read.
    pub(super) fn request(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(&Message<'_>),
    ) -> Result<Extent, Errno> {
        let sequence = self.sequence;
        self.send(bytes)?;
        let (mut objects, mut read, mut is_consistent) = (0, 0, true);
        loop {
            self.receive()?;
            read += self.buffer.len();
            for message in Messages(&self.buffer) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                is_consistent &= message.flags & flag::DUMP_INTR == 0;
                if let NLMSG_ERROR | NLMSG_DONE = message.kind {
                    return match message.error() {
                        Some(errno) => Err(errno),
                        None if is_consistent => Ok(Extent::Whole),
                        None => Err(INCONSISTENT),
                    };
                }
                objects += 1;
                if objects <= MOST_OBJECTS {
                    each(&message);
                }
            }
            if objects > MOST_OBJECTS || read > MOST_BYTES {
                // the rest would come first on this one
                self.socket = connect(self.protocol)?;
                return Ok(Extent::Cut);
            }
        }
    }

    /// The next datagram, into the buffer. ETIMEDOUT when the deadline has passed, also where nothing has to be waited for.
    fn receive(&mut self) -> Result<(), Errno> {
        loop {
            if self.deadline.left().is_zero() {
                return Err(Errno::ETIMEDOUT);
            }
            self.buffer.clear();
            // what was asked is mostly answered by now
            match self
                .socket
                .recv(&mut self.buffer, MSG_DONTWAIT)
                .map_err(|e| errno(&e))
            {
                Err(Errno::EAGAIN) => self.wait()?,
                Err(Errno::EINTR) => {}
                other => return other.map(|_| ()),
            }
        }
    }

    /// Until there is something to receive, or the deadline has passed.
    fn wait(&self) -> Result<(), Errno> {
        let left = self.deadline.left();
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn connect(protocol: isize) -> Result<Socket, Errno> {
    let open = || {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        if protocol == NETLINK_ROUTE {
            // the filters of a dump are carried out, or refused
            socket.set_netlink_get_strict_chk(true)?;
        }
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(socket)
    };
    open().map_err(|e: std::io::Error| errno(&e))
}

/// A netlink message.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of a datagram.
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self(rest) = *self;
        let header = match rest.first_chunk::<HEADER>() {
            Some(header) => header,
            None if rest.is_empty() => return None,
            None => {
                *self = Self(&[]);
                return Some(Err(Errno::EBADMSG));
            }
        };
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = u32_at(0) as usize;
        let payload = rest.get(HEADER..length).ok_or(Errno::EBADMSG);
        *self = Self(
            rest.get(length.next_multiple_of(4)..)
                .filter(|_| payload.is_ok())
                .unwrap_or_default(),
        );
        Some(payload.map(|payload| Message {
            kind: u16_at(4),
            flags: u16_at(6),
            sequence: u32_at(8),
            payload,
        }))
    }
}

impl Message<'_> {
    /// Of an acknowledgement or the end of a dump: what failed.
    pub(super) fn error(&self) -> Option<Errno> {
        let code = self
            .payload
            .first_chunk()
            .map(|code| i32::from_ne_bytes(*code));
        code.filter(|code| *code != 0)
            .map(|code| Errno::from_raw(-code))
    }
}

/// A request of one message.
pub(super) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    let write = |into: &mut Vec<u8>| into.extend_from_slice(payload);
    append(&mut bytes, kind, flags, sequence, write);
    bytes
}

/// Appends a message to others that are sent with it.
pub(super) fn append(
    into: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(&(flag::REQUEST | flags).to_ne_bytes());
    into.extend_from_slice(&sequence.to_ne_bytes());
    into.extend_from_slice(&[0; 4]);
    payload(into);
    let length = u32::try_from(into.len() - start).unwrap_or(u32::MAX);
    into[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Adds flags to the message that these bytes start with.
pub(super) fn add_flags(message: &mut [u8], flags: u16) {
    let all = flags | u16::from_ne_bytes([message[6], message[7]]);
    message[6..8].copy_from_slice(&all.to_ne_bytes());
}

fn errno(error: &std::io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}
