//! Chains of type nat: what is redirected, and what is exempt.

use std::collections::BTreeSet;

use super::super::{Chain, ChainType, HookPoint, Match, Rule, Statement};
use super::rules::{
    address, base, captured_ports, destination_port, destinations, excluded_interfaces, interfaces,
    networks, not_inbound, only_interfaces, owners, rule, uncaptured_family,
};
use crate::{
    mesh::InterceptionMode,
    plan::{
        Plan,
        packet::{
            DNS, Direction, Family,
            Protocol::{Tcp, Udp},
            Side,
        },
    },
    profile::{IfName, Selection},
};

const DSTNAT: i32 = -100;
/// The chain that distinguishes captured outbound traffic by destination; Istio's ISTIO_OUTPUT from the owner groups on.
const OUTBOUND: &str = "outbound";

/// nat PREROUTING and ISTIO_INBOUND; `None` where nothing is redirected there.
pub(super) fn prerouting(plan: &Plan) -> Option<Chain> {
    let intent = &plan.intent;
    let mut rules = uncaptured_family(plan);
    if !intent.reroute_interfaces.is_empty() {
        let virtual_machines = || interfaces(Direction::In, &intent.reroute_interfaces);
        for destination in destinations(plan, &intent.outbound.include_ranges) {
            let matches = [
                vec![virtual_machines()],
                destination,
                vec![Match::Protocol(Tcp)],
            ]
            .concat();
            rules.push(rule(matches, Statement::Redirect(intent.ports.outbound)));
        }
        rules.push(rule(vec![virtual_machines()], Statement::Return));
    }
    if intent.mode == InterceptionMode::Redirect {
        rules.extend(excluded_interfaces(plan, Direction::In));
        rules.extend(only_interfaces(plan, Direction::In));
        rules.extend(not_inbound(plan));
        rules.extend(
            captured_ports(plan)
                .map(|matches| rule(matches, Statement::Redirect(intent.ports.inbound))),
        );
    }
    let redirects = rules
        .iter()
        .any(|r| matches!(r.statements.as_slice(), [Statement::Redirect(_)]));
    redirects.then(|| {
        base(
            "prerouting",
            ChainType::Nat,
            HookPoint::Prerouting,
            DSTNAT,
            rules,
        )
    })
}

/// nat OUTPUT and ISTIO_OUTPUT up to the owner groups: who is exempt.
pub(super) fn output(plan: &Plan) -> Chain {
    let intent = &plan.intent;
    let mut rules = uncaptured_family(plan);
    rules.extend(excluded_interfaces(plan, Direction::Out));
    rules.extend(only_interfaces(plan, Direction::Out));
    if !intent.outbound.exclude_ports.is_empty() {
        let excluded: BTreeSet<_> = intent.outbound.exclude_ports.iter().copied().collect();
        rules.push(rule(
            destination_port(Tcp, false, excluded.clone()),
            Statement::Return,
        ));
        if intent.dns_capture {
            rules.push(rule(
                destination_port(Udp, false, excluded),
                Statement::Return,
            ));
        }
    }
    let lo = || interfaces(Direction::Out, &[IfName::lo()]);
    for family in plan.families.captured() {
        rules.push(rule(
            [
                vec![lo()],
                address(family.passthrough(), Side::Source, false),
            ]
            .concat(),
            Statement::Return,
        ));
    }
    // An application calls its own service and the load balancer picks this very pod: the sidecar's connection is inbound again.
    let back_to_inbound = |owner: &Match, but: &[u16]| -> Vec<Rule> {
        let ports = || destination_port(Tcp, true, but.iter().copied().collect());
        let matches = |f: Family| {
            [
                vec![lo()],
                address(f.loopback(), Side::Destination, true),
                ports(),
                vec![owner.clone()],
            ]
            .concat()
        };
        plan.families
            .captured()
            .map(|f| rule(matches(f), Statement::Redirect(intent.ports.inbound)))
            .collect()
    };
    let [user, group] = owners(plan);
    let (tunnel, loopback, dns) = (
        intent.ports.tunnel,
        plan.captures_loopback(),
        intent.dns_capture,
    );
    let but = if dns { vec![DNS, tunnel] } else { vec![tunnel] };
    rules.extend(back_to_inbound(&user, &but));
    rules.push(rule(vec![user], Statement::Return));
    if !loopback {
        let but_dns = if dns {
            destination_port(Tcp, true, [DNS].into())
        } else {
            vec![]
        };
        rules.push(rule([vec![lo()], but_dns].concat(), Statement::Return));
    }
    if loopback || dns {
        rules.extend(back_to_inbound(&group, &[tunnel]));
    }
    rules.push(rule(vec![group], Statement::Return));
    let captured_groups = match &intent.outbound.owner_groups.include {
        Selection::All => {
            if !intent.outbound.owner_groups.exclude.is_empty() {
                let excluded = intent
                    .outbound
                    .owner_groups
                    .exclude
                    .iter()
                    .copied()
                    .collect();
                rules.push(rule(vec![Match::SocketGroup(excluded)], Statement::Return));
            }
            Some(vec![])
        }
        Selection::Only(groups) if groups.is_empty() => None,
        Selection::Only(groups) => Some(vec![Match::SocketGroup(groups.iter().copied().collect())]),
    };
    if let Some(matches) = captured_groups {
        rules.push(rule(matches, Statement::Jump(OUTBOUND.into())));
    }
    base("output", ChainType::Nat, HookPoint::Output, DSTNAT, rules)
}

/// ISTIO_OUTPUT from ISTIO_OUTPUT_DNS on: which destinations are captured.
pub(super) fn outbound(plan: &Plan) -> Chain {
    let (outbound, ports) = (&plan.intent.outbound, &plan.intent.ports);
    let to_proxy = Statement::Redirect(ports.outbound);
    let mut rules = Vec::new();
    if plan.intent.dns_capture {
        rules.extend([Tcp, Udp].map(|p| {
            rule(
                destination_port(p, false, [DNS].into()),
                Statement::Redirect(ports.dns),
            )
        }));
    }
    for family in plan.families.captured() {
        rules.push(rule(
            address(family.loopback(), Side::Destination, false),
            Statement::Return,
        ));
    }
    for excluded in networks(plan, &outbound.exclude_ranges) {
        rules.push(rule(excluded, Statement::Return));
    }
    if !outbound.include_ports.is_empty() {
        rules.push(rule(
            destination_port(Tcp, false, outbound.include_ports.iter().copied().collect()),
            to_proxy.clone(),
        ));
    }
    for destination in destinations(plan, &outbound.include_ranges) {
        rules.push(rule(
            [destination, vec![Match::Protocol(Tcp)]].concat(),
            to_proxy.clone(),
        ));
    }
    Chain {
        name: OUTBOUND.into(),
        hook: None,
        rules,
    }
}
