//! The nftables form of a plan in REDIRECT mode. Equal in behaviour to the iptables form that Istio programs; rows are cited by its
//! chain and the purpose they have there.
//!
//! Istio's rules `! --uid-owner` match a packet without a socket, `skuid !=` does not. So nothing here negates an owner: what an owner
//! rule leaves over falls through to the next rule, which says the same of all packets alike.

use std::{collections::BTreeSet, net::Ipv4Addr, net::Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Plan,
    nft::{Chain, ChainType, Direction, Family, Hook, HookPoint, Match, Networks, Rule, Side, Table, Verdict},
};
use crate::mesh::{IfName, Selection};

const DSTNAT: i32 = -100;
const MANGLE: i32 = -150;
/// Where captured outbound traffic is told apart by destination; Istio's ISTIO_OUTPUT from the owner groups on.
const OUTBOUND: &str = "outbound";

const LOOPBACK: [Host; 2] = [Host::V4(Ipv4Addr::LOCALHOST), Host::V6(Ipv6Addr::LOCALHOST)];
const PASSTHROUGH: [Host; 2] = [Host::V4(Ipv4Addr::new(127, 0, 0, 6)), Host::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))];

/// A host of either family.
#[derive(Clone, Copy)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

pub(super) fn table(plan: &Plan) -> Table {
    let mut chains = vec![prerouting(plan), output(plan), outbound(plan)];
    if plan.intent.drop_invalid {
        chains.push(drop_invalid(plan));
    }
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    Table { flags: 0, chains }
}

/// nat PREROUTING and ISTIO_INBOUND.
fn prerouting(plan: &Plan) -> Chain {
    let intent = &plan.intent;
    let mut rules = uncaptured_family(plan);
    if !intent.reroute_interfaces.is_empty() {
        let virtual_machines = || interfaces(Direction::In, false, &intent.reroute_interfaces);
        for destination in destinations(plan, &intent.outbound.include_ranges) {
            rules.push(rule([vec![virtual_machines()], destination, vec![Match::Tcp]].concat(), Verdict::Redirect(intent.ports.outbound)));
        }
        rules.push(rule(vec![virtual_machines()], Verdict::Return));
    }
    rules.extend(left_alone(plan, Direction::In));
    match &intent.inbound.include {
        Selection::All => {
            let excluded = intent.inbound.exclude.iter().copied().chain([intent.ports.tunnel]).collect();
            rules.push(rule(tcp_port(false, excluded), Verdict::Return));
            rules.push(rule(vec![Match::Tcp], Verdict::Redirect(intent.ports.inbound)));
        }
        Selection::Only(ports) => {
            let included: BTreeSet<_> = ports.iter().copied().filter(|p| *p != intent.ports.tunnel).collect();
            if !included.is_empty() {
                rules.push(rule(tcp_port(false, included), Verdict::Redirect(intent.ports.inbound)));
            }
        }
    }
    base("prerouting", ChainType::Nat, HookPoint::Prerouting, DSTNAT, rules)
}

/// nat OUTPUT and ISTIO_OUTPUT up to the owner groups: who is exempt.
fn output(plan: &Plan) -> Chain {
    let intent = &plan.intent;
    let mut rules = uncaptured_family(plan);
    rules.extend(left_alone(plan, Direction::Out));
    if !intent.outbound.exclude_ports.is_empty() {
        rules.push(rule(tcp_port(false, intent.outbound.exclude_ports.iter().copied().collect()), Verdict::Return));
    }
    let lo = || interfaces(Direction::Out, false, &[IfName::lo()]);
    for source in each_family(plan, PASSTHROUGH) {
        rules.push(rule([vec![lo()], host(source, Side::Source, false)].concat(), Verdict::Return));
    }
    // An application calls its own service and the load balancer picks this very pod: the sidecar's connection is inbound again.
    let back_to_inbound = |owner: &Match| -> Vec<Rule> {
        let matches = |loopback| {
            [vec![lo()], host(loopback, Side::Destination, true), tcp_port(true, [intent.ports.tunnel].into()), vec![owner.clone()]]
                .concat()
        };
        each_family(plan, LOOPBACK).map(|l| rule(matches(l), Verdict::Redirect(intent.ports.inbound))).collect()
    };
    let user = Match::SocketUser(intent.proxy.uid);
    rules.extend(back_to_inbound(&user));
    rules.push(rule(vec![user], Verdict::Return));
    let group = Match::SocketGroup([intent.proxy.gid].into());
    if captures_loopback(&intent.outbound.include_ranges) {
        rules.extend(back_to_inbound(&group));
    } else {
        rules.push(rule(vec![lo()], Verdict::Return));
    }
    rules.push(rule(vec![group], Verdict::Return));
    let captured_groups = match &intent.outbound.owner_groups.include {
        Selection::All => {
            if !intent.outbound.owner_groups.exclude.is_empty() {
                let excluded = intent.outbound.owner_groups.exclude.iter().copied().collect();
                rules.push(rule(vec![Match::SocketGroup(excluded)], Verdict::Return));
            }
            Some(vec![])
        }
        Selection::Only(groups) if groups.is_empty() => None,
        Selection::Only(groups) => Some(vec![Match::SocketGroup(groups.iter().copied().collect())]),
    };
    if let Some(matches) = captured_groups {
        rules.push(rule(matches, Verdict::Jump(OUTBOUND.into())));
    }
    base("output", ChainType::Nat, HookPoint::Output, DSTNAT, rules)
}

