use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::NfTablesMessage,
};
use netlink_sys::{Socket as Netlink, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::{
    errno::Errno,
    libc::MSG_DONTWAIT,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{nla::Attributes, uapi::SUBSYSTEM};
use crate::{deadline::Deadline, kernel::KernelError};

/// `NLM_F_DUMP_INTR` of linux/netlink.h: the dump is inconsistent.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLMSG_ERROR` and `NLMSG_DONE` of linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// What stands for a dump that another change made inconsistent.
const INCONSISTENT: Errno = Errno::ERESTART;
/// Most objects, and most bytes, that are read of a dump: what others have put into a namespace costs neither memory nor time beyond it.
/// The largest plan has a tenth of each.
const MOST_OBJECTS: usize = 2048;
const MOST_BYTES: usize = 512 << 10;
/// The kernel's largest dump message is 32 KiB.
const BUFFER: usize = 64 << 10;

/// A nf_tables netlink socket whose every wait, and every read of much, ends at the deadline.
pub(super) struct Socket {
    netlink: Netlink,
    deadline: Deadline,
    sequence: u32,
    buffer: Vec<u8>,
}

/// An object of nf_tables: a table, a chain, a rule.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    /// `NFPROTO_*`
    pub(super) family: u8,
    /// One of [`super::uapi::object`].
    pub(super) kind: u8,
    pub(super) attributes: Attributes<'a>,
}

/// How much of a dump was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Extent {
    Whole,
    /// There is more than is ever read.
    Cut,
}

impl Socket {
    pub(super) fn open(deadline: Deadline) -> Result<Self, KernelError> {
        Ok(Self {
            netlink: connect()?,
            deadline,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Sends a batch whose messages have the sequence numbers `first..=last`. Only the last asks for an acknowledgement; an error comes by
    /// itself, with its message's number.
    pub(super) fn transact(
        &mut self,
        batch: &[u8],
        first: u32,
        last: u32,
    ) -> Result<(), (u32, Errno)> {
        self.sequence = last;
        self.netlink
            .send(batch, 0)
            .map_err(|e| (first, errno(&e)))?;
        loop {
            self.receive().map_err(|e| (first, e))?;
            for message in Messages(&self.buffer) {
                let message = message.map_err(|e| (first, e))?;
                if message.kind == NLMSG_ERROR {
                    match message.error() {
                        Some(errno) => return Err((message.sequence, errno)),
                        None if message.sequence == last => return Ok(()),
                        None => {}
                    }
                }
            }
        }
    }

    /// Asks for one object and gives what is read of it; `None` if there is none.
    pub(super) fn get<T>(
        &mut self,
        doing: &'static str,
        request: NfTablesMessage,
        read: impl Fn(Object<'_>) -> Option<T>,
    ) -> Result<Option<T>, KernelError> {
        let mut found = None;
        let each = &mut |object: Object<'_>| found = found.take().or_else(|| read(object));
        match self.request(NetfilterProtoFamily::Inet, request, NLM_F_ACK, each) {
            Ok(_) => Ok(found),
            // EINVAL is what nfnetlink answers for a subsystem that nobody registered: a transaction will say so as well
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(KernelError::of_errno(doing, errno)),
        }
    }

    /// Asks for all objects of a kind, of one family or all (`Unspec`), up to what is ever read.
    pub(super) fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        doing: &'static str,
        request: NfTablesMessage,
        each: &mut dyn FnMut(Object<'_>),
    ) -> Result<Extent, KernelError> {
        match self.request(family, request, NLM_F_DUMP, each) {
            Ok(extent) => Ok(extent),
            Err(Errno::EINVAL) => Ok(Extent::Whole), // as above
            Err(INCONSISTENT) => Err(KernelError::Changing),
            Err(errno) => Err(KernelError::of_errno(doing, errno)),
        }
    }

    fn request(
        &mut self,
        family: NetfilterProtoFamily,
        request: NfTablesMessage,
        flags: u16,
        each: &mut dyn FnMut(Object<'_>),
    ) -> Result<Extent, Errno> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        push(&mut bytes, family, 0, request.into(), flags, sequence);
        self.netlink.send(&bytes, 0).map_err(|e| errno(&e))?;
        let (mut objects, mut read, mut is_consistent) = (0, 0, true);
        loop {
            self.receive()?;
            read += self.buffer.len();
            for message in Messages(&self.buffer) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                is_consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                if let NLMSG_ERROR | NLMSG_DONE = message.kind {
                    return match message.error() {
                        Some(errno) => Err(errno),
                        None if is_consistent => Ok(Extent::Whole),
                        None => Err(INCONSISTENT),
                    };
                }
                objects += 1;
                if let Some(object) = message.object().filter(|_| objects <= MOST_OBJECTS) {
                    each(object);
                }
            }
            if objects > MOST_OBJECTS || read > MOST_BYTES {
                // the rest would come first on this one
                self.netlink = connect().map_err(|_refused| Errno::ENOBUFS)?;
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
                .netlink
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
        let mut polled = [PollFd::new(self.netlink.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn connect() -> Result<Netlink, KernelError> {
    let error =
        |e: std::io::Error| KernelError::of_nf_tables("opening a nf_tables socket", errno(&e));
    let mut netlink = Netlink::new(NETLINK_NETFILTER).map_err(error)?;
    netlink.bind_auto().map_err(error)?;
    netlink.connect(&SocketAddr::new(0, 0)).map_err(error)?;
    Ok(netlink)
}

/// A netlink message.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        /// `struct nlmsghdr`
        const HEADER: usize = 16;
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

impl<'a> Message<'a> {
    /// Of an acknowledgement or the end of a dump: what failed.
    fn error(&self) -> Option<Errno> {
        let code = self
            .payload
            .first_chunk()
            .map(|code| i32::from_ne_bytes(*code));
        code.filter(|code| *code != 0)
            .map(|code| Errno::from_raw(-code))
    }

    /// Of nf_tables.
    fn object(&self) -> Option<Object<'a>> {
        /// `struct nfgenmsg`
        const HEADER: usize = 4;
        let [subsystem, kind] = self.kind.to_be_bytes();
        let attributes = self
            .payload
            .get(HEADER..)
            .filter(|_| u16::from(subsystem) == SUBSYSTEM)?;
        Some(Object {
            family: *self.payload.first()?,
            kind,
            attributes: Attributes(attributes),
        })
    }
}

/// Appends one message to a buffer.
pub(super) fn push(
    into: &mut Vec<u8>,
    family: NetfilterProtoFamily,
    resource: u16,
    inner: NetfilterMessageInner,
    flags: u16,
    sequence: u32,
) {
    let mut message: NetlinkMessage<NetfilterMessage> = NetlinkMessage::from(
        NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner),
    );
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = into.len();
    into.resize(start + message.buffer_len(), 0);
    message.serialize(&mut into[start..]);
}

fn errno(error: &std::io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}
