use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::NfTablesMessage,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::uapi::SUBSYSTEM;
pub(super) use crate::kernel::netlink::Extent;
use crate::{
    deadline::Deadline,
    kernel::{
        KernelError,
        netlink::{INCONSISTENT, Message, NLMSG_ERROR, Netlink, nla::Attributes},
    },
};

/// A nf_tables netlink socket.
pub(super) struct Socket(Netlink);

/// An object of nf_tables: a table, a chain, a rule.
#[derive(Clone, Copy)]
pub(super) struct RulesetObject<'a> {
    /// `NFPROTO_*`
    pub(super) family: u8,
    /// One of [`super::uapi::object`].
    pub(super) kind: u8,
    pub(super) attributes: Attributes<'a>,
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
        request: NfTablesMessage,
        read: impl Fn(RulesetObject<'_>) -> Option<T>,
    ) -> Result<Option<T>, KernelError> {
        let mut found = None;
        let each = &mut |object: RulesetObject<'_>| found = found.take().or_else(|| read(object));
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
        each: &mut dyn FnMut(RulesetObject<'_>),
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
        each: &mut dyn FnMut(RulesetObject<'_>),
    ) -> Result<Extent, Errno> {
        let mut bytes = Vec::new();
        push(
            &mut bytes,
            family,
            0,
            request.into(),
            flags,
            self.0.next_sequence(),
        );
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
