//! The floor under an ADD: a static process that enters a network namespace and sends one nf_tables transaction of 17 messages. They are
//! encoded beforehand, so the floor is what the kernel takes, and the start of a process.

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR, NetlinkMessage,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily as Family,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, Immediate,
        InetHookNumber, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
        RuleMessage, TableAttribute, TableFlags, TableMessage, Verdict, VerdictAttribute,
    },
    none::ControlMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{MsgFlags, recv};

const R1: Register = Register::Reg1;

/// How many of the messages the kernel acknowledges: all but the two around them.
const MESSAGES: u32 = 17;

/// Sends what [`encode`] has written to a file in the namespace of this path.
#[allow(
    clippy::disallowed_methods,
    reason = "the floor is what any plugin must do, without ours"
)]
pub(crate) fn run(netns: &str, messages: &str) -> io::Result<()> {
    let netns = File::open(netns)?;
    let messages = std::fs::read(messages)?;
    let work = || -> io::Result<()> {
        nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        transact(&messages)
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_panic| Err(io::Error::other("panic")))
}

fn transact(messages: &[u8]) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(messages, 0)?;
    let mut answer = [0; 256];
    for _ in 0..MESSAGES {
        // length (4 bytes), type (2), flags (2), sequence (4), port (4), and of an acknowledgement the error (4), which is 0
        let received = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = answer.get(..received).unwrap_or_default();
        let is_answer = answer.get(4..6) == Some(&NLMSG_ERROR.to_ne_bytes());
        if !is_answer || answer.get(16..20) != Some(&[0; 4]) {
            return Err(io::Error::other("the kernel refused the messages"));
        }
    }
    Ok(())
}

/// Writes the transaction to a file.
pub(crate) fn encode(file: &Path) -> io::Result<()> {
    let mut messages = vec![NfTablesMessage::NewTable(TableMessage {
        attributes: vec![
            TableAttribute::Name("floor".into()),
            TableAttribute::Flags(TableFlags::empty()),
        ],
    })];
    for (name, kind, hook, priority) in [
        ("output", "nat", InetHookNumber::LocalOut, -100),
        ("prerouting", "nat", InetHookNumber::PreRouting, -100),
        ("mangle", "filter", InetHookNumber::PreRouting, -150),
        ("raw", "filter", InetHookNumber::LocalOut, -300i32),
    ] {
        let hook = vec![
            Hook::Number(hook.into()),
            Hook::Priority(priority.cast_unsigned()),
        ];
        let attributes = vec![
            ChainAttribute::Table("floor".into()),
            ChainAttribute::Name(name.into()),
            ChainAttribute::Type(kind.into()),
            ChainAttribute::Hook(hook),
        ];
        messages.push(NfTablesMessage::NewChain(ChainMessage { attributes }));
    }
    for port in 1..=6u16 {
        messages.push(rule("output", port, false));
        messages.push(rule("prerouting", port, true));
    }
    let count = messages.len() as u32;
    assert_eq!(count, MESSAGES);
    let mut bytes = message(Family::Unspec, 10, ControlMessage::BatchBegin.into(), 0, 0);
    for (sequence, inner) in (1..).zip(messages) {
        let append = if matches!(inner, NfTablesMessage::NewRule(_)) {
            NLM_F_APPEND
        } else {
            0
        };
        bytes.extend(message(
            Family::Inet,
            0,
            inner.into(),
            NLM_F_CREATE | NLM_F_ACK | append,
            sequence,
        ));
    }
    bytes.extend(message(
        Family::Unspec,
        10,
        ControlMessage::BatchEnd.into(),
        0,
        count + 1,
    ));
    std::fs::write(file, bytes)
}

/// `tcp dport PORT return`, or `... redirect`.
fn rule(chain: &str, port: u16, redirect: bool) -> NfTablesMessage {
    let compare = |value: Vec<u8>| {
        Expressions::Cmp(vec![
            Cmp::SourceRegister(R1),
            Cmp::Op(Operator::Equal),
            Cmp::Data(DataAttribute::Value(value)),
        ])
    };
    let load = |to, data| {
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(to),
            Immediate::Data(data),
        ])
    };
    let mut expressions = vec![
        Expressions::Meta(vec![
            Meta::Key(MetaKey::L4Proto),
            Meta::DestinationRegister(R1),
        ]),
        compare(vec![6]),
        Expressions::Payload(vec![
            Payload::DestinationRegister(R1),
            Payload::Base(2),
            Payload::Offset(2),
            Payload::Len(2),
        ]),
        compare(port.to_be_bytes().to_vec()),
    ];
    if redirect {
        expressions.push(load(
            R1,
            DataAttribute::Value(15006u16.to_be_bytes().to_vec()),
        ));
        expressions.push(Expressions::Other {
            expression_type: "redir".into(),
            attributes: vec![DefaultNla::new(1, 1u32.to_be_bytes().to_vec())],
        });
    } else {
        expressions.push(load(
            Register::Verdict,
            DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Return)]),
        ));
    }
    let expressions = expressions.into_iter().map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table("floor".into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions),
    ];
    NfTablesMessage::NewRule(RuleMessage { attributes })
}

fn message(
    family: Family,
    resource: u16,
    inner: NetfilterMessageInner,
    flags: u16,
    sequence: u32,
) -> Vec<u8> {
    let mut message: NetlinkMessage<NetfilterMessage> =
        NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner).into();
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
