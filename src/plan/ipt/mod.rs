//! The iptables form of a plan as plain values: what is lowered, rendered, read back from `iptables-save` and compared.
//!
//! It is Istio's, chain names included, so that users' habits and tools keep working; `corrections` lists where it differs and why.

mod compare;
mod corrections;
mod lower;
mod parse;
mod text;

use ipnet::IpNet;

pub use self::{
    compare::{HARMLESS, compare, differences, in_front, is_untouched},
    parse::parse,
    text::{removal, replacement},
};
pub(super) use lower::ruleset;

use super::packet::{CtState, Direction, Family, Protocol, Side};
use crate::profile::IfName;

/// How the names of our chains begin.
const OURS: &str = "ISTIO_";

/// The rules of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are iptables'")]
pub struct Ruleset {
    pub family: Family,
    /// By name; only those that have rules of ours where it is planned.
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are iptables'")]
pub struct Table {
    pub name: TableName,
    pub chains: Vec<Chain>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are iptables'")]
pub enum TableName {
    Mangle,
    Nat,
    Raw,
}

impl TableName {
    /// All, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Mangle, Self::Nat, Self::Raw];

    /// As iptables writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are iptables'")]
pub struct Chain {
    pub name: String,
    /// Of a built-in chain: ACCEPT, or something else that was found.
    pub policy: Option<String>,
    pub rules: Vec<Rule>,
}

/// All matches hold -> target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are iptables'")]
pub struct Rule {
    /// In the order in which `iptables-save` writes them: addresses, interfaces, protocol, then modules.
    pub matches: Vec<Match>,
    pub target: Target,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `-s`, `-d`; truncated and not everything (which is no condition).
    Address {
        /// Source or destination.
        side: Side,
        /// The address is not in it.
        not: bool,
        /// The network.
        network: IpNet,
    },
    /// `-i`, `-o`
    Interface(Direction, IfName),
    /// `-p`
    Protocol(Protocol),
    /// `-m tcp --dport` ...; the protocol comes before it.
    Port {
        /// The protocol.
        protocol: Protocol,
        /// Source or destination.
        side: Side,
        /// The port is another.
        not: bool,
        /// The port.
        port: u16,
    },
    /// `-m multiport --dports`
    DestinationPorts {
        /// The port is none of these.
        not: bool,
        /// The ports.
        ports: Vec<u16>,
    },
    /// `-m owner`; without a socket the negated form matches.
    Owner {
        /// The owner is another.
        not: bool,
        /// The owner.
        owner: SocketOwner,
    },
    /// `-m conntrack --ctstate`
    CtState(CtState),
    /// `-m mark`
    Mark {
        /// The mark is another.
        not: bool,
        /// The mark.
        mark: u32,
    },
    /// `-m connmark`
    ConnMark(u32),
    /// Not ours; as it was written.
    Other(String),
}

/// A socket's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SocketOwner {
    User(u32),
    Group(u32),
}

/// What becomes of a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `-j RETURN`
    Return,
    /// `-j ACCEPT`
    Accept,
    /// `-j DROP`
    Drop,
    /// `-j` to one of our chains.
    Jump(String),
    /// `-g`: none of ours.
    Goto(String),
    /// `-j REDIRECT --to-ports`
    Redirect(u16),
    /// `-j TPROXY --on-port`, to any address, with the mark.
    Tproxy(Family, u16, u32),
    /// `-j MARK --set-xmark`
    SetMark(u32),
    /// `-j CONNMARK --save-mark`
    SaveMark,
    /// `-j CONNMARK --restore-mark`
    RestoreMark,
    /// `-j CT --zone`
    SetZone(u16),
    /// Not ours; as it was written.
    Other(String),
}

impl Rule {
    fn new(matches: impl IntoIterator<Item = Match>, target: Target) -> Self {
        Self {
            matches: matches.into_iter().collect(),
            target,
        }
    }
}

impl Match {
    fn of_in(name: &IfName) -> Self {
        Self::Interface(Direction::In, name.clone())
    }

    fn of_out(name: &IfName) -> Self {
        Self::Interface(Direction::Out, name.clone())
    }
}

impl Ruleset {
    /// One of its tables.
    pub fn table(&self, name: TableName) -> Option<&Table> {
        self.tables.iter().find(|t| t.name == name)
    }
}

impl Table {
    /// One of its chains.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }
}
