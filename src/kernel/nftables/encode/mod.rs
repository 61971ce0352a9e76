//! The plan's rules as the kernel's expressions and sets.

mod expressions;

use super::{
    sets::{Element, GROUP, INTERFACE, KeyType, SERVICE, intervals},
    uapi::{
        code, ct_key, data, element, element_flag, elements, family, list, meta_key, payload_base,
        redir, register, set, set_description, set_flag, tproxy,
    },
};
use crate::{
    kernel::netlink::nla,
    plan::{
        nft::{Match, Networks, Rule, Statement, TABLE},
        packet::{CtState, Direction, Family, Protocol, Side},
    },
};

pub(super) const IPPROTO_TCP: u8 = 6;
pub(super) const IPPROTO_UDP: u8 = 17;
/// The template of an anonymous set's name.
const ANONYMOUS: &str = "__set%d";

/// A rule as the kernel takes it.
pub(super) struct Encoded {
    /// The sets that it looks keys up in, which must be created before it.
    pub(super) sets: Vec<NewSet>,
    /// `NFTA_RULE_EXPRESSIONS`
    pub(super) expressions: Vec<u8>,
}

/// An anonymous set of a rule.
pub(super) struct NewSet {
    id: u32,
    kind: KeyType,
    is_interval: bool,
    elements: Vec<Element>,
}

impl NewSet {
    /// The attributes of the message that creates it.
    pub(super) fn write(&self, m: &mut Vec<u8>) {
        let interval = if self.is_interval {
            set_flag::INTERVAL
        } else {
            0
        };
        let flags = set_flag::ANONYMOUS | set_flag::CONSTANT | interval;
        nla::put_text(m, set::TABLE, TABLE);
        nla::put_text(m, set::NAME, ANONYMOUS);
        nla::put_number(m, set::ID, self.id);
        nla::put_number(m, set::FLAGS, flags);
        nla::put_number(m, set::KEY_TYPE, self.kind.number);
        nla::put_number(m, set::KEY_LENGTH, self.kind.length);
        nla::put(m, set::USER_DATA, &self.kind.user_data());
        nla::put_nested(m, set::DESCRIPTION, |m| {
            nla::put_number(m, set_description::SIZE, self.elements.len() as u32);
        });
    }

    /// The attributes of the message that fills it.
    pub(super) fn write_elements(&self, m: &mut Vec<u8>) {
        nla::put_text(m, elements::TABLE, TABLE);
        nla::put_text(m, elements::SET, ANONYMOUS);
        nla::put_number(m, elements::SET_ID, self.id);
        nla::put_nested(m, elements::LIST, |m| {
            for Element { key, interval_end } in &self.elements {
                nla::put_nested(m, list::ENTRY, |m| {
                    nla::put_nested(m, element::KEY, |m| nla::put(m, data::VALUE, key));
                    if *interval_end {
                        nla::put_number(m, element::FLAGS, element_flag::INTERVAL_END);
                    }
                });
            }
        });
    }
}

/// Encodes rules one after the other; numbers their sets.
#[derive(Default)]
pub(super) struct Encoder {
    sets: u32,
}

impl Encoder {
    pub(super) fn rule(&mut self, rule: &Rule) -> Encoded {
        let mut out = RuleEncoder {
            encoder: self,
            sets: vec![],
            expressions: Vec::with_capacity(512),
        };
        for condition in &rule.matches {
            out.condition(condition);
        }
        for statement in &rule.statements {
            out.statement(statement);
        }
        Encoded {
            sets: out.sets,
            expressions: out.expressions,
        }
    }
}

struct RuleEncoder<'a> {
    encoder: &'a mut Encoder,
    sets: Vec<NewSet>,
    expressions: Vec<u8>,
}

