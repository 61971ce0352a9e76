//! The kernel's expressions as the plan's own types. Strict: an expression that is not understood to the last attribute is
//! [`Match::Other`] or [`Verdict::Other`], which nothing planned equals.
//!
//! Ignored: the order of attributes, counters. Filled in by the kernel: the upper port and flags of `redir`, `op` of a bitwise, flags of
//! a lookup.
#![expect(clippy::wildcard_enum_match_arm, reason = "the packet crate's enums are open, and what is unknown is never ours")]

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey, Operator, Payload,
    Register, RuleAttribute, RuleMessage, Verdict as Code, VerdictAttribute,
};

use super::{
    encode::{
        CT_ATTRIBUTES, CT_STATE_INVALID, DESTINATION_PORT_OFFSET, IPPROTO_TCP, NFPROTO_IPV4, NFPROTO_IPV6, NFT_LOOKUP_F_INV,
        NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER, NFTA_REDIR_REG_PROTO_MIN, R1, address_field,
    },
    sets::{Element, Set, Sets, networks},
};
use crate::{
    mesh::IfName,
    plan::nft::{Direction, Family, Match, Networks, Rule, Side, TABLE, Verdict},
};

const NFTA_REDIR_REG_PROTO_MAX: u16 = 2;
const NFTA_REDIR_FLAGS: u16 = 3;
/// What the kernel says of a redirect to a port.
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;

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
    let mut reader = Reader { sets, loaded: Loaded::Nothing, mask: None, matches: vec![], verdict: None };
    for element in expressions {
        reader.element(element);
    }
    let verdict = reader.verdict.unwrap_or_else(|| Verdict::Other("continue".into()));
    Some((chain?, Rule { matches: reader.matches, verdict }))
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
    DestinationPort,
    /// A port for `redir`.
    Port(u16),
}

/// Reads expressions one by one: load, perhaps mask, compare.
struct Reader<'a> {
    sets: &'a Sets,
    loaded: Loaded,
    mask: Option<Vec<u8>>,
    matches: Vec<Match>,
    verdict: Option<Verdict>,
}

