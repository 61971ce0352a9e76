//! The rules as `iptables-save` writes them and `iptables-restore` reads them.

use std::fmt::{self, Display, Formatter, Write};

use super::{
    Match, Rule, Ruleset, SocketOwner, Table, TableName, Target,
    compare::{is_ours, ours},
};
use crate::plan::packet::{CtState, Direction, Family, Side};

/// For `iptables-restore` into a namespace that has none of our chains: it fails where there is one already.
impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "*{}", table.name.as_str())?;
            for chain in table.chains.iter().filter(|c| c.policy.is_none()) {
                writeln!(f, "-N {}", chain.name)?;
            }
            write!(f, "{table}")?;
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}

/// The rules of all chains.
impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chain in &self.chains {
            for rule in &chain.rules {
                writeln!(f, "-A {} {rule}", chain.name)?;
            }
        }
        Ok(())
    }
}

/// For `iptables-restore --noflush`: what was found of ours goes, and the rules take its place, in one step for each table.
pub fn replacement(rules: &Ruleset, found: &Ruleset) -> String {
    let mut out = String::new();
    for table in &rules.tables {
        begin(&mut out, rules, found, table.name);
        for chain in table.chains.iter().filter(|c| c.policy.is_none()) {
            line(&mut out, format_args!(":{} - [0:0]", chain.name)); // made, or emptied
        }
        out.push_str(&table.to_string());
        out.push_str("COMMIT\n");
    }
    out
}

/// For `iptables-restore --noflush`: what was found of ours goes.
pub fn removal(rules: &Ruleset, found: &Ruleset) -> String {
    let mut out = String::new();
    for table in &found.tables {
        begin(&mut out, rules, found, table.name);
        let chains = || table.chains.iter().filter(|c| is_ours(c));
        chains().for_each(|c| line(&mut out, format_args!("-F {}", c.name)));
        chains().for_each(|c| line(&mut out, format_args!("-X {}", c.name)));
        out.push_str("COMMIT\n");
    }
    out
}

/// A table's begin, and the end of our rules in its built-in chains.
fn begin(out: &mut String, rules: &Ruleset, found: &Ruleset, name: TableName) {
    line(out, format_args!("*{}", name.as_str()));
    for chain in found
        .table(name)
        .iter()
        .flat_map(|t| &t.chains)
        .filter(|c| !is_ours(c))
    {
        for rule in ours(rules.table(name).and_then(|t| t.chain(&chain.name)), chain) {
            line(out, format_args!("-D {} {rule}", chain.name));
        }
    }
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    writeln!(out, "{text}").ok(); // a String takes everything
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        let option = if matches!(self.target, Target::Goto(_)) {
            "-g"
        } else {
            "-j"
        };
        write!(f, "{option} {}", self.target)
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let inverted = |not: &bool| if *not { "! " } else { "" };
        match self {
            Self::Address {
                side: Side::Source,
                not,
                network,
            } => write!(f, "{}-s {network}", inverted(not)),
            Self::Address {
                side: Side::Destination,
                not,
                network,
            } => write!(f, "{}-d {network}", inverted(not)),
            Self::Interface(Direction::In, name) => write!(f, "-i {name}"),
            Self::Interface(Direction::Out, name) => write!(f, "-o {name}"),
            Self::Protocol(protocol) => write!(f, "-p {}", protocol.as_str()),
            Self::Port {
                protocol,
                side,
                not,
                port,
            } => {
                let option = match side {
                    Side::Source => "--sport",
                    Side::Destination => "--dport",
                };
                write!(
                    f,
                    "-m {} {}{option} {port}",
                    protocol.as_str(),
                    inverted(not)
                )
            }
            Self::DestinationPorts { not, ports } => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                write!(
                    f,
                    "-m multiport {}--dports {}",
                    inverted(not),
                    ports.join(",")
                )
            }
            Self::Owner {
                not,
                owner: SocketOwner::User(id),
            } => write!(f, "-m owner {}--uid-owner {id}", inverted(not)),
            Self::Owner {
                not,
                owner: SocketOwner::Group(id),
            } => write!(f, "-m owner {}--gid-owner {id}", inverted(not)),
            Self::CtState(CtState::Invalid) => f.write_str("-m conntrack --ctstate INVALID"),
            Self::CtState(CtState::RelatedOrEstablished) => {
                f.write_str("-m conntrack --ctstate RELATED,ESTABLISHED")
            }
            Self::Mark { not, mark } => write!(f, "-m mark {}--mark {mark:#x}", inverted(not)),
            Self::ConnMark(mark) => write!(f, "-m connmark --mark {mark:#x}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("RETURN"),
            Self::Accept => f.write_str("ACCEPT"),
            Self::Drop => f.write_str("DROP"),
            Self::Jump(chain) | Self::Goto(chain) => f.write_str(chain),
            Self::Redirect(port) => write!(f, "REDIRECT --to-ports {port}"),
            Self::Tproxy(family, port, mark) => {
                let any = match family {
                    Family::Ipv4 => "0.0.0.0",
                    Family::Ipv6 => "::",
                };
                write!(
                    f,
                    "TPROXY --on-port {port} --on-ip {any} --tproxy-mark {mark:#x}/0xffffffff"
                )
            }
            Self::SetMark(mark) => write!(f, "MARK --set-xmark {mark:#x}/0xffffffff"),
            Self::SaveMark => {
                f.write_str("CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff")
            }
            Self::RestoreMark => {
                f.write_str("CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff")
            }
            Self::SetZone(zone) => write!(f, "CT --zone {zone}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}
