//! An nftables ruleset as plain values: what is lowered, rendered, sent to the kernel, read back and compared.
//!
//! Every value is canonical, so that equal meaning is equal value: sets are ordered, networks are aggregated.

mod lower;
mod text;

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};

pub(super) use self::lower::table;
use super::packet::{CtState, Direction, Family, Protocol, Side};
use crate::profile::IfName;

/// The name of our one table, of family `inet`.
pub const TABLE: &str = "mesh-optin";

/// The table: its chains by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub struct Table {
    /// `NFT_TABLE_F_*`; none is ever planned (a dormant table does nothing).
    pub flags: u32,
    pub chains: Vec<Chain>,
    /// The number of sets, maps, objects and flowtables that none of its rules uses as ours do; none is ever planned.
    pub unnamed: u32,
    /// There is more in it than is ever read; nothing of that is ours.
    pub is_cut: bool,
}

impl Table {
    /// Where its base chains are attached.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> + Clone {
        self.chains.iter().filter_map(|chain| chain.hook.as_ref())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub struct Chain {
    pub name: String,
    /// Of a base chain.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// Where a base chain is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub struct Hook {
    pub kind: ChainType,
    pub point: HookPoint,
    pub priority: i32,
    /// The policy is accept; nothing else is ever planned.
    pub accepts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub enum ChainType {
    Nat,
    Filter,
    /// A packet is rerouted if its mark was changed.
    Route,
    /// Not ours.
    Other(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub enum HookPoint {
    Prerouting,
    Output,
    /// Not ours, by its number.
    Other(u32),
}

/// All matches hold -> statements, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub struct Rule {
    pub matches: Vec<Match>,
    pub statements: Vec<Statement>,
}

/// One condition. A set of one element is a plain comparison in the kernel, a larger one an anonymous set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `meta nfproto`
    Family(Family),
    /// `meta l4proto`
    Protocol(Protocol),
    /// `iifname`, `oifname`
    Interface {
        /// Incoming or outgoing.
        direction: Direction,
        /// The interface is none of these.
        not: bool,
        /// The names.
        names: BTreeSet<IfName>,
    },
    /// `ip saddr`, `ip6 daddr` ...; a match of the family comes before it
    Address {
        /// Source or destination.
        side: Side,
        /// The address is in none of these.
        not: bool,
        /// The networks.
        networks: Networks,
    },
    /// `tcp dport`, `udp sport` ...; a match of the protocol comes before it
    Port {
        /// Source or destination.
        side: Side,
        /// The port is none of these.
        not: bool,
        /// The ports.
        ports: BTreeSet<u16>,
    },
    /// `meta skuid`: the socket's owner. A packet without a socket never matches.
    SocketUser(u32),
    /// `meta skgid`: the socket's owning group.
    SocketGroup(BTreeSet<u32>),
    /// `ct state`
    CtState(CtState),
    /// `meta mark`
    Mark {
        /// The mark is another.
        not: bool,
        /// The mark.
        mark: u32,
    },
    /// `ct mark`
    CtMark(u32),
    /// Not ours; said as far as it was understood.
    Other(String),
}

/// Networks of one family: truncated, aggregated, ordered, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Networks {
    V4(Vec<Ipv4Net>),
    V6(Vec<Ipv6Net>),
}

impl Networks {
    /// The canonical form of IPv4 networks; `None` where there are none.
    pub fn v4(networks: &[Ipv4Net]) -> Option<Self> {
        (!networks.is_empty()).then(|| {
            Self::V4(Ipv4Net::aggregate(
                &networks.iter().map(Ipv4Net::trunc).collect(),
            ))
        })
    }

    /// The canonical form of IPv6 networks; `None` where there are none.
    pub fn v6(networks: &[Ipv6Net]) -> Option<Self> {
        (!networks.is_empty()).then(|| {
            Self::V6(Ipv6Net::aggregate(
                &networks.iter().map(Ipv6Net::trunc).collect(),
            ))
        })
    }

    /// Their family.
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::Ipv4,
            Self::V6(_) => Family::Ipv6,
        }
    }
}

/// What becomes of a packet that matches. The first four end a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are nftables'")]
pub enum Statement {
    Return,
    Accept,
    Drop,
    Jump(String),
    /// `redirect to :port`
    Redirect(u16),
    /// `tproxy ip to :port`; where nothing listens there, the rule does not match
    Tproxy(Family, u16),
    /// `meta mark set`
    SetMark(u32),
    /// `ct mark set meta mark`
    SaveMark,
    /// `meta mark set ct mark`
    RestoreMark,
    /// `ct zone set`; a packet keeps the first zone that it is given
    SetZone(u16),
    /// Not ours.
    Other(String),
}