impl Reader<'_> {
    fn element(&mut self, element: &ListAttribute<ExpressionAttribute>) {
        // some expressions (notrack) have a name and no data
        let data = match element {
            ListAttribute::Element(attributes) => {
                attributes.iter().find_map(|a| if let ExpressionAttribute::Data(d) = a { Some(d) } else { None })
            }
            _ => None,
        };
        if self.verdict.is_some() {
            self.verdict = Some(Verdict::Other(format!("something after the verdict: {element:?}")));
        } else if !data.is_some_and(|d| self.expression(d)) {
            self.load(None);
            self.matches.push(Match::Other(format!("{element:?}")));
        }
    }

    /// Whether it was understood.
    fn expression(&mut self, expression: &Expressions) -> bool {
        match expression {
            Expressions::Meta(attributes) => self.load(load_meta(attributes)),
            Expressions::Payload(attributes) => self.load(load_payload(attributes)),
            Expressions::Bitwise(attributes) => self.bitwise(attributes).is_some(),
            Expressions::Cmp(attributes) => self.cmp(attributes).map(|m| self.matches.push(m)).is_some(),
            Expressions::Lookup(attributes) => self.lookup(attributes).map(|m| self.matches.push(m)).is_some(),
            Expressions::Immediate(attributes) => self.immediate(attributes).is_some(),
            Expressions::Other { expression_type, attributes } => match expression_type.as_str() {
                "ct" => self.load(loads_ct_state(attributes).then_some(Loaded::CtState)),
                "redir" => self.redir(attributes).is_some(),
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
                Bitwise::SourceRegister(R1) | Bitwise::DestinationRegister(R1) | Bitwise::Op(0) => {}
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
                let invalid = mask == CT_STATE_INVALID.to_ne_bytes() && not && value == [0; 4];
                invalid.then_some(Match::Invalid)
            }
            (Loaded::Address(family, side, length), mask) => {
                let networks = one_network(family, value, mask.as_deref(), length)?;
                Some(Match::Address { side, not, networks })
            }
            (_, Some(_)) => None,
            (Loaded::NfProto, None) => match value {
                [NFPROTO_IPV4] if !not => Some(Match::Family(Family::Ipv4)),
                [NFPROTO_IPV6] if !not => Some(Match::Family(Family::Ipv6)),
                _ => None,
            },
            (Loaded::L4Proto, None) => (value == [IPPROTO_TCP] && !not).then_some(Match::Tcp),
            (Loaded::User, None) => (!not).then_some(Match::SocketUser(u32::from_ne_bytes(value.try_into().ok()?))),
            (Loaded::Interface(_) | Loaded::Group | Loaded::DestinationPort, None) => self.one_of(not, &[Element::key(value)]),
            (Loaded::Nothing | Loaded::Port(_) | Loaded::CtState, None) => None,
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
            Loaded::Address(family, side, length) if *interval && length == address_field(family, side).1 => {
                let networks = networks(elements.clone()).filter(|n| n.family() == family)?;
                Some(Match::Address { side, not, networks })
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
                Some(Match::Interface { direction, not, names })
            }
            Loaded::DestinationPort => {
                let ports = keys().map(|k| Some(u16::from_be_bytes(k.try_into().ok()?))).collect::<Option<BTreeSet<_>>>()?;
                Some(Match::DestinationPort { not, ports })
            }
            Loaded::Group if !not => {
                let gids = keys().map(|k| Some(u32::from_ne_bytes(k.try_into().ok()?))).collect::<Option<BTreeSet<_>>>()?;
                Some(Match::SocketGroup(gids))
            }
            _ => None,
        }
    }

    fn immediate(&mut self, attributes: &[Immediate]) -> Option<()> {
        let (mut register, mut data) = (None, None);
        for attribute in attributes {
            match attribute {
                Immediate::DestinationRegister(r) => register = Some(*r),
                Immediate::Data(d) => data = Some(d),
                _ => return None,
            }
        }
        match (register?, data?) {
            (R1, DataAttribute::Value(port)) => {
                let first = !matches!(self.loaded, Loaded::Port(_)); // a second port would be the end of a range
                let port = u16::from_be_bytes(port.as_slice().try_into().ok()?);
                first.then(|| self.load(Some(Loaded::Port(port)))).map(|_| ())
            }
            (Register::Verdict, DataAttribute::Verdict(attributes)) => {
                self.verdict = Some(verdict(attributes));
                Some(())
            }
            _ => None,
        }
    }

    fn redir(&mut self, attributes: &[DefaultNla]) -> Option<()> {
        let r1 = u32::from(R1);
        let known = |a: &DefaultNla| match a.kind() {
            NFTA_REDIR_REG_PROTO_MIN | NFTA_REDIR_REG_PROTO_MAX => number(a) == Some(r1),
            NFTA_REDIR_FLAGS => number(a) == Some(NF_NAT_RANGE_PROTO_SPECIFIED),
            _ => false,
        };
        let Loaded::Port(port) = self.loaded else { return None };
        let to_port = attributes.iter().any(|a| a.kind() == NFTA_REDIR_REG_PROTO_MIN) && attributes.iter().all(known);
        to_port.then(|| self.verdict = Some(Verdict::Redirect(port)))
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
        (NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, 2) => Some(Loaded::DestinationPort),
        (NFT_PAYLOAD_NETWORK_HEADER, offset, length) => [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .flat_map(|f| [Side::Source, Side::Destination].map(|s| (f, s)))
            .find(|(f, s)| address_field(*f, *s).0 == offset && length <= address_field(*f, *s).1)
            .map(|(f, s)| Loaded::Address(f, s, length)),
        _ => None,
    }
}

fn loads_ct_state(attributes: &[DefaultNla]) -> bool {
    let (dreg, key, state) = CT_ATTRIBUTES;
    let has = |kind, value| attributes.iter().any(|a| a.kind() == kind && number(a) == Some(value));
    attributes.len() == 2 && has(key, state) && has(dreg, R1.into())
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
                && mask.iter().skip_while(|b| **b == 0xff).skip(1).all(|b| *b == 0);
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

fn verdict(attributes: &[VerdictAttribute]) -> Verdict {
    let chain = attributes.iter().find_map(|a| if let VerdictAttribute::Chain(chain) = a { Some(chain.clone()) } else { None });
    let code = attributes.iter().find_map(|a| if let VerdictAttribute::Code(code) = a { Some(*code) } else { None });
    match (code, chain) {
        (Some(Code::Return), None) => Verdict::Return,
        (Some(Code::Jump), Some(chain)) => Verdict::Jump(chain),
        (Some(Code::Other(0)), None) => Verdict::Drop,
        (Some(Code::Other(1)), None) => Verdict::Other("accept".into()),
        (code, chain) => Verdict::Other(format!("{code:?} {}", chain.unwrap_or_default())),
    }
}

fn number(attribute: &DefaultNla) -> Option<u32> {
    let mut bytes = [0; 4];
    (attribute.value_len() == 4).then(|| attribute.emit_value(&mut bytes)).map(|()| u32::from_be_bytes(bytes))
}