/// ISTIO_OUTPUT from the owner groups on: which destinations are captured.
fn outbound(plan: &Plan) -> Chain {
    let outbound = &plan.intent.outbound;
    let to_proxy = Verdict::Redirect(plan.intent.ports.outbound);
    let mut rules: Vec<_> = each_family(plan, LOOPBACK).map(|l| rule(host(l, Side::Destination, false), Verdict::Return)).collect();
    for excluded in networks(plan, &outbound.exclude_ranges) {
        rules.push(rule(excluded, Verdict::Return));
    }
    if !outbound.include_ports.is_empty() {
        rules.push(rule(tcp_port(false, outbound.include_ports.iter().copied().collect()), to_proxy.clone()));
    }
    for destination in destinations(plan, &outbound.include_ranges) {
        rules.push(rule([destination, vec![Match::Tcp]].concat(), to_proxy.clone()));
    }
    Chain { name: OUTBOUND.into(), hook: None, rules }
}

/// mangle PREROUTING with INVALID_DROP. As in Istio an excluded interface is not exempt; one added after a start with
/// `interfaces: Primary` is.
fn drop_invalid(plan: &Plan) -> Chain {
    let mut rules = uncaptured_family(plan);
    rules.extend(only_interfaces(plan, Direction::In));
    rules.push(rule(vec![Match::Invalid], Verdict::Drop));
    base("drop-invalid", ChainType::Filter, HookPoint::Prerouting, MANGLE, rules)
}

/// One table serves both families, so the one that is not captured leaves first.
fn uncaptured_family(plan: &Plan) -> Vec<Rule> {
    if plan.families.ipv6 { vec![] } else { vec![rule(vec![Match::Family(Family::Ipv6)], Verdict::Return)] }
}

fn left_alone(plan: &Plan, direction: Direction) -> Vec<Rule> {
    let excluded = &plan.intent.exclude_interfaces;
    let excluded = (!excluded.is_empty()).then(|| rule(vec![interfaces(direction, false, excluded)], Verdict::Return));
    excluded.into_iter().chain(only_interfaces(plan, direction)).collect()
}

fn only_interfaces(plan: &Plan, direction: Direction) -> Option<Rule> {
    let names = plan.only_interfaces.clone()?;
    Some(rule(vec![Match::Interface { direction, not: true, names }], Verdict::Return))
}

/// Whether some captured range starts at a loopback address: then connections to loopback addresses are captured as well.
fn captures_loopback(ranges: &Selection<IpNet>) -> bool {
    match ranges {
        Selection::All => false,
        Selection::Only(list) => list.iter().any(|n| n.addr().to_canonical().is_loopback()),
    }
}

/// The matches of captured destinations: one without any for "all", else one for each captured family that is listed.
fn destinations(plan: &Plan, ranges: &Selection<IpNet>) -> Vec<Vec<Match>> {
    match ranges {
        Selection::All => vec![vec![]],
        Selection::Only(list) => networks(plan, list),
    }
}

/// The matches of listed destinations, one for each captured family.
fn networks(plan: &Plan, list: &[IpNet]) -> Vec<Vec<Match>> {
    let v4: Vec<Ipv4Net> = list.iter().filter_map(|n| if let IpNet::V4(n) = n { Some(*n) } else { None }).collect();
    let v6: Vec<Ipv6Net> = list.iter().filter_map(|n| if let IpNet::V6(n) = n { Some(*n) } else { None }).collect();
    let v6 = if plan.families.ipv6 { Networks::v6(&v6) } else { None };
    Networks::v4(&v4).into_iter().chain(v6).map(|networks| address(networks, Side::Destination, false)).collect()
}

fn each_family(plan: &Plan, both: [Host; 2]) -> impl Iterator<Item = Host> {
    both.into_iter().take(if plan.families.ipv6 { 2 } else { 1 })
}

fn host(host: Host, side: Side, not: bool) -> Vec<Match> {
    let networks = match host {
        Host::V4(a) => Networks::V4(vec![a.into()]),
        Host::V6(a) => Networks::V6(vec![a.into()]),
    };
    address(networks, side, not)
}

fn address(networks: Networks, side: Side, not: bool) -> Vec<Match> {
    vec![Match::Family(networks.family()), Match::Address { side, not, networks }]
}

fn tcp_port(not: bool, ports: BTreeSet<u16>) -> Vec<Match> {
    vec![Match::Tcp, Match::DestinationPort { not, ports }]
}

fn interfaces(direction: Direction, not: bool, names: &[IfName]) -> Match {
    Match::Interface { direction, not, names: names.iter().cloned().collect() }
}

fn rule(matches: Vec<Match>, verdict: Verdict) -> Rule {
    Rule { matches, verdict }
}

fn base(name: &str, kind: ChainType, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: Some(Hook { kind, point, priority, accepts: true }), rules }
}
