//! Table nat.

use super::{
    Chain, INBOUND, Lower, Match, OUTPUT, OUTPUT_DNS, PREROUTING, Rule, SocketOwner, Target,
    address, jump, owned, port, tcp, with_rules,
};
use crate::{
    mesh::InterceptionMode,
    plan::packet::{
        DNS,
        Direction::In,
        Protocol::{Tcp, Udp},
        Side::{Destination, Source},
    },
    profile::{IfName, Selection},
};

const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const REDIRECT: &str = "ISTIO_REDIRECT";
const ISTIO_OUTPUT: &str = "ISTIO_OUTPUT";

impl Lower<'_> {
    pub(super) fn nat(&self) -> Vec<Chain> {
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
            let ports = if dns && matches!(owner, SocketOwner::User(_)) {
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
                rules
                    .extend(excluded.map(|g| {
                        Rule::new([owned(false, SocketOwner::Group(*g))], Target::Return)
                    }));
            }
            Selection::Only(groups) => rules.push(Rule::new(
                groups.iter().map(|g| owned(true, SocketOwner::Group(*g))),
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
}
