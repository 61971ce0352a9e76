#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open"
)]

use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
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

use crate::{deadline::Deadline, kernel::KernelError};

/// `NLM_F_DUMP_INTR` of linux/netlink.h: the dump is inconsistent.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// What stands for a dump that another change made inconsistent.
const INCONSISTENT: Errno = Errno::ERESTART;
/// Most objects that a dump may give: what others have put into a namespace must not fill our memory.
const MOST: usize = 4096;
/// The kernel's largest dump message is 32 KiB.
const BUFFER: usize = 64 << 10;

/// A nf_tables netlink socket whose every wait ends at the deadline.
pub(super) struct Socket {
    netlink: Netlink,
    deadline: Deadline,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn open(deadline: Deadline) -> Result<Self, KernelError> {
        let error =
            |e: std::io::Error| KernelError::of_nf_tables("opening a nf_tables socket", errno(&e));
        let mut netlink = Netlink::new(NETLINK_NETFILTER).map_err(error)?;
        netlink.bind_auto().map_err(error)?;
        netlink.connect(&SocketAddr::new(0, 0)).map_err(error)?;
        Ok(Self {
            netlink,
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
            for message in self.receive().map_err(|e| (first, e))? {
                let sequence = message.header.sequence_number;
                if let NetlinkPayload::Error(error) = message.payload {
                    match error.code {
                        Some(code) => return Err((sequence, Errno::from_raw(-code.get()))),
                        None if sequence == last => return Ok(()),
                        None => {}
                    }
                }
            }
        }
    }

    /// Asks for one object; `None` if there is none.
    pub(super) fn get(
        &mut self,
        doing: &'static str,
        request: NfTablesMessage,
    ) -> Result<Option<NfTablesMessage>, KernelError> {
        match self.request(NetfilterProtoFamily::Inet, request, NLM_F_ACK) {
            Ok(objects) => Ok(objects.into_iter().next().map(|(_, object)| object)),
            // EINVAL is what nfnetlink answers for a subsystem that nobody registered: a transaction will say so as well
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(KernelError::of_errno(doing, errno)),
        }
    }

    /// Asks for all objects of a kind, of one family or all (`Unspec`).
    pub(super) fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        doing: &'static str,
        request: NfTablesMessage,
    ) -> Result<Vec<(NetfilterProtoFamily, NfTablesMessage)>, KernelError> {
        match self.request(family, request, NLM_F_DUMP) {
            Ok(objects) => Ok(objects),
            Err(Errno::EINVAL) => Ok(Vec::new()), // as above
            Err(INCONSISTENT) => Err(KernelError::Changing),
            Err(errno) => Err(KernelError::of_errno(doing, errno)),
        }
    }

    fn request(
        &mut self,
        family: NetfilterProtoFamily,
        request: NfTablesMessage,
        flags: u16,
    ) -> Result<Vec<(NetfilterProtoFamily, NfTablesMessage)>, Errno> {
        if self.deadline.left().is_zero() {
            return Err(Errno::ETIMEDOUT); // answers that come at once are not waited for
        }
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        push(&mut bytes, family, 0, request.into(), flags, sequence);
        self.netlink.send(&bytes, 0).map_err(|e| errno(&e))?;
        let (mut objects, mut consistent) = (Vec::new(), true);
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != sequence {
                    continue;
                }
                consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(NetfilterMessage {
                        header,
                        inner: NetfilterMessageInner::NfTables(object),
                        ..
                    }) => {
                        if objects.len() == MOST {
                            return Err(Errno::E2BIG);
                        }
                        objects.push((header.family, object));
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(Errno::from_raw(-error.raw_code()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) if consistent => {
                        return Ok(objects);
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Err(INCONSISTENT),
                    _ => {}
                }
            }
        }
    }

    /// The next datagram's messages. ETIMEDOUT when the deadline has passed.
    fn receive(&mut self) -> Result<Vec<NetlinkMessage<NetfilterMessage>>, Errno> {
        loop {
            self.buffer.clear();
            // what was asked is mostly answered by now
            match self
                .netlink
                .recv(&mut self.buffer, MSG_DONTWAIT)
                .map_err(|e| errno(&e))
            {
                Err(Errno::EAGAIN) => self.wait()?,
                Err(Errno::EINTR) => {}
                other => break other.map(|_| ())?,
            }
        }
        let (mut rest, mut messages) = (&self.buffer[..], Vec::new());
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                .map_err(|_undecodable| Errno::EBADMSG)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            messages.push(message);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(messages)
    }

    /// Until there is something to receive, or the deadline has passed.
    fn wait(&self) -> Result<(), Errno> {
        let left = self.deadline.left();
        let mut polled = [PollFd::new(self.netlink.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(0) if self.deadline.left().is_zero() => Err(Errno::ETIMEDOUT),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
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
