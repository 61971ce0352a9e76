//! The iptables form of a plan, row for row as Istio programs it; [`super::corrections`] has what differs.

use ipnet::IpNet;

use super::{Chain, Match, Owner, Rule, Ruleset, Table, TableName, Target, corrections};
use crate::{
    mesh::{IfName, InterceptionMode, Selection},
    plan::{
        Plan,
        packet::{
            APPLICATION_ZONE, CtState, DNS,
            Direction::In,
            Family, LOOP_MARK,
            Protocol::{self, Tcp, Udp},
            RESOLVER_ZONE,
            Side::{self, Destination, Source},
            TPROXY_MARK,
        },
    },
};

const PREROUTING: &str = "PREROUTING";
const OUTPUT: &str = "OUTPUT";
const INBOUND: &str = "ISTIO_INBOUND";
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const REDIRECT: &str = "ISTIO_REDIRECT";
const ISTIO_OUTPUT: &str = "ISTIO_OUTPUT";
const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";
const DIVERT: &str = "ISTIO_DIVERT";
const TPROXY: &str = "ISTIO_TPROXY";
const ISTIO_DROP: &str = "ISTIO_DROP";

/// The rules of one family.
pub(in crate::plan) fn ruleset(plan: &Plan, family: Family) -> Ruleset {
    let lower = Lower {
        plan,
        family,
        mode: plan.intent.mode,
        lo: IfName::lo(),
    };
    let tables = [
        (TableName::Mangle, lower.mangle()),
        (TableName::Nat, lower.nat()),
        (TableName::Raw, lower.raw()),
    ];
    let tables = tables
        .into_iter()
        .filter(|(_, chains)| !chains.is_empty())
        .map(|(name, chains)| Table { name, chains });
    Ruleset {
        family,
        tables: tables.collect(),
    }
}

struct Lower<'a> {
    plan: &'a Plan,
    family: Family,
    mode: InterceptionMode,
    lo: IfName,
}

