//! The plan's rules as the kernel's expressions and sets.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, SetAttribute,
    SetDescription, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage,
    SetFlags, SetMessage, Verdict as Code, VerdictAttribute,
};

use super::sets::{Element, GROUP, INTERFACE, KeyType, SERVICE, intervals};
use crate::plan::{
    nft::{Match, Networks, Rule, Statement, TABLE},
    packet::{CtState, Direction, Family, Protocol, Side},
};

pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;
pub(super) const IPPROTO_TCP: u8 = 6;
pub(super) const IPPROTO_UDP: u8 = 17;
pub(super) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
pub(super) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
pub(super) const NFT_LOOKUP_F_INV: u32 = 1;
pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
pub(super) const NFTA_CT_DREG: u16 = 1;
pub(super) const NFTA_CT_KEY: u16 = 2;
pub(super) const NFTA_CT_SREG: u16 = 4;
pub(super) const NFT_CT_STATE: u32 = 0;
pub(super) const NFT_CT_MARK: u32 = 3;
pub(super) const NFT_CT_ZONE: u32 = 17;
pub(super) const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
pub(super) const NFTA_TPROXY_FAMILY: u16 = 1;
pub(super) const NFTA_TPROXY_REG_PORT: u16 = 3;
/// The template of an anonymous set's name.
const ANONYMOUS: &str = "__set%d";
pub(super) const R1: Register = Register::Reg1;

/// The expressions of a rule.
pub(super) type Encoded = Vec<ListAttribute<ExpressionAttribute>>;

/// Encodes rules one after the other; numbers their sets.
#[derive(Default)]
pub(super) struct Encoder {
    sets: u32,
}

impl Encoder {
    /// The messages that make the rule's sets, which must come before it, and its expressions.
    pub(super) fn rule(&mut self, rule: &Rule) -> (Vec<NfTablesMessage>, Encoded) {
        let mut out = RuleEncoder {
            encoder: self,
            messages: vec![],
            expressions: vec![],
        };
        for condition in &rule.matches {
            out.condition(condition);
        }
        for statement in &rule.statements {
            out.statement(statement);
        }
        (
            out.messages,
            out.expressions.into_iter().map(Into::into).collect(),
        )
    }
}

struct RuleEncoder<'a> {
    encoder: &'a mut Encoder,
    messages: Vec<NfTablesMessage>,
    expressions: Vec<Expressions>,
}

