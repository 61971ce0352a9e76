//! The kernel's expressions as the plan's own types. Strict: an expression that is not understood to the last attribute is
//! [`Match::Other`] or [`Statement::Other`], which nothing planned equals.
//!
//! Ignored: the order of attributes, counters. Filled in by the kernel: the upper port and flags of `redir`, `op` of a bitwise, flags of
//! a lookup.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open, and what is unknown is never ours"
)]

mod statements;

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, ListAttribute, Lookup, Meta,
    MetaKey, Operator, Payload, RuleAttribute, RuleMessage,
};

use super::{
    encode::{
        IPPROTO_TCP, IPPROTO_UDP, NFPROTO_IPV4, NFPROTO_IPV6, NFT_LOOKUP_F_INV,
        NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER, R1, address_field, ct_state_bits,
        port_offset,
    },
    sets::{Element, Set, Sets, networks},
};
use crate::{
    mesh::IfName,
    plan::{
        nft::{Match, Networks, Rule, Statement, TABLE},
        packet::{CtState, Direction, Family, Protocol, Side},
    },
};

/// The chain's name and the rule; `None` if it is of another table.
pub(super) fn rule(message: &RuleMessage, sets: &Sets) -> Option<(String, Rule)> {
    let (mut chain, mut expressions) = (None, &Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(table) if table != TABLE => return None,
            RuleAttribute::Chain(name) => chain = Some(name.clone()),
            RuleAttribute::Expressions(list) => expressions = list,
            _ => {}
        }
    }
    let mut reader = Reader {
        sets,
        loaded: Loaded::Nothing,
        mask: None,
        matches: vec![],
        statements: vec![],
    };
    for element in expressions {
        reader.element(element);
    }
    Some((
        chain?,
        Rule {
            matches: reader.matches,
            statements: reader.statements,
        },
    ))
}

/// What register 1 holds; we use no other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loaded {
    Nothing,
    NfProto,
    L4Proto,
    Interface(Direction),
    User,
    Group,
    CtState,
    /// So many leading bytes of an address.
    Address(Family, Side, u32),
    Port(Side),
    Mark,
    CtMark,
    /// So many leading bytes of a value for a statement.
    Value([u8; 4], usize),
}

/// Reads expressions one by one: load, perhaps mask, compare.
struct Reader<'a> {
    sets: &'a Sets,
    loaded: Loaded,
    mask: Option<Vec<u8>>,
    matches: Vec<Match>,
    statements: Vec<Statement>,
}

