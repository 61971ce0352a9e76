//! Every combination of the options that Istio's rules depend on.

use std::collections::BTreeMap;

use mesh_optin::{
    plan::{Plan, PodNetwork, packet::Family},
    profile::{IfName, Profile},
};

use super::{DNS, DROP, DUAL, Dump, TPROXY};
use crate::support::data::{injected, intent_of};

/// The options of one case: flags that hold, and lists.
struct Options {
    flags: Vec<&'static str>,
    lists: BTreeMap<&'static str, Vec<&'static str>>,
}

/// Istio's rows for these options.
fn rows(options: &Options, family: Family) -> Dump {
    let text = include_str!("../../data/worked/rows");
    let (lo, passthrough, any) = match family {
        Family::Ipv4 => ("127.0.0.1/32", "127.0.0.6/32", "0.0.0.0"),
        Family::Ipv6 => ("::1/128", "::6/128", "::"),
    };
    let mut out = Dump::new();
    for row in text.lines().filter(|l| !l.starts_with('#')) {
        let [place, when, rules] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        if !when
            .split_whitespace()
            .all(|flag| options.flags.contains(&flag))
        {
            continue;
        }
        // a network, then an interface: the outer loop first
        let mut several = vec![rules.to_owned()];
        for (list, reversed) in [
            ("cidr-", true),
            ("cidr", false),
            ("cidrexc", false),
            ("virt", true),
            ("exif", false),
            ("in", false),
            ("inexc", false),
            ("pexc", false),
            ("pinc", false),
        ] {
            let hole = format!("{{{list}}}");
            if !rules.contains(&hole) {
                continue;
            }
            let mut values: Vec<&str> = options
                .lists
                .get(list.trim_end_matches('-'))
                .cloned()
                .unwrap_or_default();
            if list.starts_with("cidr") {
                values.retain(|v| v.contains(':') == (family == Family::Ipv6));
            }
            if reversed {
                values.reverse();
            }
            several = several
                .iter()
                .flat_map(|rule| {
                    values
                        .iter()
                        .map(|v| rule.replace(&hole, v))
                        .collect::<Vec<_>>()
                })
                .collect();
        }
        let (table, chain) = place.split_once(' ').unwrap();
        for rule in several.iter().flat_map(|r| r.split(';')) {
            let rule = rule
                .replace("LO ", &format!("{lo} "))
                .replace("SRC6", passthrough)
                .replace("ANY", any);
            out.entry((table.into(), chain.into()))
                .or_default()
                .push(rule);
        }
    }
    out
}

/// Rules of one family, and what Istio makes of the same options.
pub struct Combination {
    /// What was combined.
    pub name: String,
    pub family: Family,
    /// Ours, as iptables-restore reads them.
    pub text: String,
    pub expected: Dump,
}

/// All combinations.
pub fn combinations() -> Vec<Combination> {
    let mut combinations = vec![];
    for bits in 0..64u32 {
        let on = |bit: u32| bits & (1 << bit) != 0;
        for inbound in ["*", "8080,9090", ""] {
            for (ranges, loops) in [
                ("*", false),
                ("10.0.0.0/8,192.168.0.0/16,fd00::/8", false),
                ("127.0.0.0/8,10.0.0.0/8", true),
            ] {
                let (tproxy, exif, virt, dns, dual, drop) =
                    (on(0), on(1), on(2), on(3), on(4), on(5));
                let mut annotations = vec![
                    ("traffic.sidecar.istio.io/includeInboundPorts", inbound),
                    ("traffic.sidecar.istio.io/excludeInboundPorts", "22"),
                    ("traffic.sidecar.istio.io/includeOutboundIPRanges", ranges),
                    (
                        "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                        "10.1.0.0/16,fd00:1::/64",
                    ),
                    ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
                    ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306,5432"),
                ];
                let list = |text: &'static str| {
                    text.split(',')
                        .filter(|e| !e.is_empty() && *e != "*")
                        .collect::<Vec<_>>()
                };
                let mut options = Options {
                    flags: vec!["corrected"],
                    lists: [
                        ("in", list(inbound)),
                        ("inexc", vec!["22", "15020", "15021", "15090"]),
                        ("cidr", list(ranges)),
                        ("cidrexc", vec!["10.1.0.0/16", "fd00:1::/64"]),
                        ("pinc", vec!["443"]),
                        ("pexc", vec!["3306", "5432"]),
                    ]
                    .into(),
                };
                if tproxy {
                    annotations.push(TPROXY);
                }
                if exif {
                    annotations.push(("traffic.sidecar.istio.io/excludeInterfaces", "net1,net2"));
                    options.lists.insert("exif", vec!["net1", "net2"]);
                }
                if virt {
                    annotations.push(("istio.io/reroute-virtual-interfaces", "tap0,tap1"));
                    options.lists.insert("virt", vec!["tap0", "tap1"]);
                }
                let flag = |is: bool, yes, no| if is { yes } else { no };
                options.flags.extend([
                    flag(tproxy, "tproxy", "redirect"),
                    flag(dns, "dns", "nodns"),
                    flag(loops, "loop", "noloop"),
                ]);
                options.flags.extend([
                    flag(drop, "drop", ""),
                    flag(ranges == "*", "wild", ""),
                    flag(inbound == "*", "inall", ""),
                ]);
                options.flags.push(flag(inbound.is_empty(), "", "inbound"));
                let env: Vec<_> = [(dns, DNS), (dual, DUAL), (drop, DROP)]
                    .into_iter()
                    .filter(|(is, _)| *is)
                    .map(|(_, e)| e)
                    .collect();
                let intent = intent_of(&injected(&annotations, &env), &Profile::built_in());
                let network = PodNetwork::of_eth0(true, dual);
                let plan = Plan::new(&intent, &network).unwrap();
                assert_eq!(plan.families.ipv6, dual);
                for family in plan.families.captured() {
                    combinations.push(Combination {
                        name: format!("{:?} {annotations:?} {env:?}", options.flags),
                        family,
                        text: plan.iptables(family).to_string(),
                        expected: rows(&options, family),
                    });
                }
            }
        }
    }
    assert_eq!(combinations.len(), 64 * 3 * 3 * 3 / 2);
    combinations
}
