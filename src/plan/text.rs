//! The ruleset as `nft` writes it.

use std::fmt::{self, Display, Formatter};

use super::nft::{Chain, ChainType, Direction, Family, Hook, HookPoint, Match, Networks, Rule, Side, TABLE, Table, Verdict};

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
            ChainType::Other(name) => name,
        };
        write!(f, "type {kind} hook ")?;
        match self.point {
            HookPoint::Prerouting => f.write_str("prerouting")?,
            HookPoint::Output => f.write_str("output")?,
            HookPoint::Other(number) => write!(f, "{number}")?,
        }
        write!(f, " priority {}; policy {};", self.priority, if self.accepts { "accept" } else { "drop" })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut matches = self.matches.iter().peekable();
        while let Some(this) = matches.next() {
            // nft writes the family and the protocol as part of what needs them
            match (this, matches.peek()) {
                (Match::Family(_), Some(Match::Address { .. })) | (Match::Tcp, Some(Match::DestinationPort { .. })) => {}
                _ => write!(f, "{this} ")?,
            }
        }
        write!(f, "{}", self.verdict)
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = |not: &bool| if *not { "!= " } else { "" };
        match self {
            Self::Family(Family::Ipv4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::Ipv6) => f.write_str("meta nfproto ipv6"),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::Interface { direction, not, names } => {
                let key = match direction {
                    Direction::In => "iifname",
                    Direction::Out => "oifname",
                };
                write!(f, "{key} {}{}", op(not), set(names.iter().map(|n| format!("\"{n}\""))))
            }
            Self::Address { side, not, networks } => {
                let side = match side {
                    Side::Source => "saddr",
                    Side::Destination => "daddr",
                };
                match networks {
                    Networks::V4(list) => {
                        write!(f, "ip {side} {}{}", op(not), set(list.iter().map(|n| network(n, n.addr(), n.prefix_len() == 32))))
                    }
                    Networks::V6(list) => {
                        write!(f, "ip6 {side} {}{}", op(not), set(list.iter().map(|n| network(n, n.addr(), n.prefix_len() == 128))))
                    }
                }
            }
            Self::DestinationPort { not, ports } => write!(f, "tcp dport {}{}", op(not), set(ports)),
            Self::SocketUser(uid) => write!(f, "meta skuid {uid}"),
            Self::SocketGroup(gids) => write!(f, "meta skgid {}", set(gids)),
            Self::Invalid => f.write_str("ct state invalid"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

fn network(network: impl Display, address: impl Display, whole: bool) -> String {
    if whole { address.to_string() } else { network.to_string() }
}

fn set<T: Display>(elements: impl IntoIterator<Item = T>) -> String {
    let elements: Vec<_> = elements.into_iter().map(|e| e.to_string()).collect();
    match elements.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}
