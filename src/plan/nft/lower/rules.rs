//! Parts that rules of several chains share.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::{Chain, ChainType, Hook, HookPoint, Match, Networks, Rule, Statement};
use crate::{
    plan::{
        Plan,
        packet::{
            Direction, Family,
            Protocol::{self, Tcp},
            Side,
        },
    },
    profile::{IfName, Selection},
};

/// One table serves both families, so the one that is not captured leaves first. Its connections are tracked and its fragments put together
/// all the same: that is what one table for both costs.
pub(super) fn uncaptured_family(plan: &Plan) -> Vec<Rule> {
    if plan.families.ipv6 {
        vec![]
    } else {
        vec![rule(vec![Match::Family(Family::Ipv6)], Statement::Return)]
    }
}

pub(super) fn excluded_interfaces(plan: &Plan, direction: Direction) -> Option<Rule> {
    let excluded = &plan.intent.exclude_interfaces;
    (!excluded.is_empty()).then(|| rule(vec![interfaces(direction, excluded)], Statement::Return))
}

pub(super) fn only_interfaces(plan: &Plan, direction: Direction) -> Option<Rule> {
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
pub(super) fn not_inbound(plan: &Plan) -> Option<Rule> {
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
pub(super) fn captured_ports(plan: &Plan) -> Option<Vec<Match>> {
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
pub(super) fn owners(plan: &Plan) -> [Match; 2] {
    let proxy = &plan.intent.proxy;
    [
        Match::SocketUser(proxy.uid),
        Match::SocketGroup([proxy.gid].into()),
    ]
}

/// The matches of captured destinations: one without any for "all", else one for each captured family that is listed.
pub(super) fn destinations(plan: &Plan, ranges: &Selection<IpNet>) -> Vec<Vec<Match>> {
    match ranges {
        Selection::All => vec![vec![]],
        Selection::Only(list) => networks(plan, list),
    }
}

/// The matches of listed destinations, one for each captured family.
pub(super) fn networks(plan: &Plan, list: &[IpNet]) -> Vec<Vec<Match>> {
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

pub(super) fn address(network: IpNet, side: Side, not: bool) -> Vec<Match> {
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

pub(super) fn destination_port(protocol: Protocol, not: bool, ports: BTreeSet<u16>) -> Vec<Match> {
    port(protocol, Side::Destination, not, ports)
}

pub(super) fn port(protocol: Protocol, side: Side, not: bool, ports: BTreeSet<u16>) -> Vec<Match> {
    vec![Match::Protocol(protocol), Match::Port { side, not, ports }]
}

pub(super) fn mark(not: bool, mark: u32) -> Match {
    Match::Mark { not, mark }
}

pub(super) fn interfaces(direction: Direction, names: &[IfName]) -> Match {
    Match::Interface {
        direction,
        not: false,
        names: names.iter().cloned().collect(),
    }
}

pub(super) fn rule(matches: Vec<Match>, statement: Statement) -> Rule {
    Rule {
        matches,
        statements: vec![statement],
    }
}

pub(super) fn base(
    name: &str,
    kind: ChainType,
    point: HookPoint,
    priority: i32,
    rules: Vec<Rule>,
) -> Chain {
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