impl Reader<'_> {
    fn element(&mut self, element: &ListAttribute<ExpressionAttribute>) {
        // some expressions (notrack) have a name and no data
        let data = match element {
            ListAttribute::Element(attributes) => attributes.iter().find_map(|a| {
                if let ExpressionAttribute::Data(d) = a {
                    Some(d)
                } else {
                    None
                }
            }),
            _ => None,
        };
        let ended = self.statements.last().is_some_and(|s| {
            matches!(
                s,
                Statement::Return
                    | Statement::Accept
                    | Statement::Drop
                    | Statement::Jump(_)
                    | Statement::Redirect(_)
            )
        });
        let (matches, statements) = (self.matches.len(), self.statements.len());
        let understood = !ended && data.is_some_and(|d| self.expression(d));
        // a condition after a statement is not ours either
        if !understood || (statements > 0 && self.matches.len() > matches) {
            self.load(None);
            self.statements
                .push(Statement::Other(format!("{element:?}")));
        }
    }

    /// Whether it was understood.
    fn expression(&mut self, expression: &Expressions) -> bool {
        match expression {
            Expressions::Meta(attributes) => self.meta(attributes).is_some(),
            Expressions::Payload(attributes) => self.load(load_payload(attributes)),
            Expressions::Bitwise(attributes) => self.bitwise(attributes).is_some(),
            Expressions::Cmp(attributes) => {
                self.cmp(attributes).map(|m| self.matches.push(m)).is_some()
            }
            Expressions::Lookup(attributes) => self
                .lookup(attributes)
                .map(|m| self.matches.push(m))
                .is_some(),
            Expressions::Immediate(attributes) => self.immediate(attributes).is_some(),
            Expressions::Other {
                expression_type,
                attributes,
            } => match expression_type.as_str() {
                "ct" => self.ct(attributes).is_some(),
                "redir" => self.redir(attributes).is_some(),
                "tproxy" => self.tproxy(attributes).is_some(),
                "counter" => true,
                _ => false,
            },
            _ => false,
        }
    }

    fn load(&mut self, what: Option<Loaded>) -> bool {
        self.loaded = what.unwrap_or(Loaded::Nothing);
        self.mask = None;
        what.is_some()
    }

    fn bitwise(&mut self, attributes: &[Bitwise]) -> Option<()> {
        let (mut mask, mut length) = (None, None);
        for attribute in attributes {
            match attribute {
                Bitwise::SourceRegister(R1) | Bitwise::DestinationRegister(R1) | Bitwise::Op(0) => {
                }
                Bitwise::Length(l) => length = Some(*l as usize),
                Bitwise::Mask(DataAttribute::Value(m)) => mask = Some(m.clone()),
                Bitwise::Xor(DataAttribute::Value(xor)) if xor.iter().all(|b| *b == 0) => {}
                _ => return None,
            }
        }
        let mask = mask.filter(|m| Some(m.len()) == length && self.mask.is_none())?;
        self.mask = Some(mask);
        Some(())
    }

    fn cmp(&mut self, attributes: &[Cmp]) -> Option<Match> {
        let (mut not, mut value) = (None, None);
        for attribute in attributes {
            match attribute {
                Cmp::SourceRegister(R1) => {}
                Cmp::Op(Operator::Equal) => not = Some(false),
                Cmp::Op(Operator::NotEqual) => not = Some(true),
                Cmp::Data(DataAttribute::Value(v)) => value = Some(v.as_slice()),
                _ => return None,
            }
        }
        let (not, value, loaded) = (not?, value?, self.loaded);
        let mask = self.mask.take();
        if mask.is_some() {
            self.load(None); // the register stays masked
        }
        match (loaded, mask) {
            (Loaded::CtState, Some(mask)) => {
                let states = [CtState::Invalid, CtState::RelatedOrEstablished];
                let state = states
                    .into_iter()
                    .find(|s| mask == ct_state_bits(*s).to_ne_bytes());
                state.filter(|_| not && value == [0; 4]).map(Match::CtState)
            }
            (Loaded::Address(family, side, length), mask) => {
                let networks = one_network(family, value, mask.as_deref(), length)?;
                Some(Match::Address {
                    side,
                    not,
                    networks,
                })
            }
            (_, Some(_)) => None,
            (Loaded::NfProto, None) => match value {
                [NFPROTO_IPV4] if !not => Some(Match::Family(Family::Ipv4)),
                [NFPROTO_IPV6] if !not => Some(Match::Family(Family::Ipv6)),
                _ => None,
            },
            (Loaded::L4Proto, None) => match value {
                [IPPROTO_TCP] if !not => Some(Match::Protocol(Protocol::Tcp)),
                [IPPROTO_UDP] if !not => Some(Match::Protocol(Protocol::Udp)),
                _ => None,
            },
            (Loaded::User, None) => (!not).then_some(Match::SocketUser(number_of(value)?)),
            (Loaded::Mark, None) => Some(Match::Mark {
                not,
                mark: number_of(value)?,
            }),
            (Loaded::CtMark, None) => (!not).then_some(Match::CtMark(number_of(value)?)),
            (Loaded::Interface(_) | Loaded::Group | Loaded::Port(_), None) => {
                self.one_of(not, &[Element::key(value)])
            }
            (Loaded::Nothing | Loaded::Value(..) | Loaded::CtState, None) => None,
        }
    }

    fn lookup(&mut self, attributes: &[Lookup]) -> Option<Match> {
        let (mut not, mut set) = (false, None);
        for attribute in attributes {
            match attribute {
                Lookup::SourceRegister(R1) | Lookup::Flags(0) => {}
                Lookup::Flags(NFT_LOOKUP_F_INV) => not = true,
                Lookup::Set(name) => set = self.sets.get(name),
                _ => return None, // a destination register makes it a map
            }
        }
        let Set { interval, elements } = set.filter(|_| self.mask.is_none())?;
        match self.loaded {
            Loaded::Address(family, side, length)
                if *interval && length == address_field(family, side).1 =>
            {
                let networks = networks(elements.clone()).filter(|n| n.family() == family)?;
                Some(Match::Address {
                    side,
                    not,
                    networks,
                })
            }
            _ if *interval => None,
            _ => self.one_of(not, elements),
        }
    }

    /// One of some plain keys.
    fn one_of(&self, not: bool, elements: &[Element]) -> Option<Match> {
        if elements.iter().any(|e| e.interval_end) {
            return None;
        }
        let keys = || elements.iter().map(|e| e.key.as_slice());
        match self.loaded {
            Loaded::Interface(direction) => {
                let names = keys().map(interface).collect::<Option<_>>()?;
                Some(Match::Interface {
                    direction,
                    not,
                    names,
                })
            }
            Loaded::Port(side) => {
                let ports = keys()
                    .map(|k| Some(u16::from_be_bytes(k.try_into().ok()?)))
                    .collect::<Option<BTreeSet<_>>>()?;
                Some(Match::Port { side, not, ports })
            }
            Loaded::Group if !not => {
                let gids = keys().map(number_of).collect::<Option<BTreeSet<_>>>()?;
                Some(Match::SocketGroup(gids))
            }
            _ => None,
        }
    }
}

