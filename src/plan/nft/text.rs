//! The ruleset as `nft` writes it.

use std::fmt::{self, Display, Formatter};

use super::{Chain, ChainType, Hook, HookPoint, Match, Networks, Rule, Statement, TABLE, Table};
use crate::plan::packet::{CtState, Direction, Family, Side};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        // nft wants a chain before a rule that jumps to it
        let (regular, base): (Vec<_>, Vec<_>) = self.chains.iter().partition(|c| c.hook.is_none());
        for chain in regular.into_iter().chain(base) {
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = &self.hook {
            writeln!(f, "\t\t{hook}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            ChainType::Nat => "nat",
            ChainType::Filter => "filter",
            ChainType::Route => "route",
            ChainType::Other(name) => name,
        };
        write!(f, "type {kind} hook ")?;
        match self.point {
            HookPoint::Prerouting => f.write_str("prerouting")?,
            HookPoint::Output => f.write_str("output")?,
            HookPoint::Other(number) => write!(f, "{number}")?,
        }
        write!(
            f,
            " priority {}; policy {};",
            self.priority,
            if self.accepts { "accept" } else { "drop" }
        )
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut matches = self.matches.iter().peekable();
        while let Some(this) = matches.next() {
            // nft writes the family and the protocol as part of what needs them
            match (this, matches.peek()) {
                (Match::Family(_), Some(Match::Address { .. })) => {}
                (Match::Protocol(protocol), Some(Match::Port { .. })) => {
                    write!(f, "{} ", protocol.as_str())?
                }
                (_, Some(_)) => write!(f, "{this} ")?,
                (_, None) => write!(f, "{this}")?,
            }
        }
        for (at, statement) in self.statements.iter().enumerate() {
            write!(
                f,
                "{}{statement}",
                if at > 0 || !self.matches.is_empty() {
                    " "
                } else {
                    ""
                }
            )?;
        }
        Ok(())
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = |not: &bool| if *not { "!= " } else { "" };
        match self {
            Self::Family(Family::Ipv4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::Ipv6) => f.write_str("meta nfproto ipv6"),
            Self::Protocol(protocol) => write!(f, "meta l4proto {}", protocol.as_str()),
            Self::Interface {
                direction,
                not,
                names,
            } => {
                let key = match direction {
                    Direction::In => "iifname",
                    Direction::Out => "oifname",
                };
                write!(
                    f,
                    "{key} {}{}",
                    op(not),
                    set(names.iter().map(|n| format!("\"{n}\"")))
                )
            }
            Self::Address {
                side,
                not,
                networks,
            } => {
                let side = match side {
                    Side::Source => "saddr",
                    Side::Destination => "daddr",
                };
                match networks {
                    Networks::V4(list) => {
                        write!(
                            f,
                            "ip {side} {}{}",
                            op(not),
                            set(list
                                .iter()
                                .map(|n| network(n, n.addr(), n.prefix_len() == 32)))
                        )
                    }
                    Networks::V6(list) => {
                        write!(
                            f,
                            "ip6 {side} {}{}",
                            op(not),
                            set(list
                                .iter()
                                .map(|n| network(n, n.addr(), n.prefix_len() == 128)))
                        )
                    }
                }
            }
            Self::Port {
                side: Side::Source,
                not,
                ports,
            } => write!(f, "sport {}{}", op(not), set(ports)),
            Self::Port {
                side: Side::Destination,
                not,
                ports,
            } => write!(f, "dport {}{}", op(not), set(ports)),
            Self::SocketUser(uid) => write!(f, "meta skuid {uid}"),
            Self::SocketGroup(gids) => write!(f, "meta skgid {}", set(gids)),
            Self::CtState(CtState::Invalid) => f.write_str("ct state invalid"),
            Self::CtState(CtState::RelatedOrEstablished) => {
                f.write_str("ct state established,related")
            }
            Self::Mark { not, mark } => write!(f, "meta mark {}{mark:#x}", op(not)),
            Self::CtMark(mark) => write!(f, "ct mark {mark:#x}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::Tproxy(Family::Ipv4, port) => write!(f, "tproxy ip to :{port}"),
            Self::Tproxy(Family::Ipv6, port) => write!(f, "tproxy ip6 to :{port}"),
            Self::SetMark(mark) => write!(f, "meta mark set {mark:#x}"),
            Self::SaveMark => f.write_str("ct mark set meta mark"),
            Self::RestoreMark => f.write_str("meta mark set ct mark"),
            Self::SetZone(zone) => write!(f, "ct zone set {zone}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

fn network(network: impl Display, address: impl Display, whole: bool) -> String {
    if whole {
        address.to_string()
    } else {
        network.to_string()
    }
}

fn set<T: Display>(elements: impl IntoIterator<Item = T>) -> String {
    let elements: Vec<_> = elements.into_iter().map(|e| e.to_string()).collect();
    match elements.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}