impl RuleEncoder<'_> {
    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Family(family) => {
                self.load_meta(meta_key::NFPROTO);
                self.compare(false, &[nfproto(*family)]);
            }
            Match::Protocol(protocol) => {
                self.load_meta(meta_key::L4PROTO);
                let number = match protocol {
                    Protocol::Tcp => IPPROTO_TCP,
                    Protocol::Udp => IPPROTO_UDP,
                };
                self.compare(false, &[number]);
            }
            Match::Interface {
                direction,
                not,
                names,
            } => {
                self.load_meta(match direction {
                    Direction::In => meta_key::IIFNAME,
                    Direction::Out => meta_key::OIFNAME,
                });
                self.one_of(
                    *not,
                    INTERFACE,
                    names.iter().map(|n| Element::key(n.padded())).collect(),
                );
            }
            Match::Address {
                side,
                not,
                networks,
            } => self.address(*side, *not, networks),
            Match::Port { side, not, ports } => {
                self.load_payload(payload_base::TRANSPORT_HEADER, port_offset(*side), 2);
                self.one_of(
                    *not,
                    SERVICE,
                    ports
                        .iter()
                        .map(|p| Element::key(p.to_be_bytes()))
                        .collect(),
                );
            }
            Match::SocketUser(uid) => {
                self.load_meta(meta_key::SKUID);
                self.compare(false, &uid.to_ne_bytes());
            }
            Match::SocketGroup(gids) => {
                self.load_meta(meta_key::SKGID);
                self.one_of(
                    false,
                    GROUP,
                    gids.iter().map(|g| Element::key(g.to_ne_bytes())).collect(),
                );
            }
            Match::CtState(state) => {
                self.load_ct(ct_key::STATE);
                self.mask(&ct_state_bits(*state).to_ne_bytes());
                self.compare(true, &[0; 4]);
            }
            Match::Mark { not, mark } => {
                self.load_meta(meta_key::MARK);
                self.compare(*not, &mark.to_ne_bytes());
            }
            Match::CtMark(mark) => {
                self.load_ct(ct_key::MARK);
                self.compare(false, &mark.to_ne_bytes());
            }
            Match::Other(_) => self.never(),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Return => self.decide(code::RETURN, None),
            Statement::Accept => self.decide(code::ACCEPT, None),
            Statement::Drop => self.decide(code::DROP, None),
            Statement::Jump(chain) => self.decide(code::JUMP, Some(chain)),
            Statement::Redirect(port) => {
                self.load_value(&port.to_be_bytes());
                self.numbers("redir", &[(redir::PORT, register::R1)]);
            }
            Statement::Tproxy(family, port) => {
                self.load_value(&port.to_be_bytes());
                let family = nfproto(*family).into();
                let attributes = [(tproxy::FAMILY, family), (tproxy::PORT, register::R1)];
                self.numbers("tproxy", &attributes);
            }
            Statement::SetMark(mark) => {
                self.load_value(&mark.to_ne_bytes());
                self.set_meta(meta_key::MARK);
            }
            Statement::SaveMark => {
                self.load_meta(meta_key::MARK);
                self.set_ct(ct_key::MARK);
            }
            Statement::RestoreMark => {
                self.load_ct(ct_key::MARK);
                self.set_meta(meta_key::MARK);
            }
            Statement::SetZone(zone) => {
                self.load_value(&zone.to_ne_bytes());
                self.set_ct(ct_key::ZONE);
            }
            Statement::Other(_) => self.never(),
        }
    }

    fn address(&mut self, side: Side, not: bool, networks: &Networks) {
        let (offset, length) = address_field(networks.family(), side);
        self.load_payload(payload_base::NETWORK_HEADER, offset, length);
        match networks {
            Networks::V4(list) => {
                if let [n] = list.as_slice() {
                    return self.network(not, &n.addr().octets(), &n.netmask().octets());
                }
            }
            Networks::V6(list) => {
                if let [n] = list.as_slice() {
                    return self.network(not, &n.addr().octets(), &n.netmask().octets());
                }
            }
        }
        let (kind, elements) = intervals(networks);
        self.look_up_in(not, kind, true, elements);
    }

    /// One network: masked, but where it is one address, and compared.
    fn network(&mut self, not: bool, address: &[u8], mask: &[u8]) {
        if mask.iter().any(|byte| *byte != u8::MAX) {
            self.mask(mask);
        }
        self.compare(not, address);
    }

    /// One value is compared, several are looked up.
    fn one_of(&mut self, not: bool, kind: KeyType, elements: Vec<Element>) {
        match <[Element; 1]>::try_from(elements) {
            Ok([one]) => self.compare(not, &one.key),
            Err(several) => self.look_up_in(not, kind, false, several),
        }
    }

    fn look_up_in(&mut self, not: bool, kind: KeyType, is_interval: bool, elements: Vec<Element>) {
        self.encoder.sets += 1;
        let id = self.encoder.sets;
        self.sets.push(NewSet {
            id,
            kind,
            is_interval,
            elements,
        });
        self.look_up(not, id);
    }
}

/// `NFPROTO_*`
pub(super) fn nfproto(family: Family) -> u8 {
    match family {
        Family::Ipv4 => family::IPV4,
        Family::Ipv6 => family::IPV6,
    }
}

/// `NF_CT_STATE_*_BIT`
pub(super) fn ct_state_bits(state: CtState) -> u32 {
    match state {
        CtState::Invalid => 1,
        CtState::RelatedOrEstablished => 2 | 4,
    }
}

/// Offset of a port in a TCP or UDP header.
pub(super) fn port_offset(side: Side) -> u32 {
    match side {
        Side::Source => 0,
        Side::Destination => 2,
    }
}

/// Offset and length of an address in its header.
pub(super) fn address_field(family: Family, side: Side) -> (u32, u32) {
    match (family, side) {
        (Family::Ipv4, Side::Source) => (12, 4),
        (Family::Ipv4, Side::Destination) => (16, 4),
        (Family::Ipv6, Side::Source) => (8, 16),
        (Family::Ipv6, Side::Destination) => (24, 16),
    }
}
