//! Chains that mark packets: TPROXY, and packets that conntrack calls invalid.

use super::super::{Chain, ChainType, HookPoint, Match, Rule, Statement};
use super::rules::{
    address, base, captured_ports, excluded_interfaces, interfaces, mark, not_inbound,
    only_interfaces, owners, rule, uncaptured_family,
};
use crate::{
    mesh::InterceptionMode,
    plan::{
        Plan,
        packet::{CtState, Direction, LOOP_MARK, Protocol::Tcp, Side, TPROXY_MARK},
    },
    profile::IfName,
};

const MANGLE: i32 = -150;
/// Where inbound connections are delivered to the sidecar in TPROXY mode; Istio's ISTIO_INBOUND of mangle.
const INBOUND: &str = "inbound";

/// mangle PREROUTING. As in Istio an excluded interface is exempt from INVALID_DROP in TPROXY mode only; one added after a start with
/// `interfaces: Primary` always is.
pub(super) fn prerouting(plan: &Plan) -> Option<Chain> {
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
pub(super) fn inbound(plan: &Plan) -> Chain {
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
pub(super) fn output(plan: &Plan) -> Chain {
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
