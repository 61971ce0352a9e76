//! The parts of a plan besides rules: an address on `lo`, and policy routing that delivers marked packets to the sidecar.

mod entry;

use std::fmt;

use ipnet::IpNet;

use super::{Difference, Plan, packet::Family};
use crate::{mesh::InterceptionMode, profile::Selection};

pub use self::entry::{LocalRoute, PolicyRule, RoutingEntry};

/// The routing table of packets that are delivered to the sidecar.
pub const TABLE: u32 = 133;

/// The priority of the policy rule that leads there: before those that other plugins add for their own interfaces, which get 32765 and less.
/// Version 0.1.0 and istio-cni take one of these.
pub const PRIORITY: u32 = 100;

/// Addresses, policy rules and routes, planned or found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// On `lo`.
    pub addresses: Vec<IpNet>,
    /// Policy rules.
    pub rules: Vec<RoutingEntry<PolicyRule>>,
    /// Routes of the table.
    pub routes: Vec<RoutingEntry<LocalRoute>>,
}

impl Routing {
    /// What the plan needs.
    pub(super) fn of(plan: &Plan) -> Self {
        let addresses = if plan.families.ipv6 {
            vec![Family::Ipv6.passthrough()]
        } else {
            vec![]
        };
        let intent = &plan.intent;
        // without inbound capture nothing is marked for delivery
        if intent.mode == InterceptionMode::Redirect
            || intent.inbound.include == Selection::Only(vec![])
        {
            return Self {
                addresses,
                rules: vec![],
                routes: vec![],
            };
        }
        let families = || plan.families.captured();
        Self {
            addresses,
            rules: families()
                .map(|f| RoutingEntry::Ours(f, PolicyRule))
                .collect(),
            routes: families()
                .map(|f| RoutingEntry::Ours(f, LocalRoute))
                .collect(),
        }
    }

    /// What is planned here and was not found: what an ADD adds.
    #[must_use]
    pub fn without(&self, found: &Self) -> Self {
        fn lacking<T: PartialEq + Clone>(all: &[T], found: &[T]) -> Vec<T> {
            all.iter().filter(|a| !found.contains(a)).cloned().collect()
        }
        Self {
            addresses: lacking(&self.addresses, &found.addresses),
            rules: lacking(&self.rules, &found.rules),
            routes: lacking(&self.routes, &found.routes),
        }
    }

    /// All differences from what was found. `ipv6_in_use`: an interface has an IPv6 address; where none has, IPv6 may be switched off.
    pub fn compare(&self, found: &Self, ipv6_in_use: bool) -> Vec<Difference> {
        let missing = self.without(found);
        let counts = |family: &Family| ipv6_in_use || *family == Family::Ipv4;
        let mut out = Vec::new();
        for address in missing.addresses.iter().filter(|a| counts(&Family::of(a))) {
            out.push(Difference::missing("lo", format!("address {address}")));
        }
        differ(
            "policy rules",
            &self.rules,
            &found.rules,
            &missing.rules,
            counts,
            &mut out,
        );
        differ(
            "routes of table 133",
            &self.routes,
            &found.routes,
            &missing.routes,
            counts,
            &mut out,
        );
        out
    }
}

fn differ<T: PartialEq>(
    place: &str,
    expected: &[RoutingEntry<T>],
    found: &[RoutingEntry<T>],
    missing: &[RoutingEntry<T>],
    counts: impl Fn(&Family) -> bool,
    out: &mut Vec<Difference>,
) where
    RoutingEntry<T>: fmt::Display,
{
    let place = |entry: &RoutingEntry<T>| format!("{} {place}", entry.family());
    out.extend(
        missing
            .iter()
            .filter(|e| counts(&e.family()))
            .map(|e| Difference::missing(place(e), e.to_string())),
    );
    for (at, entry) in found.iter().enumerate() {
        let again = found[..at].contains(entry);
        if again || !expected.contains(entry) {
            out.push(Difference::extra(place(entry), entry.to_string()));
        }
    }
}

/// One sentence for each part.
impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for address in &self.addresses {
            writeln!(f, "Address {address} on lo.")?;
        }
        for rule in &self.rules {
            writeln!(f, "{} policy rule {rule}.", rule.family())?;
        }
        for route in &self.routes {
            writeln!(f, "{} route {route} in table {TABLE}.", route.family())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{intent, network};

    #[test]
    fn only_tproxy_with_inbound_capture_routes_and_each_family_does() {
        let tproxy = ("sidecar.istio.io/interceptionMode", "TPROXY");
        let none = ("traffic.sidecar.istio.io/includeInboundPorts", "");
        for (annotations, dual, rules) in [
            (vec![], true, 0),
            (vec![tproxy], false, 1),
            (vec![tproxy], true, 2),
            (vec![tproxy, none], true, 0),
        ] {
            let intent = intent(
                &annotations,
                &[("ISTIO_DUAL_STACK", if dual { "true" } else { "false" })],
            );
            let routing = Plan::new(&intent, &network(true, dual)).unwrap().routing();
            assert_eq!(
                (
                    routing.rules.len(),
                    routing.routes.len(),
                    routing.addresses.len()
                ),
                (rules, rules, usize::from(dual))
            );
        }
    }

    #[test]
    fn a_rule_twice_another_in_its_place_and_a_missing_one_are_differences() {
        let (ours, other) = (
            RoutingEntry::Ours(Family::Ipv4, PolicyRule),
            RoutingEntry::Other(Family::Ipv4, "5: lookup 133".into()),
        );
        let planned = Routing {
            rules: vec![ours.clone()],
            ..Routing::default()
        };
        for (found, count) in [
            (vec![], 1),
            (vec![&ours], 0),
            (vec![&ours, &ours], 1),
            (vec![&other], 2),
            (vec![&other, &ours], 1),
        ] {
            let found = Routing {
                rules: found.into_iter().cloned().collect(),
                ..Routing::default()
            };
            assert_eq!(planned.compare(&found, true).len(), count, "{found:?}");
        }
    }

    #[test]
    fn what_ipv6_lacks_does_not_count_where_eth0_has_no_ipv6() {
        let planned = Routing {
            addresses: vec![Family::Ipv6.passthrough()],
            ..Routing::default()
        };
        assert_eq!(planned.compare(&Routing::default(), false), []);
        assert_eq!(planned.compare(&Routing::default(), true).len(), 1);
    }
}
