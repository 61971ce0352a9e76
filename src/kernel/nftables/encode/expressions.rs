//! Expressions of nf_tables, one by one.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, NfTablesMessage,
    Operator, Payload, Register, SetAttribute, SetDescription, SetElementList, SetElementMessage,
    SetFlags, SetMessage,
};

use super::super::sets::{Element, KeyType};
use super::*;
use crate::kernel::netlink::nla::{self, NLA_F_NESTED};
use crate::plan::{
    nft::TABLE,
    packet::{CtState, Family, Side},
};

impl RuleEncoder<'_> {
    pub(super) fn immediate(&mut self, register: Register, data: DataAttribute) {
        self.expressions.push(Expressions::Immediate(vec![
            Immediate::DestinationRegister(register),
            Immediate::Data(data),
        ]));
    }

    pub(super) fn lookup(
        &mut self,
        not: bool,
        kind: KeyType,
        flags: SetFlags,
        elements: Vec<Element>,
    ) {
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
        self.messages
            .push(NfTablesMessage::NewSetElement(SetElementMessage {
                attributes: vec![
                    SetElementList::Table(TABLE.into()),
                    SetElementList::Set(ANONYMOUS.into()),
                    SetElementList::SetId(id),
                    SetElementList::Other(DefaultNla::new(
                        NLA_F_NESTED | uapi::elements::LIST,
                        elements_text(&elements),
                    )),
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

    pub(super) fn load_meta(&mut self, key: MetaKey) {
        self.expressions.push(Expressions::Meta(vec![
            Meta::Key(key),
            Meta::DestinationRegister(R1),
        ]));
    }

    pub(super) fn set_meta(&mut self, key: MetaKey) {
        self.expressions.push(Expressions::Meta(vec![
            Meta::Key(key),
            Meta::SourceRegister(R1),
        ]));
    }

    pub(super) fn load_ct(&mut self, key: u32) {
        self.other("ct", &[(uapi::ct::KEY, key), (uapi::ct::TO, R1.into())]);
    }

    pub(super) fn set_ct(&mut self, key: u32) {
        self.other("ct", &[(uapi::ct::KEY, key), (uapi::ct::FROM, R1.into())]);
    }

    pub(super) fn load_payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expressions.push(Expressions::Payload(vec![
            Payload::DestinationRegister(R1),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length),
        ]));
    }

    pub(super) fn mask(&mut self, mask: Vec<u8>) {
        self.expressions.push(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(R1),
            Bitwise::DestinationRegister(R1),
            Bitwise::Length(mask.len() as u32),
            Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
            Bitwise::Mask(DataAttribute::Value(mask)),
        ]));
    }

    pub(super) fn compare(&mut self, not: bool, value: Vec<u8>) {
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
    pub(super) fn other(&mut self, name: &str, attributes: &[(u16, u32)]) {
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
    pub(super) fn never(&mut self) {
        self.other("", &[]);
    }
}

/// The list of a set's elements. Written by hand: the packet crate asks each of them for its length four times.
fn elements_text(elements: &[Element]) -> Vec<u8> {
    use uapi::{data, element, element_flag, elements::ENTRY};
    let mut bytes = Vec::with_capacity(elements.len() * 32);
    for Element { key, interval_end } in elements {
        let value = nla::nested(key.len());
        let of_key = nla::nested(value);
        let flags = if *interval_end { nla::nested(4) } else { 0 };
        nla::begin(&mut bytes, NLA_F_NESTED | ENTRY, of_key + flags);
        nla::begin(&mut bytes, NLA_F_NESTED | element::KEY, value);
        nla::put(&mut bytes, data::VALUE, key);
        if *interval_end {
            let flag = element_flag::INTERVAL_END.to_be_bytes();
            nla::put(&mut bytes, element::FLAGS, &flag);
        }
    }
    bytes
}

/// `NFPROTO_*`
pub(in crate::kernel::nftables) fn nfproto(family: Family) -> u8 {
    match family {
        Family::Ipv4 => NFPROTO_IPV4,
        Family::Ipv6 => NFPROTO_IPV6,
    }
}

/// `NF_CT_STATE_*_BIT`
pub(in crate::kernel::nftables) fn ct_state_bits(state: CtState) -> u32 {
    match state {
        CtState::Invalid => 1,
        CtState::RelatedOrEstablished => 2 | 4,
    }
}

/// Offset of a port in a TCP or UDP header.
pub(in crate::kernel::nftables) fn port_offset(side: Side) -> u32 {
    match side {
        Side::Source => 0,
        Side::Destination => 2,
    }
}

/// Offset and length of an address in its header.
pub(in crate::kernel::nftables) fn address_field(family: Family, side: Side) -> (u32, u32) {
    match (family, side) {
        (Family::Ipv4, Side::Source) => (12, 4),
        (Family::Ipv4, Side::Destination) => (16, 4),
        (Family::Ipv6, Side::Source) => (8, 16),
        (Family::Ipv6, Side::Destination) => (24, 16),
    }
}
