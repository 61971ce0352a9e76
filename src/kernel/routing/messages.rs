//! Messages of rtnetlink, written and read.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open, and what is unknown is never ours"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::{
    IpVersion, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressMessage},
        route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
    },
};

use super::RT_TABLE_LOCAL;
use crate::{
    kernel::interfaces::LO_INDEX,
    plan::{
        packet::{Family, TPROXY_MARK},
        routing::{Entry, LocalRoute, PRIORITY, PolicyRule, TABLE},
    },
};

pub(super) fn version(family: Family) -> IpVersion {
    match family {
        Family::Ipv4 => IpVersion::V4,
        Family::Ipv6 => IpVersion::V6,
    }
}

pub(super) fn address_message(address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = LO_INDEX;
    message.header.prefix_len = address.prefix_len();
    message.header.family = address_family(Family::of(address));
    message
        .attributes
        .push(AddressAttribute::Address(address.addr()));
    message
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

pub(super) fn any_route(family: Family) -> RouteMessage {
    match family {
        Family::Ipv4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        Family::Ipv6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    }
}

pub(super) fn local_route(family: Family) -> RouteMessage {
    match family {
        Family::Ipv4 => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
                .scope(RouteScope::Host);
            route
                .kind(RouteType::Local)
                .protocol(RouteProtocol::Boot)
                .table_id(TABLE)
                .output_interface(LO_INDEX)
                .build()
        }
        Family::Ipv6 => {
            let route =
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(Ipv6Addr::UNSPECIFIED, 0);
            route
                .kind(RouteType::Local)
                .protocol(RouteProtocol::Boot)
                .table_id(TABLE)
                .output_interface(LO_INDEX)
                .build()
        }
    }
}

pub(super) fn rule_message(family: Family, priority: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    message.header.table = TABLE as u8;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(priority),
        RuleAttribute::FwMark(TPROXY_MARK),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(TABLE),
    ];
    message
}

/// What a policy rule is to us.
pub(super) enum Policy {
    Ours(Entry<PolicyRule>),
    /// Somebody else's, that may decide before ours.
    InFront(String),
    Behind,
}

pub(super) fn policy_rule(family: Family, message: &RuleMessage) -> Policy {
    let (mut priority, mut mark, mut table, mut plain) =
        (0, None, message.header.table.into(), true);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(p) => priority = *p,
            RuleAttribute::FwMark(m) => mark = Some(*m),
            RuleAttribute::FwMask(u32::MAX)
            | RuleAttribute::Protocol(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::Table(t) => table = *t,
            _ => plain = false,
        }
    }
    let header = &message.header;
    let to_table = header.action == RuleAction::ToTable && header.flags == RuleFlags::empty();
    plain &= to_table && (header.src_len, header.dst_len, header.tos) == (0, 0, 0);
    let ours = mark == Some(TPROXY_MARK) && table == TABLE;
    let text = || {
        let mark = mark.map_or_else(String::new, |m| format!(" fwmark {m:#x}"));
        format!(
            "{priority}:{mark} lookup {table}{}",
            if plain { "" } else { " (with more conditions)" }
        )
    };
    match (ours, plain) {
        (true, true) => Policy::Ours(Entry::Ours(family, PolicyRule { priority })),
        (true, false) => Policy::Ours(Entry::Other(family, text())),
        // the kernel's own first rule
        (false, true) if table == RT_TABLE_LOCAL && mark.is_none() => Policy::Behind,
        (false, _) if priority <= PRIORITY => Policy::InFront(text()),
        (false, _) => Policy::Behind,
    }
}

/// A route of our table; `None` if it is of another.
pub(super) fn route(family: Family, message: &RouteMessage) -> Option<Entry<LocalRoute>> {
    let (mut table, mut out, mut plain) = (message.header.table.into(), None, true);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::Priority(_)
            | RouteAttribute::CacheInfo(_)
            | RouteAttribute::Preference(_)
            | RouteAttribute::Metrics(_) => {}
            _ => plain = false,
        }
    }
    let header = &message.header;
    let everything = (
        header.source_prefix_length,
        header.destination_prefix_length,
        header.tos,
    ) == (0, 0, 0);
    let ours = plain && everything && header.kind == RouteType::Local && out == Some(LO_INDEX);
    let other = || {
        format!(
            "{:?} /{} by interface {}",
            header.kind,
            header.destination_prefix_length,
            out.unwrap_or_default()
        )
    };
    (table == TABLE).then(|| {
        if ours {
            Entry::Ours(family, LocalRoute)
        } else {
            Entry::Other(family, other())
        }
    })
}
