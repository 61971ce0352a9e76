//! The nftables form of a plan. Equal in behaviour to the iptables form that Istio programs; rows are cited by its chain and the
//! purpose they have there.
//!
//! Istio's rules `! --uid-owner` match a packet without a socket, `skuid !=` does not. So nothing here negates an owner: what an owner
//! rule leaves over falls through to the next rule, which says the same of all packets alike.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Chain, ChainType, Hook, HookPoint, Match, Networks, Rule, Statement, Table};
use crate::{
    mesh::{IfName, InterceptionMode, Selection},
    plan::{
        Plan,
        packet::{
            APPLICATION_ZONE, CtState, DNS, Direction, Family, LOOP_MARK,
            Protocol::{self, Tcp, Udp},
            RESOLVER_ZONE, Side, TPROXY_MARK,
        },
    },
};

const DSTNAT: i32 = -100;
const MANGLE: i32 = -150;
const RAW: i32 = -300;
/// Where captured outbound traffic is told apart by destination; Istio's ISTIO_OUTPUT from the owner groups on.
const OUTBOUND: &str = "outbound";
/// Where inbound connections are delivered to the sidecar in TPROXY mode; Istio's ISTIO_INBOUND of mangle.
const INBOUND: &str = "inbound";

pub(in crate::plan) fn table(plan: &Plan) -> Table {
    let chains = [
        prerouting(plan),
        Some(output(plan)),
        Some(outbound(plan)),
        mangle_prerouting(plan),
    ];
    let mut chains: Vec<_> = chains.into_iter().flatten().collect();
    if plan.intent.mode == InterceptionMode::Tproxy {
        chains.extend([inbound(plan), mangle_output(plan)]);
    }
    if plan.intent.dns_capture {
        chains.extend([raw_prerouting(plan), raw_output(plan)]);
    }
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    Table { flags: 0, chains }
}

