//! What `iptables-save` wrote, as the plan's own types. Strict: what is not understood to the last option is [`Match::Other`] or
//! [`Target::Other`], which nothing planned equals.

use std::iter::Peekable;

use ipnet::IpNet;

use super::{Chain, Match, Owner, Rule, Ruleset, Table, TableName, Target};
use crate::{
    mesh::IfName,
    plan::packet::{CtState, Direction, Family, Protocol, Side},
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

/// The tables that we use; the others are left out.
pub fn parse(family: Family, save: &str) -> Ruleset {
    let mut tables: Vec<Table> = Vec::new();
    let mut ours = false;
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let name = TableName::ALL
                .into_iter()
                .find(|t| t.as_str() == name.trim());
            tables.extend(name.map(|name| Table {
                name,
                chains: vec![],
            }));
            ours = name.is_some();
        }
        let Some(table) = tables.last_mut().filter(|_| ours) else {
            continue;
        };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let policy = words.next().filter(|p| *p != "-").map(str::to_owned);
            table.chains.push(Chain {
                name,
                policy,
                rules: vec![],
            });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (name, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            if let Some(chain) = table.chains.iter_mut().find(|c| c.name == name) {
                chain.rules.push(Reader::read(family, rule));
            }
        }
    }
    Ruleset { family, tables }
}

struct Reader<'a> {
    family: Family,
    words: Peekable<std::vec::IntoIter<&'a str>>,
    module: &'a str,
    matches: Vec<Match>,
    /// What follows `-j`.
    target: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn read(family: Family, rule: &'a str) -> Rule {
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
        let owner = |owner: fn(u32) -> Owner| {
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
            ("owner", "--uid-owner") => owner(Owner::User),
            ("owner", "--gid-owner") => owner(Owner::Group),
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

/// Words, quotes kept: what is quoted is never ours.
fn words(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' if !quoted => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    out.push(&text[start..]);
    out.retain(|w| !w.is_empty());
    out
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        let save = format!(
            "# a comment\n*security\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j DROP\nCOMMIT\n*nat\n:OUTPUT ACCEPT [7:8]\n-A OUTPUT {text}\nCOMMIT\n"
        );
        let rules = parse(Family::Ipv4, &save);
        assert_eq!(rules.tables.len(), 1);
        rules.tables[0].chains[0].rules[0].clone()
    }

    #[test]
    fn what_is_not_ours_is_never_taken_for_it_and_reads_as_it_was_written() {
        for text in [
            "-d 10.0.0.1/255.0.255.0 -j RETURN",
            "-o eth+ -j RETURN",
            "! -o lo -j RETURN",
            "-p tcp -m tcp --dport 1:80 -j RETURN",
            "-p tcp -m comment --comment \"-j ACCEPT \\\" x\" -j RETURN",
            "-m mark --mark 0x539/0xff -j RETURN",
            "-m owner --uid-owner 0-1337 -j RETURN",
            "-m owner --socket-exists -j RETURN",
            "-p icmp -j RETURN",
            "-m limit --limit 1/day -j RETURN",
        ] {
            let rule = rule(text);
            assert!(
                rule.matches.iter().any(|m| matches!(m, Match::Other(_))),
                "{rule:?}"
            );
            assert_eq!(rule.to_string(), text);
        }
        for text in [
            "-p tcp -j REDIRECT --to-ports 1-15001",
            "-p tcp -j REDIRECT --to-ports 15001 --random",
            "-j MARK --set-xmark 0x539/0xff",
            "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xffffffff",
            "-p tcp -j TPROXY --on-port 15006 --on-ip 10.0.0.1 --tproxy-mark 0x539/0xffffffff",
            "-j CT --notrack",
            "-j DNAT --to-destination 10.0.0.1:15001",
        ] {
            let rule = rule(text);
            assert!(matches!(rule.target, Target::Other(_)), "{rule:?}");
            assert_eq!(rule.to_string(), text);
        }
        assert_eq!(
            rule("-p tcp -g ISTIO_OUTPUT").target,
            Target::Goto("ISTIO_OUTPUT".into())
        );
        assert!(matches!(rule("-p tcp").target, Target::Other(_)));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[-!a-zA-Z0-9/:., \"\\\\é\n*]{0,80}") {
            parse(Family::Ipv6, &format!("*nat\n:A - [0:0]\n-A A {text}\n:{text}\n-A {text}\n*{text}"));
        }
    }
}
