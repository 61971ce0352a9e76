//! One rule of `iptables-save`, word by word.

use std::iter::Peekable;

use ipnet::IpNet;

use super::super::{Match, Rule, SocketOwner, Target};
use super::words;
use crate::{
    plan::packet::{CtState, Direction, Family, Protocol, Side},
    profile::IfName,
};

/// Modules whose matches say all that counts.
const MODULES: [&str; 7] = [
    "tcp",
    "udp",
    "multiport",
    "owner",
    "conntrack",
    "mark",
    "connmark",
];

pub(super) struct Reader<'a> {
    family: Family,
    words: Peekable<std::vec::IntoIter<&'a str>>,
    module: &'a str,
    matches: Vec<Match>,
    /// What follows `-j`.
    target: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    pub(super) fn read(family: Family, rule: &'a str) -> Rule {
        let words = words(rule).into_iter().peekable();
        let mut reader = Reader {
            family,
            words,
            module: "",
            matches: vec![],
            target: vec![],
        };
        while let Some(word) = reader.words.next() {
            reader.option(word);
        }
        let target = reader.target();
        Rule {
            matches: reader.matches,
            target,
        }
    }

    fn option(&mut self, word: &'a str) {
        if !self.target.is_empty() {
            return self.target.push(word);
        }
        let not = word == "!";
        let option = if not {
            self.words.next().unwrap_or_default()
        } else {
            word
        };
        let value = self
            .words
            .peek()
            .copied()
            .filter(|v| !v.starts_with('-') && *v != "!");
        if value.is_some() {
            self.words.next();
        }
        let value = value.unwrap_or_default();
        match option {
            "-j" if !not => self.target.push(value),
            "-g" if !not => self.target.extend(["-g", value]),
            "-m" if MODULES.contains(&value) => self.module = value,
            _ => {
                let read = self.condition(not, option, value).unwrap_or_else(|| {
                    let module = if option.starts_with("--") && !self.module.is_empty() {
                        format!("-m {} ", self.module)
                    } else {
                        String::new()
                    };
                    Match::Other(
                        [
                            module.as_str(),
                            if not { "! " } else { "" },
                            option,
                            " ",
                            value,
                        ]
                        .concat()
                        .trim_end()
                        .to_owned(),
                    )
                });
                self.matches.push(read);
                if option == "-m" {
                    self.module = ""; // none that we know
                }
            }
        }
    }

    fn condition(&self, not: bool, option: &str, value: &str) -> Option<Match> {
        let address = |side| {
            Some(Match::Address {
                side,
                not,
                network: network(value)?,
            })
        };
        let interface =
            |direction| (!not).then_some(Match::Interface(direction, IfName::of_kernel(value)?));
        let owner = |owner: fn(u32) -> SocketOwner| {
            Some(Match::Owner {
                not,
                owner: owner(value.parse().ok()?),
            })
        };
        let port = |side| {
            Some(Match::Port {
                protocol: protocol(self.module)?,
                side,
                not,
                port: value.parse().ok()?,
            })
        };
        match (self.module, option) {
            (_, "-s") => address(Side::Source),
            (_, "-d") => address(Side::Destination),
            (_, "-i") => interface(Direction::In),
            (_, "-o") => interface(Direction::Out),
            (_, "-p") if !not => protocol(value).map(Match::Protocol),
            (_, "--sport") => port(Side::Source),
            (_, "--dport") => port(Side::Destination),
            ("multiport", "--dports") => {
                let ports = value
                    .split(',')
                    .map(|p| p.parse().ok())
                    .collect::<Option<_>>()?;
                Some(Match::DestinationPorts { not, ports })
            }
            ("owner", "--uid-owner") => owner(SocketOwner::User),
            ("owner", "--gid-owner") => owner(SocketOwner::Group),
            ("conntrack", "--ctstate") if !not => ct_state(value),
            ("mark", "--mark") => Some(Match::Mark {
                not,
                mark: number(value)?,
            }),
            ("connmark", "--mark") if !not => number(value).map(Match::ConnMark),
            _ => None,
        }
    }

    fn target(&self) -> Target {
        let other = || Target::Other(self.target.join(" "));
        let (Some(name), options) = (
            self.target.first(),
            self.target.get(1..).unwrap_or_default(),
        ) else {
            return Target::Other("(none)".into());
        };
        match *name {
            "RETURN" if options.is_empty() => Target::Return,
            "ACCEPT" if options.is_empty() => Target::Accept,
            "DROP" if options.is_empty() => Target::Drop,
            "REDIRECT" => match options {
                ["--to-ports", port] => port
                    .parse()
                    .map_or_else(|_not_one_port| other(), Target::Redirect),
                _ => other(),
            },
            "MARK" => match options {
                ["--set-xmark" | "--set-mark", mark] => {
                    number(mark).map_or_else(other, Target::SetMark)
                }
                _ => other(),
            },
            "CONNMARK" => match options {
                ["--save-mark"] | ["--save-mark", "--nfmask", FULL, "--ctmask", FULL] => {
                    Target::SaveMark
                }
                ["--restore-mark"] | ["--restore-mark", "--nfmask", FULL, "--ctmask", FULL] => {
                    Target::RestoreMark
                }
                _ => other(),
            },
            "TPROXY" => self.tproxy(options).unwrap_or_else(other),
            "CT" => match options {
                ["--zone", zone] => zone
                    .parse()
                    .map_or_else(|_no_number| other(), Target::SetZone),
                _ => other(),
            },
            "-g" => Target::Goto(options.join(" ")),
            chain if options.is_empty() && !chain.is_empty() => Target::Jump(chain.into()),
            _ => other(),
        }
    }

    fn tproxy(&self, options: &[&str]) -> Option<Target> {
        let any = match self.family {
            Family::Ipv4 => "0.0.0.0",
            Family::Ipv6 => "::",
        };
        match options {
            ["--on-port", port, "--on-ip", ip, "--tproxy-mark", mark] if *ip == any => Some(
                Target::Tproxy(self.family, port.parse().ok()?, number(mark)?),
            ),
            _ => None,
        }
    }
}

const FULL: &str = "0xffffffff";

fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        _ => None,
    }
}

/// A network without host bits, and not everything.
fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok()?;
    (network == network.trunc() && network.prefix_len() > 0).then_some(network)
}

/// A number under the full mask.
fn number(text: &str) -> Option<u32> {
    let text = text.strip_suffix("/0xffffffff").unwrap_or(text);
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

fn ct_state(text: &str) -> Option<Match> {
    match text {
        "INVALID" => Some(Match::CtState(CtState::Invalid)),
        "RELATED,ESTABLISHED" | "ESTABLISHED,RELATED" => {
            Some(Match::CtState(CtState::RelatedOrEstablished))
        }
        _ => None,
    }
}