/// nat PREROUTING and ISTIO_INBOUND; `None` where nothing is redirected there.
fn prerouting(plan: &Plan) -> Option<Chain> {
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
fn output(plan: &Plan) -> Chain {
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
fn outbound(plan: &Plan) -> Chain {
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

/// mangle PREROUTING. As in Istio an excluded interface is exempt from INVALID_DROP in TPROXY mode only; one added after a start with
/// `interfaces: Primary` always is.
fn mangle_prerouting(plan: &Plan) -> Option<Chain> {
    let intent = &plan.intent;
    let tproxy = intent.mode == InterceptionMode::Tproxy;
    if !tproxy && !intent.drop_invalid {
        return None;
    }
    let mut rules = uncaptured_family(plan);
    if tproxy {
        rules.extend(excluded_interfaces(plan, Direction::In));
    }
    rules.extend(only_interfaces(plan, Direction::In));
    if intent.drop_invalid {
        rules.push(rule(
            vec![Match::CtState(CtState::Invalid)],
            Statement::Drop,
        ));
    }
    if tproxy {
        if !intent.reroute_interfaces.is_empty() {
            rules.push(rule(
                vec![interfaces(Direction::In, &intent.reroute_interfaces)],
                Statement::Return,
            ));
        }
        rules.push(rule(
            vec![Match::Protocol(Tcp)],
            Statement::Jump(INBOUND.into()),
        ));
        rules.push(rule(
            vec![Match::Protocol(Tcp), mark(false, TPROXY_MARK)],
            Statement::SaveMark,
        ));
    }
    Some(base(
        "mangle-prerouting",
        ChainType::Filter,
        HookPoint::Prerouting,
        MANGLE,
        rules,
    ))
}

/// mangle ISTIO_INBOUND, ISTIO_DIVERT and ISTIO_TPROXY. iptables drops a packet that no socket takes, nftables goes on: so a drop
/// follows, else a connection would reach the application before the sidecar listens.
fn inbound(plan: &Plan) -> Chain {
    let lo = || interfaces(Direction::In, &[IfName::lo()]);
    let mut rules = vec![rule(vec![mark(false, TPROXY_MARK)], Statement::Return)];
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
    rules.push(rule(vec![lo(), mark(true, LOOP_MARK)], Statement::Return));
    rules.extend(not_inbound(plan));
    if let Some(captured) = captured_ports(plan) {
        let mark_and = |statement| vec![Statement::SetMark(TPROXY_MARK), statement];
        let known = [
            captured.clone(),
            vec![Match::CtState(CtState::RelatedOrEstablished)],
        ]
        .concat();
        rules.push(Rule {
            matches: known,
            statements: mark_and(Statement::Accept),
        });
        for family in plan.families.captured() {
            let matches = [
                address(family.loopback(), Side::Destination, true),
                captured.clone(),
            ]
            .concat();
            let tproxy = vec![Statement::Tproxy(family, plan.intent.ports.inbound)];
            rules.push(Rule {
                matches: matches.clone(),
                statements: [tproxy, mark_and(Statement::Accept)].concat(),
            });
            rules.push(rule(matches, Statement::Drop));
        }
    }
    Chain {
        name: INBOUND.into(),
        hook: None,
        rules,
    }
}

/// mangle OUTPUT.
fn mangle_output(plan: &Plan) -> Chain {
    let (lo, tcp) = (
        || interfaces(Direction::Out, &[IfName::lo()]),
        || Match::Protocol(Tcp),
    );
    let mut rules = uncaptured_family(plan);
    rules.extend(excluded_interfaces(plan, Direction::Out));
    rules.extend(only_interfaces(plan, Direction::Out));
    rules.push(rule(
        vec![lo(), tcp(), mark(false, TPROXY_MARK)],
        Statement::Return,
    ));
    for owner in owners(plan) {
        for family in plan.families.captured() {
            let to = address(family.loopback(), Side::Destination, true);
            rules.push(rule(
                [vec![lo()], to, vec![tcp(), owner.clone()]].concat(),
                Statement::SetMark(LOOP_MARK),
            ));
        }
    }
    rules.push(rule(
        vec![tcp(), Match::CtMark(TPROXY_MARK)],
        Statement::RestoreMark,
    ));
    base(
        "mangle-output",
        ChainType::Route,
        HookPoint::Output,
        MANGLE,
        rules,
    )
}

/// raw PREROUTING and ISTIO_INBOUND.
fn raw_prerouting(plan: &Plan) -> Chain {
    let mut rules = uncaptured_family(plan);
    rules.extend(only_interfaces(plan, Direction::In));
    rules.push(rule(
        port(Udp, Side::Source, false, [DNS].into()),
        Statement::SetZone(RESOLVER_ZONE),
    ));
    base(
        "raw-prerouting",
        ChainType::Filter,
        HookPoint::Prerouting,
        RAW,
        rules,
    )
}

/// raw OUTPUT and ISTIO_OUTPUT_DNS.
fn raw_output(plan: &Plan) -> Chain {
    let mut rules = uncaptured_family(plan);
    rules.extend(only_interfaces(plan, Direction::Out));
    for owner in owners(plan) {
        let zone = |matches: Vec<Match>, zone| {
            rule(
                [matches, vec![owner.clone()]].concat(),
                Statement::SetZone(zone),
            )
        };
        rules.push(zone(
            destination_port(Udp, false, [DNS].into()),
            RESOLVER_ZONE,
        ));
        rules.push(zone(
            port(Udp, Side::Source, false, [plan.intent.ports.dns].into()),
            APPLICATION_ZONE,
        ));
    }
    rules.push(rule(
        destination_port(Udp, false, [DNS].into()),
        Statement::SetZone(APPLICATION_ZONE),
    ));
    base(
        "raw-output",
        ChainType::Filter,
        HookPoint::Output,
        RAW,
        rules,
    )
}

/// One table serves both families, so the one that is not captured leaves first. Its connections are tracked and its fragments put together
/// all the same: that is what one table for both costs.
fn uncaptured_family(plan: &Plan) -> Vec<Rule> {
    if plan.families.ipv6 {
        vec![]
    } else {
        vec![rule(vec![Match::Family(Family::Ipv6)], Statement::Return)]
    }
}

fn excluded_interfaces(plan: &Plan, direction: Direction) -> Option<Rule> {
    let excluded = &plan.intent.exclude_interfaces;
    (!excluded.is_empty()).then(|| rule(vec![interfaces(direction, excluded)], Statement::Return))
}

fn only_interfaces(plan: &Plan, direction: Direction) -> Option<Rule> {
    let names = plan.only_interfaces.clone()?;
    Some(rule(
        vec![Match::Interface {
            direction,
            not: true,
            names,
        }],
        Statement::Return,
    ))
}

/// Inbound ports that are left alone, where all others are captured.
fn not_inbound(plan: &Plan) -> Option<Rule> {
    let inbound = &plan.intent.inbound;
    let excluded = || {
        inbound
            .exclude
            .iter()
            .copied()
            .chain([plan.intent.ports.tunnel])
            .collect()
    };
    (inbound.include == Selection::All)
        .then(|| rule(destination_port(Tcp, false, excluded()), Statement::Return))
}

/// The matches of captured inbound ports; `None` if there are none.
fn captured_ports(plan: &Plan) -> Option<Vec<Match>> {
    match &plan.intent.inbound.include {
        Selection::All => Some(vec![Match::Protocol(Tcp)]),
        Selection::Only(ports) => {
            let included: BTreeSet<_> = ports
                .iter()
                .copied()
                .filter(|p| *p != plan.intent.ports.tunnel)
                .collect();
            (!included.is_empty()).then(|| destination_port(Tcp, false, included))
        }
    }
}

/// The sidecar's sockets.
fn owners(plan: &Plan) -> [Match; 2] {
    let proxy = &plan.intent.proxy;
    [
        Match::SocketUser(proxy.uid),
        Match::SocketGroup([proxy.gid].into()),
    ]
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
    let v4: Vec<Ipv4Net> = list
        .iter()
        .filter_map(|n| if let IpNet::V4(n) = n { Some(*n) } else { None })
        .collect();
    let v6: Vec<Ipv6Net> = list
        .iter()
        .filter_map(|n| if let IpNet::V6(n) = n { Some(*n) } else { None })
        .collect();
    let v6 = if plan.families.ipv6 {
        Networks::v6(&v6)
    } else {
        None
    };
    Networks::v4(&v4)
        .into_iter()
        .chain(v6)
        .map(|networks| in_networks(networks, Side::Destination, false))
        .collect()
}

fn address(network: IpNet, side: Side, not: bool) -> Vec<Match> {
    let networks = match network {
        IpNet::V4(n) => Networks::V4(vec![n]),
        IpNet::V6(n) => Networks::V6(vec![n]),
    };
    in_networks(networks, side, not)
}

fn in_networks(networks: Networks, side: Side, not: bool) -> Vec<Match> {
    vec![
        Match::Family(networks.family()),
        Match::Address {
            side,
            not,
            networks,
        },
    ]
}

fn destination_port(protocol: Protocol, not: bool, ports: BTreeSet<u16>) -> Vec<Match> {
    port(protocol, Side::Destination, not, ports)
}

fn port(protocol: Protocol, side: Side, not: bool, ports: BTreeSet<u16>) -> Vec<Match> {
    vec![Match::Protocol(protocol), Match::Port { side, not, ports }]
}

fn mark(not: bool, mark: u32) -> Match {
    Match::Mark { not, mark }
}

fn interfaces(direction: Direction, names: &[IfName]) -> Match {
    Match::Interface {
        direction,
        not: false,
        names: names.iter().cloned().collect(),
    }
}

fn rule(matches: Vec<Match>, statement: Statement) -> Rule {
    Rule {
        matches,
        statements: vec![statement],
    }
}

fn base(name: &str, kind: ChainType, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        hook: Some(Hook {
            kind,
            point,
            priority,
            accepts: true,
        }),
        rules,
    }
}
