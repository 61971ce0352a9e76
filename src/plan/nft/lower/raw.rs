//! Chains that keep the DNS connections of sidecar and application apart, by conntrack zones.

use super::super::{Chain, ChainType, HookPoint, Match, Statement};
use super::rules::{
    base, destination_port, only_interfaces, owners, port, rule, uncaptured_family,
};
use crate::plan::{
    Plan,
    packet::{APPLICATION_ZONE, DNS, Direction, Protocol::Udp, RESOLVER_ZONE, Side},
};

const RAW: i32 = -300;

/// raw PREROUTING and ISTIO_INBOUND.
pub(super) fn prerouting(plan: &Plan) -> Chain {
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
pub(super) fn output(plan: &Plan) -> Chain {
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
