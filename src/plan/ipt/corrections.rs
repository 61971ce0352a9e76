//! Where the iptables form differs from what istio-cni programs: all of it, each with its reason. Its own rows are made here.
//!
//! | istio-cni | here | because |
//! |---|---|---|
//! | in TPROXY mode the tunnel port (15008) is captured inbound: its exemption is in a chain of nat that nothing jumps to | [`tunnel`]: exempt in mangle as well | HBONE would be wrapped twice |
//! | in TPROXY mode traffic of virtual interfaces is taken for the pod's inbound, as mangle comes before nat | [`virtual_interfaces`]: mangle leaves them to nat | a virtual machine's outbound must reach the outbound listener |
//! | a port, network or interface that is listed twice gives two rules, and text is written as it was typed | every value is parsed once and programmed once | a rule more costs time and says nothing; unparsed text can fail half-way or mean something else |
//! | the policy rule has no priority: each run adds one more | priority 100, looked for first ([`crate::plan::routing`]) | a repeated ADD must change nothing, and the rules of other plugins for their interfaces must not come first |
//! | IPv6 is programmed iff the first address of any interface is an IPv6 address | eth0 and the sidecar decide ([`crate::plan::Families`]) | a secondary network would switch the mesh off |
//!
//! `interfaces: Primary` is no correction: Istio has nothing like it. Its rules stand once for each interface that is not left alone.

use super::{Match, Rule, Target};
use crate::profile::IfName;

/// mangle ISTIO_INBOUND: the tunnel's port is exempt, as it is in nat.
pub(super) fn tunnel(exempt: Rule) -> impl Iterator<Item = Rule> {
    std::iter::once(exempt)
}

/// mangle PREROUTING: what comes in by a virtual interface is for nat, which takes it for the pod's outbound.
pub(super) fn virtual_interfaces(names: &[IfName]) -> impl Iterator<Item = Rule> {
    names
        .iter()
        .rev()
        .map(|v| Rule::new([Match::of_in(v)], Target::Return))
}

#[cfg(test)]
mod tests {
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
        packet::Family,
    };

    /// The rules of one chain of the IPv4 form.
    fn chain(annotations: &[(&str, &str)], table: &str, name: &str) -> Vec<String> {
        let plan = Plan::new(&intent(annotations, &[]), &network(true, false)).unwrap();
        let text = plan.iptables(Family::Ipv4).to_string();
        let table = text.split('*').find(|t| t.starts_with(table)).unwrap();
        let prefix = format!("-A {name} ");
        table
            .lines()
            .filter_map(|l| l.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    const TPROXY: (&str, &str) = ("sidecar.istio.io/interceptionMode", "TPROXY");

    #[test]
    fn the_tunnel_is_exempt_before_any_port_is_captured_by_tproxy() {
        for include in ["*", "8080,15008"] {
            let rules = chain(
                &[
                    TPROXY,
                    ("traffic.sidecar.istio.io/includeInboundPorts", include),
                ],
                "mangle",
                "ISTIO_INBOUND",
            );
            let exempt = rules
                .iter()
                .position(|r| r == "-p tcp -m tcp --dport 15008 -j RETURN")
                .unwrap();
            assert!(
                exempt
                    < rules
                        .iter()
                        .position(|r| r.ends_with("-j ISTIO_DIVERT"))
                        .unwrap(),
                "{rules:?}"
            );
        }
    }

    #[test]
    fn virtual_interfaces_leave_mangle_before_inbound_is_captured() {
        let rules = chain(
            &[TPROXY, ("istio.io/reroute-virtual-interfaces", "tap0,tap1")],
            "mangle",
            "PREROUTING",
        );
        assert_eq!(
            rules[..3],
            [
                "-i tap1 -j RETURN",
                "-i tap0 -j RETURN",
                "-p tcp -j ISTIO_INBOUND"
            ]
        );
    }

    #[test]
    fn what_is_listed_twice_is_programmed_once_and_as_a_value() {
        let annotations = [
            (
                "traffic.sidecar.istio.io/excludeInboundPorts",
                " 1, 015021 ,1",
            ),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                "10.1.0.0/8,10.2.0.0/8",
            ),
        ];
        let inbound = chain(&annotations, "nat", "ISTIO_INBOUND");
        assert_eq!(
            inbound
                .iter()
                .filter(|r| r.contains("--dport 15021 "))
                .count(),
            1,
            "{inbound:?}"
        );
        let output = chain(&annotations, "nat", "ISTIO_OUTPUT");
        assert_eq!(
            output
                .iter()
                .filter(|r| r.contains("-d 10.0.0.0/8 -j ISTIO_REDIRECT"))
                .count(),
            1,
            "{output:?}"
        );
    }

    #[test]
    fn the_policy_rule_has_a_priority_of_its_own() {
        let routing = Plan::new(&intent(&[TPROXY], &[]), &network(true, false))
            .unwrap()
            .routing();
        assert_eq!(
            routing.to_string().lines().next(),
            Some("IPv4 policy rule 100: from all fwmark 0x539 lookup 133.")
        );
    }

    #[test]
    fn eth0_alone_decides_on_ipv6() {
        let families = |v4, v6| {
            Plan::new(&intent(&[], &[]), &network(v4, v6))
                .unwrap()
                .families
        };
        assert!(families(false, true).ipv6 && !families(true, true).ipv6);
    }
}
