//! Determines which interfaces are the pod's own network, and which address families they have.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{
    read::{Link, Route},
    uapi::BY_ADVERTISEMENT,
};
use crate::{
    plan::{PodNetwork, packet::Family},
    reason::{Explanation, Reason},
};

/// What a plan depends on, of what eth0 (by its index) and other interfaces have.
///
/// The pod's own network is eth0 and the holders of the main table's default routes: another table is for one interface's own traffic, and a
/// router may advertise itself on any interface at any time.
pub(super) fn pod_network(
    eth0: u32,
    links: &[Link],
    addresses: &[(u32, IpNet)],
    defaults: &[(Family, Route)],
) -> Result<PodNetwork, Explanation> {
    let families = |index: u32| {
        let of = addresses
            .iter()
            .filter(|(of, _)| *of == index)
            .map(|(_, a)| a.addr());
        let of: Vec<_> = of.filter(is_global).collect();
        (
            of.iter().any(IpAddr::is_ipv4),
            of.iter().any(IpAddr::is_ipv6),
        )
    };
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.and_then(|link| link.name.clone()).ok_or_else(|| {
            Reason::KernelRefused
                .because(format!("the interface of index {index} has no usable name"))
        })
    };
    let held: Vec<_> = defaults
        .iter()
        .filter(|(_, r)| r.protocol != BY_ADVERTISEMENT)
        .collect();
    let all: BTreeSet<u32> = held
        .iter()
        .flat_map(|(_, r)| r.out.iter().copied())
        .chain([eth0])
        .collect();
    let mut first = BTreeSet::from([eth0]);
    for family in [Family::Ipv4, Family::Ipv6] {
        let of_family = || held.iter().filter(|(of, _)| *of == family);
        let lowest = of_family().map(|(_, r)| r.metric).min();
        let best = of_family().filter(|(_, r)| Some(r.metric) == lowest);
        first.extend(best.flat_map(|(_, r)| r.out.iter().copied()));
    }
    let (ipv4, ipv6) = families(eth0);
    let has_ipv6_alone = |index: &u32| families(*index) == (false, true);
    let with_ipv6 = links.iter().filter(|link| families(link.index).1);
    let addressed = links
        .iter()
        .filter(|link| families(link.index) != (false, false));
    let addressed = addressed.filter_map(|link| Some((link.name.clone()?, link.index)));
    Ok(PodNetwork {
        ipv4,
        ipv6,
        primary: first.into_iter().map(name).collect::<Result<_, _>>()?,
        needs_ipv6: all.iter().any(has_ipv6_alone),
        with_ipv6: with_ipv6.filter_map(|link| link.name.clone()).collect(),
        addressed: addressed.collect(),
    })
}

fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local() && !a.is_multicast(),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local() && !a.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        plan::{Plan, fixtures::intent},
        profile::{IfName, Interfaces, IpFamilies},
    };

    /// An interface with its addresses, and the default routes that it holds: metric, and whether by router advertisement.
    #[derive(Debug, Clone)]
    struct Nic {
        v4: bool,
        v6: bool,
        default_v4: Option<u32>,
        default_v6: Option<(u32, bool)>,
    }

    fn any_nic() -> impl Strategy<Value = Nic> {
        let metric = || proptest::option::of(prop_oneof![Just(0u32), Just(100), Just(1024)]);
        (
            any::<bool>(),
            any::<bool>(),
            metric(),
            metric(),
            any::<bool>(),
        )
            .prop_map(|(v4, v6, a, b, by_ra)| Nic {
                v4,
                v6,
                default_v4: a.filter(|_| v4),
                default_v6: b.filter(|_| v6).map(|metric| (metric, by_ra)),
            })
    }

    /// What there is with these interfaces, eth0 the first, dumped in this order.
    fn network(nics: &[Nic], order: &[usize]) -> PodNetwork {
        let (mut links, mut addresses, mut defaults) = (vec![], vec![], vec![]);
        for at in order.iter().copied().filter(|at| *at < nics.len()) {
            let (nic, index) = (&nics[at], at as u32 + 2);
            let name = if at == 0 {
                "eth0".to_owned()
            } else {
                format!("net{at}")
            };
            links.push(Link {
                index,
                name: IfName::of_kernel(&name),
                is_in_bridge: false,
            });
            addresses.push((index, "fe80::1/64".parse().unwrap()));
            addresses.extend(nic.v4.then(|| (index, "10.0.0.1/24".parse().unwrap())));
            addresses.extend(nic.v6.then(|| (index, "fd00::1/64".parse().unwrap())));
            let route = |metric, protocol| Route {
                family: 0,
                table: 254,
                length: 0,
                kind: 1,
                protocol,
                metric,
                out: vec![index],
                is_plain: true,
            };
            defaults.extend(nic.default_v4.map(|m| (Family::Ipv4, route(m, 3))));
            defaults.extend(
                nic.default_v6
                    .map(|(m, by_ra)| (Family::Ipv6, route(m, if by_ra { 9 } else { 3 }))),
            );
        }
        pod_network(2, &links, &addresses, &defaults).unwrap()
    }

    proptest! {
        #[test]
        fn an_additional_interface_never_takes_a_family_or_eth0_out_of_what_is_captured(
            nics in proptest::collection::vec(any_nic(), 1..5),
            more in any_nic(),
            order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
            dual_stack in any::<bool>(),
        ) {
            prop_assume!(nics[0].v4 || nics[0].v6);
            let in_order: Vec<usize> = (0..6).collect();
            let env = [("ISTIO_DUAL_STACK", if dual_stack { "true" } else { "false" })];
            let mut intent = intent(&[], &env);
            prop_assert_eq!(intent.ip_families, IpFamilies::Proxy);
            let captured = |intent: &_, nics: &[Nic], order: &[usize]| {
                let plan = Plan::new(intent, &network(nics, order)).unwrap();
                (plan.families.ipv6, plan.only_interfaces)
            };
            let before = captured(&intent, &nics, &in_order);
            prop_assert_eq!(&before, &captured(&intent, &nics, &order), "the dump's order counts for nothing");
            let with_more: Vec<_> = nics.iter().cloned().chain([more.clone()]).collect();
            let after = captured(&intent, &with_more, &order);
            prop_assert!(!before.0 || after.0, "IPv6 is no longer captured");
            intent.interfaces = Interfaces::Primary;
            let (before, after) = (captured(&intent, &nics, &in_order).1.unwrap(), captured(&intent, &with_more, &order).1.unwrap());
            prop_assert!(after.contains(&IfName::eth0()));
            // a default route of a lower metric is another primary interface's
            let is_better = more.default_v4.is_some() || more.default_v6.is_some();
            prop_assert!(is_better || before.is_subset(&after));
        }
    }

    #[test]
    fn the_best_routes_of_the_main_table_make_an_interface_primary_and_advertisements_do_not() {
        let eth0 = Nic {
            v4: true,
            v6: false,
            default_v4: Some(0),
            default_v6: None,
        };
        let advertised = Nic {
            v4: false,
            v6: true,
            default_v4: None,
            default_v6: Some((1024, true)),
        };
        let worse = Nic {
            v4: true,
            v6: false,
            default_v4: Some(100),
            default_v6: None,
        };
        let udn = Nic {
            v4: false,
            v6: true,
            default_v4: None,
            default_v6: Some((0, false)),
        };
        let all = [eth0, advertised, worse, udn];
        let found = network(&all, &[0, 1, 2, 3]);
        let names =
            |set: &BTreeSet<IfName>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&found.primary), ["eth0", "net3"]);
        assert_eq!(names(&found.with_ipv6), ["net1", "net3"]);
        assert!(found.needs_ipv6, "net3 has a default route, and IPv6 alone");
        assert!(!network(&all[..3], &[2, 1, 0]).needs_ipv6);
    }
}
