//! Decodes the conditions of a rule.

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Reader, Register, is_r1, pad};
use crate::{
    kernel::{
        netlink::nla::Attributes,
        nftables::{
            encode::{IPPROTO_TCP, IPPROTO_UDP, address_field, ct_state_bits, port_offset},
            sets::{Element, ElementKey, Set, networks},
            uapi::{
                bitwise, compare, family, lookup, lookup_flag, meta_key, operator, payload,
                payload_base,
            },
            value::value,
        },
    },
    plan::{
        nft::{Match, Networks},
        packet::{CtState, Direction, Family, Protocol, Side},
    },
    profile::IfName,
};

impl Reader<'_> {
    pub(super) fn load_meta(&mut self, key: u32) -> Option<()> {
        let loaded = match key {
            meta_key::NFPROTO => Register::NfProto,
            meta_key::L4PROTO => Register::L4Proto,
            meta_key::IIFNAME => Register::Interface(Direction::In),
            meta_key::OIFNAME => Register::Interface(Direction::Out),
            meta_key::SKUID => Register::User,
            meta_key::SKGID => Register::Group,
            meta_key::MARK => Register::Mark,
            _ => return None,
        };
        self.load(Some(loaded))
    }

    /// Loads a port or an address of the packet.
    pub(super) fn payload(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let (mut base, mut offset, mut length) = (None, None, None);
        for attribute in attributes {
            match attribute.kind {
                payload::TO if is_r1(attribute) => {}
                payload::BASE => base = attribute.number(),
                payload::OFFSET => offset = attribute.number(),
                payload::LENGTH => length = attribute.number(),
                _ => return None,
            }
        }
        let sides = [Side::Source, Side::Destination];
        let loaded = match (base?, offset?, length?) {
            (payload_base::TRANSPORT_HEADER, offset, 2) => {
                let side = sides.into_iter().find(|s| port_offset(*s) == offset)?;
                Register::Port(side)
            }
            (payload_base::NETWORK_HEADER, offset, length) => {
                let families = [Family::Ipv4, Family::Ipv6].into_iter();
                let mut fields = families.flat_map(|f| sides.map(|s| (f, s, address_field(f, s))));
                let (family, side, _) =
                    fields.find(|(_, _, field)| field.0 == offset && length <= field.1)?;
                Register::Address(family, side, length)
            }
            _ => return None,
        };
        self.load(Some(loaded))
    }

    pub(super) fn bitwise(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let (mut mask, mut length) = (None, None);
        for attribute in attributes {
            match attribute.kind {
                bitwise::FROM | bitwise::TO if is_r1(attribute) => {}
                bitwise::OP if attribute.number() == Some(0) => {}
                bitwise::LENGTH => length = attribute.number(),
                bitwise::MASK => mask = Some(value(attribute)?),
                bitwise::XOR if value(attribute)?.iter().all(|b| *b == 0) => {}
                _ => return None,
            }
        }
        let is_whole = |mask: &&[u8]| Some(mask.len()) == length.map(|l| l as usize);
        let mask = mask.filter(is_whole).filter(|_| self.mask.is_none())?;
        self.mask = Some(mask.to_vec());
        Some(())
    }

    pub(super) fn cmp(&mut self, attributes: Attributes<'_>) -> Option<Match> {
        let (mut not, mut data) = (None, None);
        for attribute in attributes {
            match (attribute.kind, attribute.number()) {
                (compare::FROM, _) if is_r1(attribute) => {}
                (compare::OP, Some(operator::EQUAL)) => not = Some(false),
                (compare::OP, Some(operator::NOT_EQUAL)) => not = Some(true),
                (compare::DATA, _) => data = Some(value(attribute)?),
                _ => return None,
            }
        }
        let (not, value, loaded) = (not?, data?, self.loaded);
        let mask = self.mask.take();
        if mask.is_some() {
            self.load(None); // the register stays masked
        }
        match (loaded, mask) {
            (Register::CtState, Some(mask)) => {
                let states = [CtState::Invalid, CtState::RelatedOrEstablished];
                let state = states
                    .into_iter()
                    .find(|s| mask == ct_state_bits(*s).to_ne_bytes());
                state.filter(|_| not && value == [0; 4]).map(Match::CtState)
            }
            (Register::Address(family, side, length), mask) => {
                let networks = one_network(family, value, mask.as_deref(), length)?;
                Some(Match::Address {
                    side,
                    not,
                    networks,
                })
            }
            (_, Some(_)) => None,
            (Register::NfProto, None) => match value {
                [family::IPV4] if !not => Some(Match::Family(Family::Ipv4)),
                [family::IPV6] if !not => Some(Match::Family(Family::Ipv6)),
                _ => None,
            },
            (Register::L4Proto, None) => match value {
                [IPPROTO_TCP] if !not => Some(Match::Protocol(Protocol::Tcp)),
                [IPPROTO_UDP] if !not => Some(Match::Protocol(Protocol::Udp)),
                _ => None,
            },
            (Register::User, None) => (!not).then_some(Match::SocketUser(number_of(value)?)),
            (Register::Mark, None) => Some(Match::Mark {
                not,
                mark: number_of(value)?,
            }),
            (Register::CtMark, None) => (!not).then_some(Match::CtMark(number_of(value)?)),
            (Register::Interface(_) | Register::Group | Register::Port(_), None) => {
                self.one_of(not, &[Element::key(ElementKey::read(value)?)])
            }
            (Register::Nothing | Register::Value(..) | Register::CtState, None) => None,
        }
    }

    pub(super) fn lookup(&mut self, attributes: Attributes<'_>) -> Option<Match> {
        let (mut not, mut set) = (false, None);
        for attribute in attributes {
            match (attribute.kind, attribute.number()) {
                (lookup::SET, _) => set = self.sets.get(attribute.text()?),
                (lookup::FROM, _) if is_r1(attribute) => {}
                (lookup::FLAGS, Some(0)) => {}
                (lookup::FLAGS, Some(lookup_flag::INVERTED)) => not = true,
                _ => return None, // a destination register makes it a map
            }
        }
        let Set { interval, elements } = set.filter(|_| self.mask.is_none())?;
        if let Register::Address(family, side, length) = self.loaded
            && *interval
            && length == address_field(family, side).1
        {
            let networks = networks(elements).filter(|n| n.family() == family)?;
            return Some(Match::Address {
                side,
                not,
                networks,
            });
        }
        (!interval).then(|| self.one_of(not, elements)).flatten()
    }

    /// One of some plain keys.
    fn one_of(&self, not: bool, elements: &[Element]) -> Option<Match> {
        if elements.iter().any(|e| e.interval_end) {
            return None;
        }
        let keys = || elements.iter().map(|e| &*e.key);
        if let Register::Interface(direction) = self.loaded {
            let names = keys().map(interface).collect::<Option<_>>()?;
            return Some(Match::Interface {
                direction,
                not,
                names,
            });
        }
        if let Register::Port(side) = self.loaded {
            let port = |key: &[u8]| Some(u16::from_be_bytes(key.try_into().ok()?));
            let ports = keys().map(port).collect::<Option<BTreeSet<_>>>()?;
            return Some(Match::Port { side, not, ports });
        }
        if self.loaded == Register::Group && !not {
            let gids = keys().map(number_of).collect::<Option<BTreeSet<_>>>()?;
            return Some(Match::SocketGroup(gids));
        }
        None
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

fn number_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}