impl RuleEncoder<'_> {
    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Family(family) => {
                self.load_meta(MetaKey::Nfproto);
                self.compare(false, vec![nfproto(*family)]);
            }
            Match::Protocol(protocol) => {
                self.load_meta(MetaKey::L4Proto);
                self.compare(
                    false,
                    vec![match protocol {
                        Protocol::Tcp => IPPROTO_TCP,
                        Protocol::Udp => IPPROTO_UDP,
                    }],
                );
            }
            Match::Interface {
                direction,
                not,
                names,
            } => {
                self.load_meta(match direction {
                    Direction::In => MetaKey::Iifname,
                    Direction::Out => MetaKey::Oifname,
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
                self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(*side), 2);
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
                self.load_meta(MetaKey::SocketUserId);
                self.compare(false, uid.to_ne_bytes().to_vec());
            }
            Match::SocketGroup(gids) => {
                self.load_meta(MetaKey::SocketGroupId);
                self.one_of(
                    false,
                    GROUP,
                    gids.iter().map(|g| Element::key(g.to_ne_bytes())).collect(),
                );
            }
            Match::CtState(state) => {
                self.load_ct(NFT_CT_STATE);
                self.mask(ct_state_bits(*state).to_ne_bytes().to_vec());
                self.compare(true, vec![0; 4]);
            }
            Match::Mark { not, mark } => {
                self.load_meta(MetaKey::Mark);
                self.compare(*not, mark.to_ne_bytes().to_vec());
            }
            Match::CtMark(mark) => {
                self.load_ct(NFT_CT_MARK);
                self.compare(false, mark.to_ne_bytes().to_vec());
            }
            Match::Other(_) => self.never(),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        let code = |code| vec![VerdictAttribute::Code(code)];
        let verdict = match statement {
            Statement::Return => code(Code::Return),
            Statement::Accept => code(Code::Other(NF_ACCEPT)),
            Statement::Drop => code(Code::Other(NF_DROP)),
            Statement::Jump(chain) => vec![
                VerdictAttribute::Code(Code::Jump),
                VerdictAttribute::Chain(chain.clone()),
            ],
            Statement::Redirect(port) => {
                self.immediate(R1, DataAttribute::Value(port.to_be_bytes().to_vec()));
                return self.other("redir", &[(NFTA_REDIR_REG_PROTO_MIN, R1.into())]);
            }
            Statement::Tproxy(family, port) => {
                self.immediate(R1, DataAttribute::Value(port.to_be_bytes().to_vec()));
                return self.other(
                    "tproxy",
                    &[
                        (NFTA_TPROXY_FAMILY, nfproto(*family).into()),
                        (NFTA_TPROXY_REG_PORT, R1.into()),
                    ],
                );
            }
            Statement::SetMark(mark) => {
                self.immediate(R1, DataAttribute::Value(mark.to_ne_bytes().to_vec()));
                return self.set_meta(MetaKey::Mark);
            }
            Statement::SaveMark => {
                self.load_meta(MetaKey::Mark);
                return self.set_ct(NFT_CT_MARK);
            }
            Statement::RestoreMark => {
                self.load_ct(NFT_CT_MARK);
                return self.set_meta(MetaKey::Mark);
            }
            Statement::SetZone(zone) => {
                self.immediate(R1, DataAttribute::Value(zone.to_ne_bytes().to_vec()));
                return self.set_ct(NFT_CT_ZONE);
            }
            Statement::Other(_) => return self.never(),
        };
        self.immediate(Register::Verdict, DataAttribute::Verdict(verdict));
    }

    fn immediate(&mut self, register: Register, data: DataAttribute) {
        self.expressions.push(Expressions::Immediate(vec![
            Immediate::DestinationRegister(register),
            Immediate::Data(data),
        ]));
    }

    fn address(&mut self, side: Side, not: bool, networks: &Networks) {
        let (offset, length) = address_field(networks.family(), side);
        self.load_payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length);
        let one = match networks {
            Networks::V4(list) => {
                if let [n] = list.as_slice() {
                    Some((
                        n.addr().octets().to_vec(),
                        n.netmask().octets().to_vec(),
                        n.prefix_len() == 32,
                    ))
                } else {
                    None
                }
            }
            Networks::V6(list) => {
                if let [n] = list.as_slice() {
                    Some((
                        n.addr().octets().to_vec(),
                        n.netmask().octets().to_vec(),
                        n.prefix_len() == 128,
                    ))
                } else {
                    None
                }
            }
        };
        match one {
            Some((address, mask, host)) => {
                if !host {
                    self.mask(mask);
                }
                self.compare(not, address);
            }
            None => {
                let (kind, elements) = intervals(networks);
                self.lookup(not, kind, SetFlags::Interval, elements);
            }
        }
    }

    /// One value is compared, several are looked up.
    fn one_of(&mut self, not: bool, kind: KeyType, elements: Vec<Element>) {
        match <[Element; 1]>::try_from(elements) {
            Ok([one]) => self.compare(not, one.key),
            Err(several) => self.lookup(not, kind, SetFlags::empty(), several),
        }
    }

    fn lookup(&mut self, not: bool, kind: KeyType, flags: SetFlags, elements: Vec<Element>) {
        self.encoder.sets += 1;
        let id = self.encoder.sets; // the kernel numbers names by itself, so only the id tells two sets of one rule apart
        self.messages.push(NfTablesMessage::NewSet(SetMessage {
            attributes: vec![
                SetAttribute::Table(TABLE.into()),
                SetAttribute::Name(ANONYMOUS.into()),
                SetAttribute::Id(id),
                SetAttribute::Flags(SetFlags::Anonymous | SetFlags::Constant | flags),
                SetAttribute::KeyType(kind.number),
                SetAttribute::KeyLen(kind.length),
                SetAttribute::UserData(kind.user_data()),
                SetAttribute::Description(vec![SetDescription::Size(elements.len() as u32)]),
            ],
        }));
        let element = |e: Element| {
            let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(e.key))];
            if e.interval_end {
                attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd));
            }
            ListAttribute::Element(attributes)
        };
        self.messages
            .push(NfTablesMessage::NewSetElement(SetElementMessage {
                attributes: vec![
                    SetElementList::Table(TABLE.into()),
                    SetElementList::Set(ANONYMOUS.into()),
                    SetElementList::SetId(id),
                    SetElementList::Elements(elements.into_iter().map(element).collect()),
                ],
            }));
        let mut attributes = vec![
            Lookup::Set(ANONYMOUS.into()),
            Lookup::SourceRegister(R1),
            Lookup::SetId(id),
        ];
        if not {
            attributes.push(Lookup::Flags(NFT_LOOKUP_F_INV));
        }
        self.expressions.push(Expressions::Lookup(attributes));
    }

    fn load_meta(&mut self, key: MetaKey) {
        self.expressions.push(Expressions::Meta(vec![
            Meta::Key(key),
            Meta::DestinationRegister(R1),
        ]));
    }

    fn set_meta(&mut self, key: MetaKey) {
        self.expressions.push(Expressions::Meta(vec![
            Meta::Key(key),
            Meta::SourceRegister(R1),
        ]));
    }

    fn load_ct(&mut self, key: u32) {
        self.other("ct", &[(NFTA_CT_KEY, key), (NFTA_CT_DREG, R1.into())]);
    }

    fn set_ct(&mut self, key: u32) {
        self.other("ct", &[(NFTA_CT_KEY, key), (NFTA_CT_SREG, R1.into())]);
    }

    fn load_payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expressions.push(Expressions::Payload(vec![
            Payload::DestinationRegister(R1),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length),
        ]));
    }

    fn mask(&mut self, mask: Vec<u8>) {
        self.expressions.push(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(R1),
            Bitwise::DestinationRegister(R1),
            Bitwise::Length(mask.len() as u32),
            Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
            Bitwise::Mask(DataAttribute::Value(mask)),
        ]));
    }

    fn compare(&mut self, not: bool, value: Vec<u8>) {
        let op = if not {
            Operator::NotEqual
        } else {
            Operator::Equal
        };
        self.expressions.push(Expressions::Cmp(vec![
            Cmp::SourceRegister(R1),
            Cmp::Op(op),
            Cmp::Data(DataAttribute::Value(value)),
        ]));
    }

    /// An expression whose attributes are numbers and which the packet crate does not know.
    fn other(&mut self, name: &str, attributes: &[(u16, u32)]) {
        let attributes = attributes
            .iter()
            .map(|(kind, value)| DefaultNla::new(*kind, value.to_be_bytes().to_vec()))
            .collect();
        self.expressions.push(Expressions::Other {
            expression_type: name.into(),
            attributes,
        });
    }

    /// What was read from a kernel and is not ours is never written: the kernel refuses an expression of no name.
    fn never(&mut self) {
        self.other("", &[]);
    }
}

/// `NFPROTO_*`
pub(super) fn nfproto(family: Family) -> u8 {
    match family {
        Family::Ipv4 => NFPROTO_IPV4,
        Family::Ipv6 => NFPROTO_IPV6,
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
