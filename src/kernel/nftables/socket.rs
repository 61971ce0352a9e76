use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::uapi::{SUBSYSTEM, family};
pub(super) use crate::kernel::netlink::Extent;
use crate::{
    deadline::Deadline,
    kernel::{
        KernelError,
        netlink::{
            self, INCONSISTENT, Message, NLMSG_ERROR, Netlink, flag,
            nla::{self, Attributes},
        },
    },
};

/// A nf_tables netlink socket.
pub(super) struct Socket(Netlink);

/// An object of nf_tables: a table, a chain, a rule.
#[derive(Clone, Copy)]
pub(super) struct RulesetObject<'a> {
    /// `NFPROTO_*`
    pub(super) family: u8,
    /// One of [`super::uapi::message`].
    pub(super) kind: u8,
    pub(super) attributes: Attributes<'a>,
}

/// A request for objects.
pub(super) struct Request {
    kind: u8,
    attributes: Vec<u8>,
}

impl Request {
    /// One of [`super::uapi::message`].
    pub(super) fn of(kind: u8) -> Self {
        Self {
            kind,
            attributes: Vec::new(),
        }
    }

    /// Only for those whose attribute of this kind is this text.
    pub(super) fn with(mut self, kind: u16, text: &str) -> Self {
        nla::put_text(&mut self.attributes, kind, text);
        self
    }
}

impl Socket {
    pub(super) fn open(deadline: Deadline) -> Result<Self, KernelError> {
        let opened = Netlink::open(NETLINK_NETFILTER, deadline);
        opened
            .map(Self)
            .map_err(|e| KernelError::of_nf_tables("opening a nf_tables socket", e, None))
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.0.next_sequence()
    }

    /// Sends a batch whose messages have the sequence numbers `first..=last`. Only the last asks for an acknowledgement; an error comes by
    /// itself, with its message's number.
    pub(super) fn transact(
        &mut self,
        batch: &[u8],
        first: u32,
        last: u32,
    ) -> Result<(), (u32, Errno)> {
        self.0.set_sequence(last);
        self.0.send(batch).map_err(|e| (first, e))?;
        loop {
            for message in self.0.messages().map_err(|e| (first, e))? {
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
        request: &Request,
        read: impl Fn(RulesetObject<'_>) -> Option<T>,
    ) -> Result<Option<T>, KernelError> {
        let mut found = None;
        let each = &mut |object: RulesetObject<'_>| found = found.take().or_else(|| read(object));
        match self.request(family::INET, request, flag::ACK, each) {
            Ok(_) => Ok(found),
            // EINVAL is what nfnetlink answers for a subsystem that nobody registered: a transaction will say so as well
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(KernelError::of_errno(doing, errno)),
        }
    }

    /// Asks for all objects of a kind, of one family or all (`UNSPECIFIED`), up to what is ever read.
    pub(super) fn dump(
        &mut self,
        family: u8,
        doing: &'static str,
        request: &Request,
        each: &mut dyn FnMut(RulesetObject<'_>),
    ) -> Result<Extent, KernelError> {
        match self.request(family, request, flag::DUMP, each) {
            Ok(extent) => Ok(extent),
            Err(Errno::EINVAL) => Ok(Extent::Whole), // as above
            Err(INCONSISTENT) => Err(KernelError::Changing),
            Err(errno) => Err(KernelError::of_errno(doing, errno)),
        }
    }

    fn request(
        &mut self,
        family: u8,
        request: &Request,
        flags: u16,
        each: &mut dyn FnMut(RulesetObject<'_>),
    ) -> Result<Extent, Errno> {
        let mut bytes = Vec::with_capacity(128);
        let header = Header {
            kind: of_subsystem(request.kind),
            flags,
            family,
            resource: 0,
            sequence: self.0.next_sequence(),
        };
        push(&mut bytes, header, |m| {
            m.extend_from_slice(&request.attributes);
        });
        self.0.request(&bytes, &mut |message| {
            if let Some(object) = object(message) {
                each(object);
            }
        })
    }
}

/// A message of nf_tables.
fn object<'a>(message: &Message<'a>) -> Option<RulesetObject<'a>> {
    /// `struct nfgenmsg`
    const HEADER: usize = 4;
    let [subsystem, kind] = message.kind.to_be_bytes();
    let attributes = message
        .payload
        .get(HEADER..)
        .filter(|_| u16::from(subsystem) == SUBSYSTEM)?;
    Some(RulesetObject {
        family: *message.payload.first()?,
        kind,
        attributes: Attributes(attributes),
    })
}

/// What begins a message: `struct nlmsghdr` and `struct nfgenmsg`.
pub(super) struct Header {
    /// With its subsystem, as [`of_subsystem`] makes it.
    pub(super) kind: u16,
    /// `NLM_F_*`
    pub(super) flags: u16,
    /// `NFPROTO_*`
    pub(super) family: u8,
    /// Of a batch's begin and end: the subsystem.
    pub(super) resource: u16,
    pub(super) sequence: u32,
}

/// A message's kind among those of all subsystems.
pub(super) fn of_subsystem(kind: u8) -> u16 {
    SUBSYSTEM << 8 | u16::from(kind)
}

/// Appends one message to a buffer.
pub(super) fn push(into: &mut Vec<u8>, header: Header, attributes: impl FnOnce(&mut Vec<u8>)) {
    const VERSION: u8 = 0;
    let Header {
        kind,
        flags,
        family,
        resource,
        sequence,
    } = header;
    netlink::append(into, kind, flags, sequence, |into| {
        into.extend_from_slice(&[family, VERSION]);
        into.extend_from_slice(&resource.to_be_bytes());
        attributes(into);
    });
}