fn load_meta(attributes: &[Meta]) -> Option<Loaded> {
    let mut key = None;
    for attribute in attributes {
        match attribute {
            Meta::DestinationRegister(R1) => {}
            Meta::Key(k) => key = Some(*k),
            _ => return None,
        }
    }
    match key? {
        MetaKey::Nfproto => Some(Loaded::NfProto),
        MetaKey::L4Proto => Some(Loaded::L4Proto),
        MetaKey::Iifname => Some(Loaded::Interface(Direction::In)),
        MetaKey::Oifname => Some(Loaded::Interface(Direction::Out)),
        MetaKey::SocketUserId => Some(Loaded::User),
        MetaKey::SocketGroupId => Some(Loaded::Group),
        MetaKey::Mark => Some(Loaded::Mark),
        _ => None,
    }
}

fn load_payload(attributes: &[Payload]) -> Option<Loaded> {
    let (mut base, mut offset, mut length) = (None, None, None);
    for attribute in attributes {
        match attribute {
            Payload::DestinationRegister(R1) => {}
            Payload::Base(b) => base = Some(*b),
            Payload::Offset(o) => offset = Some(*o),
            Payload::Len(l) => length = Some(*l),
            _ => return None,
        }
    }
    match (base?, offset?, length?) {
        (NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2) => [Side::Source, Side::Destination]
            .into_iter()
            .find(|s| port_offset(*s) == offset)
            .map(Loaded::Port),
        (NFT_PAYLOAD_NETWORK_HEADER, offset, length) => [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .flat_map(|f| [Side::Source, Side::Destination].map(|s| (f, s)))
            .find(|(f, s)| address_field(*f, *s).0 == offset && length <= address_field(*f, *s).1)
            .map(|(f, s)| Loaded::Address(f, s, length)),
        _ => None,
    }
}

/// A whole name: a shorter comparison is a wildcard.
fn interface(key: &[u8]) -> Option<IfName> {
    let name = IfName::of_kernel(std::str::from_utf8(key).ok()?.trim_end_matches('\0'))?;
    (name.padded() == key).then_some(name)
}

/// `value` under `mask`, or the leading bytes of an address, which is how nft writes a prefix of whole bytes.
fn one_network(family: Family, value: &[u8], mask: Option<&[u8]>, loaded: u32) -> Option<Networks> {
    if value.len() != loaded as usize || mask.is_some_and(|m| m.len() != value.len()) {
        return None;
    }
    let length = match mask {
        Some(mask) => {
            let ones: u32 = mask.iter().map(|b| b.leading_ones()).sum();
            let contiguous = mask.iter().map(|b| b.count_ones()).sum::<u32>() == ones
                && mask
                    .iter()
                    .skip_while(|b| **b == 0xff)
                    .skip(1)
                    .all(|b| *b == 0);
            let possible = value.iter().zip(mask).all(|(v, m)| v & !m == 0); // else it never matches
            (contiguous && possible).then_some(ones)?
        }
        None => loaded * 8,
    };
    let length = u8::try_from(length).ok()?;
    match family {
        Family::Ipv4 => Networks::v4(&[Ipv4Net::new(pad::<4>(value)?.into(), length).ok()?]),
        Family::Ipv6 => Networks::v6(&[Ipv6Net::new(pad::<16>(value)?.into(), length).ok()?]),
    }
}

fn pad<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(out)
}

fn number_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}
