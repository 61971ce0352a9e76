//! Reads and writes policy rules and the routes of our table.

use super::{
    Header,
    read::{Message, Route, number},
    uapi::{self, kind, rule},
};
use crate::{
    kernel::netlink::nla,
    plan::{
        packet::{Family, TPROXY_MARK},
        routing::{LocalRoute, PRIORITY, PolicyRule, RoutingEntry, TABLE},
    },
};

/// `local default dev lo table 133`
pub(super) fn local_route(family: Family) -> Vec<u8> {
    let scope = match family {
        Family::Ipv4 => uapi::HOST,
        Family::Ipv6 => uapi::EVERYWHERE,
    };
    let mut payload = Header::route(family, TABLE as u8, uapi::BOOT, scope, uapi::LOCAL).to_vec();
    nla::put(&mut payload, uapi::route::TABLE, &TABLE.to_ne_bytes());
    nla::put(&mut payload, uapi::route::OUT, &uapi::LO.to_ne_bytes());
    payload
}

/// `from all fwmark 0x539 lookup 133`
pub(super) fn policy_rule(family: Family) -> Vec<u8> {
    let mut payload = Header::rule(family, TABLE as u8, uapi::TO_TABLE).to_vec();
    for (kind, value) in [
        (rule::PRIORITY, PRIORITY),
        (rule::MARK, TPROXY_MARK),
        (rule::MASK, u32::MAX),
        (rule::TABLE, TABLE),
    ] {
        nla::put(&mut payload, kind, &value.to_ne_bytes());
    }
    payload
}

/// What a policy rule is to us.
#[derive(Debug, Clone)]
pub(super) enum PolicyRuleKind {
    Ours(RoutingEntry<PolicyRule>),
    /// The kernel's own first rule.
    Local,
    /// By its priority.
    Foreign(u32, String),
}

impl PolicyRuleKind {
    /// `None` where it cannot be read.
    pub(super) fn of(family: Family, message: Message<'_>) -> Option<Self> {
        let (header, attributes) = message.parts::<12>(kind::NEW_RULE)?;
        let [of, to, from, tos, table, _, _, action, flags @ ..] = *header;
        if of != number(family) {
            return None;
        }
        let (mut priority, mut mark, mut table) = (0, None, u32::from(table));
        let mut is_plain = (to, from, tos, action, flags) == (0, 0, 0, uapi::TO_TABLE, [0; 4]);
        for attribute in attributes {
            match attribute.kind {
                rule::PRIORITY => priority = attribute.native()?,
                rule::MARK => mark = Some(attribute.native()?),
                rule::TABLE => table = attribute.native()?,
                rule::MASK | rule::SUPPRESS_PREFIX_LENGTH => {
                    is_plain &= attribute.native()? == u32::MAX
                }
                rule::PROTOCOL => {}
                _ => is_plain = false,
            }
        }
        let text = || {
            let mark = mark.map_or_else(String::new, |m| format!(" fwmark {m:#x}"));
            let more = if is_plain {
                ""
            } else {
                " (with more conditions)"
            };
            format!("{priority}:{mark} lookup {table}{more}")
        };
        Some(
            match (mark == Some(TPROXY_MARK) && table == TABLE, is_plain) {
                (true, true) => Self::Ours(RoutingEntry::Ours(family, PolicyRule)),
                (true, false) => Self::Ours(RoutingEntry::Other(family, text())),
                (false, true) if table == uapi::TABLE_LOCAL && mark.is_none() => Self::Local,
                // the kernel's own last rules
                (false, true) if mark.is_none() && priority >= LAST => Self::Local,
                (false, _) => Self::Foreign(priority, text()),
            },
        )
    }
}

/// The priority of the kernel's rule for the main table; that for the default one comes after it.
const LAST: u32 = 32766;

/// A route of our table.
pub(super) fn entry(family: Family, route: &Route) -> RoutingEntry<LocalRoute> {
    let is_ours =
        route.is_plain && (route.length, route.kind) == (0, uapi::LOCAL) && route.out == [uapi::LO];
    if is_ours {
        return RoutingEntry::Ours(family, LocalRoute);
    }
    let out: Vec<_> = route.out.iter().map(u32::to_string).collect();
    let what = format!(
        "of type {} to /{} by interface {}",
        route.kind,
        route.length,
        out.join(", ")
    );
    RoutingEntry::Other(family, what)
}
