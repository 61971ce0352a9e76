//! The floor under an ADD: a static process that enters a network namespace and sends one nf_tables transaction of 17 messages. It
//! encodes them with the packet crate, which is dearer than encoding by hand: not the least that is possible.

use std::{fs::File, io};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
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

const R1: Register = Register::Reg1;

/// Runs it in the namespace of this path.
#[allow(
    clippy::disallowed_methods,
    reason = "the floor is what any plugin must do, without ours"
)]
pub(crate) fn run(netns: &str) -> io::Result<()> {
    let netns = File::open(netns)?;
    let work = || -> io::Result<()> {
        nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        transact()
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_panic| Err(io::Error::other("panic")))
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open"
)]
fn transact() -> io::Result<()> {
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
    assert_eq!(count, 17);
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
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut acknowledged = 0;
    while acknowledged < count {
        let (data, _) = socket.recv_from_full()?;
        let answer =
            NetlinkMessage::<NetfilterMessage>::deserialize(&data).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Error(_) => acknowledged += 1,
            _ => {}
        }
    }
    Ok(())
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