impl Lower<'_> {
    fn nat(&self) -> Vec<Chain> {
        let ports = &self.plan.intent.ports;
        let redirect = |port| vec![Rule::new([tcp()], Target::Redirect(port))];
        let mut chains = vec![
            (PREROUTING, self.nat_prerouting()),
            (OUTPUT, self.nat_output()),
        ];
        chains.extend([
            (INBOUND, self.nat_inbound()),
            (IN_REDIRECT, redirect(ports.inbound)),
            (ISTIO_OUTPUT, self.istio_output()),
        ]);
        if self.plan.intent.dns_capture {
            let dns = |protocol| {
                Rule::new(
                    port(protocol, Destination, DNS),
                    Target::Redirect(ports.dns),
                )
            };
            chains.push((OUTPUT_DNS, vec![dns(Tcp), dns(Udp)]));
        }
        chains.push((REDIRECT, redirect(ports.outbound)));
        with_rules(chains)
    }

    fn nat_prerouting(&self) -> Vec<Rule> {
        let intent = &self.plan.intent;
        let virtual_interfaces = || intent.reroute_interfaces.iter().rev();
        let mut rules = Vec::new();
        for destination in self
            .destinations(&intent.outbound.include_ranges)
            .into_iter()
            .rev()
        {
            let by = |v: &IfName| {
                Rule::new(
                    destination
                        .clone()
                        .into_iter()
                        .chain([Match::Interface(In, v.clone())]),
                    jump(REDIRECT),
                )
            };
            rules.extend(virtual_interfaces().map(by));
        }
        rules.extend(
            virtual_interfaces()
                .map(|v| Rule::new([Match::Interface(In, v.clone())], Target::Return)),
        );
        rules.extend(self.excluded_interfaces(Match::of_in));
        if self.mode == InterceptionMode::Redirect && self.captures_inbound() {
            rules.extend(self.on_each(Match::of_in, || Rule::new([tcp()], jump(INBOUND))));
        }
        rules
    }

    fn nat_inbound(&self) -> Vec<Rule> {
        let (intent, mut rules) = (&self.plan.intent, vec![self.tunnel()]);
        if self.mode == InterceptionMode::Redirect {
            match &intent.inbound.include {
                Selection::All => {
                    rules.extend(self.not_inbound());
                    rules.push(Rule::new([tcp()], jump(IN_REDIRECT)));
                }
                Selection::Only(ports) => rules.extend(
                    ports
                        .iter()
                        .map(|p| Rule::new(port(Tcp, Destination, *p), jump(IN_REDIRECT))),
                ),
            }
        }
        rules
    }

    fn nat_output(&self) -> Vec<Rule> {
        let mut rules = self.excluded_interfaces(Match::of_out);
        rules.extend(self.on_each(Match::of_out, || Rule::new([], jump(ISTIO_OUTPUT))));
        rules
    }

    fn istio_output(&self) -> Vec<Rule> {
        let (intent, mut rules) = (&self.plan.intent, Vec::new());
        let (outbound, dns) = (&intent.outbound, intent.dns_capture);
        for excluded in &outbound.exclude_ports {
            rules.extend(
                [Tcp, Udp].map(|protocol| {
                    Rule::new(port(protocol, Destination, *excluded), Target::Return)
                }),
            );
        }
        rules.push(Rule::new(
            [
                address(Source, false, self.family.passthrough()),
                self.out_lo(),
            ],
            Target::Return,
        ));
        for owner in self.owners() {
            let ports = if dns && matches!(owner, Owner::User(_)) {
                Match::DestinationPorts {
                    not: true,
                    ports: vec![DNS, intent.ports.tunnel],
                }
            } else {
                Match::Port {
                    protocol: Tcp,
                    side: Destination,
                    not: true,
                    port: intent.ports.tunnel,
                }
            };
            rules.push(Rule::new(
                [
                    self.not_loopback(),
                    self.out_lo(),
                    tcp(),
                    ports,
                    owned(false, owner),
                ],
                jump(IN_REDIRECT),
            ));
            if !self.plan.captures_loopback() {
                let but_dns = || {
                    vec![
                        tcp(),
                        Match::Port {
                            protocol: Tcp,
                            side: Destination,
                            not: true,
                            port: DNS,
                        },
                    ]
                };
                let ports = if dns { but_dns() } else { vec![] };
                rules.push(Rule::new(
                    [vec![self.out_lo()], ports, vec![owned(true, owner)]].concat(),
                    Target::Return,
                ));
            }
            rules.push(Rule::new([owned(false, owner)], Target::Return));
        }
        match &outbound.owner_groups.include {
            Selection::All => {
                let excluded = outbound.owner_groups.exclude.iter();
                rules.extend(
                    excluded.map(|g| Rule::new([owned(false, Owner::Group(*g))], Target::Return)),
                );
            }
            Selection::Only(groups) => rules.push(Rule::new(
                groups.iter().map(|g| owned(true, Owner::Group(*g))),
                Target::Return,
            )),
        }
        if dns {
            rules.push(Rule::new([], jump(OUTPUT_DNS)));
        }
        rules.push(Rule::new(
            [address(Destination, false, self.family.loopback())],
            Target::Return,
        ));
        rules.extend(
            self.networks(&outbound.exclude_ranges)
                .into_iter()
                .map(|to| Rule::new(to, Target::Return)),
        );
        rules.extend(
            outbound
                .include_ports
                .iter()
                .map(|p| Rule::new(port(Tcp, Destination, *p), jump(REDIRECT))),
        );
        rules.extend(
            self.destinations(&outbound.include_ranges)
                .into_iter()
                .map(|to| Rule::new(to, jump(REDIRECT))),
        );
        rules
    }

    fn mangle(&self) -> Vec<Chain> {
        let mut chains = vec![(PREROUTING, self.mangle_prerouting())];
        if self.mode == InterceptionMode::Tproxy {
            chains.push((OUTPUT, self.mangle_output()));
            if self.captures_inbound() {
                chains.push((
                    DIVERT,
                    vec![
                        Rule::new([], Target::SetMark(TPROXY_MARK)),
                        Rule::new([], Target::Accept),
                    ],
                ));
            }
        }
        if self.plan.intent.drop_invalid {
            chains.push((ISTIO_DROP, vec![Rule::new([], Target::Drop)]));
        }
        if self.mode == InterceptionMode::Tproxy {
            chains.push((INBOUND, self.mangle_inbound()));
            if self.captures_inbound() {
                let tproxy =
                    Target::Tproxy(self.family, self.plan.intent.ports.inbound, TPROXY_MARK);
                chains.push((
                    TPROXY,
                    vec![Rule::new([self.not_loopback(), tcp()], tproxy)],
                ));
            }
        }
        with_rules(chains)
    }

    fn mangle_prerouting(&self) -> Vec<Rule> {
        let (intent, tproxy) = (&self.plan.intent, self.mode == InterceptionMode::Tproxy);
        let mut rules = if tproxy {
            self.excluded_interfaces(Match::of_in)
        } else {
            vec![]
        };
        if intent.drop_invalid {
            rules.extend(self.on_each(Match::of_in, || {
                Rule::new([Match::CtState(CtState::Invalid)], jump(ISTIO_DROP))
            }));
        }
        if tproxy {
            rules.extend(corrections::virtual_interfaces(&intent.reroute_interfaces));
            if self.captures_inbound() {
                rules.extend(self.on_each(Match::of_in, || Rule::new([tcp()], jump(INBOUND))));
            }
            rules.extend(self.on_each(Match::of_in, || {
                Rule::new([tcp(), mark(false, TPROXY_MARK)], Target::SaveMark)
            }));
        }
        rules
    }

    fn mangle_inbound(&self) -> Vec<Rule> {
        let passthrough = [
            address(Source, false, self.family.passthrough()),
            Match::of_in(&self.lo),
            tcp(),
        ];
        let mut rules = vec![
            Rule::new([tcp(), mark(false, TPROXY_MARK)], Target::Return),
            Rule::new(passthrough, Target::Return),
            Rule::new(
                [Match::of_in(&self.lo), tcp(), mark(true, LOOP_MARK)],
                Target::Return,
            ),
        ];
        rules.extend(corrections::tunnel(self.tunnel()));
        let known = Match::CtState(CtState::RelatedOrEstablished);
        match &self.plan.intent.inbound.include {
            Selection::All => {
                rules.extend(self.not_inbound());
                rules.push(Rule::new([tcp(), known], jump(DIVERT)));
                rules.push(Rule::new([tcp()], jump(TPROXY)));
            }
            Selection::Only(ports) => {
                for p in ports {
                    rules.push(Rule::new(
                        port(Tcp, Destination, *p)
                            .into_iter()
                            .chain([known.clone()]),
                        jump(DIVERT),
                    ));
                    rules.push(Rule::new(port(Tcp, Destination, *p), jump(TPROXY)));
                }
            }
        }
        rules
    }

    fn mangle_output(&self) -> Vec<Rule> {
        let mut rules = self.excluded_interfaces(Match::of_out);
        rules.push(Rule::new(
            [self.out_lo(), tcp(), mark(false, TPROXY_MARK)],
            Target::Return,
        ));
        let looped = |owner| {
            Rule::new(
                [
                    self.not_loopback(),
                    self.out_lo(),
                    tcp(),
                    owned(false, owner),
                ],
                Target::SetMark(LOOP_MARK),
            )
        };
        rules.extend(self.owners().map(looped));
        rules.extend(self.on_each(Match::of_out, || {
            Rule::new([tcp(), Match::ConnMark(TPROXY_MARK)], Target::RestoreMark)
        }));
        rules
    }

    fn raw(&self) -> Vec<Chain> {
        if !self.plan.intent.dns_capture {
            return vec![];
        }
        let to_resolver = || port(Udp, Destination, DNS);
        let mut output = Vec::new();
        for owner in self.owners() {
            let by_proxy = |matches: Vec<Match>, zone| {
                Rule::new(
                    matches.into_iter().chain([owned(false, owner)]),
                    Target::SetZone(zone),
                )
            };
            output.push(by_proxy(to_resolver(), RESOLVER_ZONE));
            output.push(by_proxy(
                port(Udp, Source, self.plan.intent.ports.dns),
                APPLICATION_ZONE,
            ));
        }
        output.push(Rule::new(to_resolver(), Target::SetZone(APPLICATION_ZONE)));
        with_rules(vec![
            (
                PREROUTING,
                self.on_each(Match::of_in, || Rule::new([], jump(INBOUND))),
            ),
            (
                OUTPUT,
                self.on_each(Match::of_out, || Rule::new([], jump(OUTPUT_DNS))),
            ),
            (
                INBOUND,
                vec![Rule::new(
                    port(Udp, Source, DNS),
                    Target::SetZone(RESOLVER_ZONE),
                )],
            ),
            (OUTPUT_DNS, output),
        ])
    }

    /// The rule; with `interfaces: Primary`, once for each interface that is not left alone. Istio knows no such choice.
    fn on_each(&self, by: impl Fn(&IfName) -> Match, of_all: impl Fn() -> Rule) -> Vec<Rule> {
        match &self.plan.only_interfaces {
            None => vec![of_all()],
            Some(names) => {
                let on = |name| {
                    let Rule { matches, target } = of_all();
                    Rule {
                        matches: [by(name)].into_iter().chain(matches).collect(),
                        target,
                    }
                };
                names.iter().map(on).collect()
            }
        }
    }

    fn excluded_interfaces(&self, by: impl Fn(&IfName) -> Match) -> Vec<Rule> {
        self.plan
            .intent
            .exclude_interfaces
            .iter()
            .map(|e| Rule::new([by(e)], Target::Return))
            .collect()
    }

    fn captures_inbound(&self) -> bool {
        self.plan.intent.inbound.include != Selection::Only(vec![])
    }

    fn tunnel(&self) -> Rule {
        Rule::new(
            port(Tcp, Destination, self.plan.intent.ports.tunnel),
            Target::Return,
        )
    }

    fn not_inbound(&self) -> impl Iterator<Item = Rule> {
        self.plan
            .intent
            .inbound
            .exclude
            .iter()
            .map(|p| Rule::new(port(Tcp, Destination, *p), Target::Return))
    }

    fn owners(&self) -> [Owner; 2] {
        let proxy = &self.plan.intent.proxy;
        [Owner::User(proxy.uid), Owner::Group(proxy.gid)]
    }

    fn out_lo(&self) -> Match {
        Match::of_out(&self.lo)
    }

    fn not_loopback(&self) -> Match {
        address(Destination, true, self.family.loopback())
    }

    /// The matches of captured destinations: one without any for "all".
    fn destinations(&self, ranges: &Selection<IpNet>) -> Vec<Vec<Match>> {
        match ranges {
            Selection::All => vec![vec![]],
            Selection::Only(list) => self.networks(list),
        }
    }

    /// The matches of listed destinations of this family, each once.
    fn networks(&self, list: &[IpNet]) -> Vec<Vec<Match>> {
        let mut out: Vec<Vec<Match>> = Vec::new();
        for network in list
            .iter()
            .map(IpNet::trunc)
            .filter(|n| Family::of(n) == self.family)
        {
            let everything = network.prefix_len() == 0;
            let matches = if everything {
                vec![]
            } else {
                vec![address(Destination, false, network)]
            };
            if !out.contains(&matches) {
                out.push(matches);
            }
        }
        out
    }
}

fn with_rules(chains: Vec<(&str, Vec<Rule>)>) -> Vec<Chain> {
    let chain = |(name, rules): (&str, _)| {
        let policy = [PREROUTING, OUTPUT]
            .contains(&name)
            .then(|| "ACCEPT".to_owned());
        Chain {
            name: name.into(),
            policy,
            rules,
        }
    };
    chains
        .into_iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(chain)
        .collect()
}

fn tcp() -> Match {
    Match::Protocol(Tcp)
}

fn port(protocol: Protocol, side: Side, port: u16) -> Vec<Match> {
    vec![
        Match::Protocol(protocol),
        Match::Port {
            protocol,
            side,
            not: false,
            port,
        },
    ]
}

fn address(side: Side, not: bool, network: IpNet) -> Match {
    Match::Address { side, not, network }
}

fn owned(not: bool, owner: Owner) -> Match {
    Match::Owner { not, owner }
}

fn mark(not: bool, mark: u32) -> Match {
    Match::Mark { not, mark }
}

fn jump(chain: &str) -> Target {
    Target::Jump(chain.into())
}
