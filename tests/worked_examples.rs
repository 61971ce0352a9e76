//! The iptables form is Istio's: its nine worked examples, and every combination of their options, as a kernel dumps them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;

use mesh_optin::{
    mesh::{IfName, Profile},
    plan::{Plan, PodNetwork, packet::Family},
};
use serde_json::json;
use support::{in_new_netns, injected, intent_of, lab::on_node, pods::data, run};

/// The rules of each table and chain, as in any dump. Built-in chains without rules are no difference.
type Dump = BTreeMap<(String, String), Vec<String>>;

fn dump(text: &str) -> Dump {
    let (mut out, mut table) = (Dump::new(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(name) = line
            .strip_prefix(':')
            .and_then(|l| l.split_once(" - "))
            .map(|(name, _)| name)
        {
            out.entry((table.into(), name.into())).or_default();
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|l| l.split_once(' '))
        {
            out.entry((table.into(), chain.into()))
                .or_default()
                .push(rule.into());
        }
    }
    out
}

/// The rules in a kernel, loaded and dumped by iptables itself.
fn loaded(text: &str, v6: bool, variant: &str) -> Dump {
    let prefix = if v6 { "ip6tables" } else { "iptables" };
    in_new_netns(|| {
        run(&format!("{prefix}-{variant}-restore"), &[], text);
        dump(&run(&format!("{prefix}-{variant}-save"), &[], ""))
    })
}

const TPROXY: (&str, &str) = ("sidecar.istio.io/interceptionMode", "TPROXY");
const DNS: (&str, &str) = ("ISTIO_META_DNS_CAPTURE", "true");
const DUAL: (&str, &str) = ("ISTIO_DUAL_STACK", "true");
const DROP: (&str, &str) = ("INVALID_DROP", "true");

struct Example {
    name: &'static str,
    annotations: Vec<(&'static str, &'static str)>,
    env: Vec<(&'static str, &'static str)>,
    ids: (u32, u32),
    ips: &'static [&'static str],
    /// Rules that Istio does not have there: table, chain, rule. Their places are the second test's.
    corrected: Vec<(&'static str, &'static str, &'static str)>,
}

fn examples() -> Vec<Example> {
    let example = |name| Example {
        name,
        annotations: vec![],
        env: vec![],
        ids: (1337, 1337),
        ips: &["10.244.0.5"],
        corrected: vec![],
    };
    let traffic = |settings: &[(&'static str, &'static str)]| settings.to_vec();
    let tunnel = (
        "mangle",
        "ISTIO_INBOUND",
        "-p tcp -m tcp --dport 15008 -j RETURN",
    );
    vec![
        example("6.1"),
        Example {
            annotations: vec![TPROXY],
            ids: (0, 1337),
            corrected: vec![tunnel],
            ..example("6.2")
        },
        Example {
            env: vec![DNS],
            ..example("6.3")
        },
        Example {
            annotations: traffic(&[
                ("traffic.sidecar.istio.io/includeInboundPorts", "8080,9090"),
                ("traffic.sidecar.istio.io/excludeInboundPorts", "9999"),
                ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306,6379"),
                ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
                (
                    "traffic.sidecar.istio.io/includeOutboundIPRanges",
                    "10.96.0.0/12,10.244.0.0/16",
                ),
                (
                    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                    "10.96.0.10/32",
                ),
            ]),
            ..example("6.4")
        },
        Example {
            ips: &["fd00:244::5"],
            ..example("6.5")
        },
        Example {
            annotations: traffic(&[
                (
                    "traffic.sidecar.istio.io/includeOutboundIPRanges",
                    "10.0.0.0/8,fd00::/8",
                ),
                (
                    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                    "10.1.2.3/32,fd00:1::/64",
                ),
            ]),
            env: vec![DUAL, DNS],
            ips: &["10.244.0.5", "fd00:244::5"],
            ..example("6.6")
        },
        Example {
            annotations: traffic(&[
                ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
                ("istio.io/reroute-virtual-interfaces", "tap0,tap1"),
            ]),
            ..example("6.7")
        },
        Example {
            env: vec![DROP],
            ids: (1_000_670_000, 1_000_670_001),
            ..example("6.8")
        },
        Example {
            annotations: traffic(&[
                TPROXY,
                ("traffic.sidecar.istio.io/includeInboundPorts", "8080"),
                ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
                ("istio.io/reroute-virtual-interfaces", "tap0"),
            ]),
            env: vec![DNS, DUAL, DROP],
            ips: &["10.244.0.5", "fd00:244::5"],
            corrected: vec![tunnel, ("mangle", "PREROUTING", "-i tap0 -j RETURN")],
            ..example("6.9")
        },
    ]
}

#[test]
fn the_nine_worked_examples_load_into_the_rules_that_istio_programs() {
    let mut compared = 0;
    for example in examples() {
        let (mut pod, namespace) = data("defaults");
        pod["metadata"]["annotations"] = json!({"sidecar.istio.io/status": "{}"});
        for (key, value) in &example.annotations {
            pod["metadata"]["annotations"][*key] = json!(value);
        }
        pod["status"]["podIPs"] = example.ips.iter().map(|ip| json!({"ip": ip})).collect();
        let proxy = pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .find(|c| c["name"] == "istio-proxy")
            .unwrap();
        proxy["securityContext"] = json!({"runAsUser": example.ids.0, "runAsGroup": example.ids.1});
        proxy["env"] = example
            .env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        for (family, v6) in [("v4", false), ("v6", true)] {
            let Ok(expected) = std::fs::read_to_string(format!(
                "{}/tests/data/worked/{}.{family}",
                env!("CARGO_MANIFEST_DIR"),
                example.name
            )) else {
                assert!(v6);
                continue;
            };
            let text = on_node(|node| {
                node.manifests(&[pod.clone(), namespace.clone()]);
                let output = node
                    .program(&[
                        "rules",
                        "-f",
                        "/manifests",
                        "--format",
                        "iptables",
                        "--family",
                        family,
                    ])
                    .output()
                    .unwrap();
                assert!(
                    output.status.success(),
                    "{}: {}",
                    example.name,
                    String::from_utf8_lossy(&output.stderr)
                );
                String::from_utf8(output.stdout).unwrap()
            });
            for variant in ["nft", "legacy"] {
                let mut ours = loaded(&text, v6, variant);
                for (table, chain, rule) in &example.corrected {
                    let rules = ours.get_mut(&((*table).into(), (*chain).into())).unwrap();
                    let at = rules
                        .iter()
                        .position(|r| r == rule)
                        .unwrap_or_else(|| panic!("{}: no {rule}", example.name));
                    rules.remove(at);
                }
                assert_eq!(ours, dump(&expected), "{} {family} {variant}", example.name);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * 12);
}

/// The options of one case: flags that hold, and lists.
struct Options {
    flags: Vec<&'static str>,
    lists: BTreeMap<&'static str, Vec<&'static str>>,
}

/// Istio's rows for these options.
fn rows(options: &Options, family: Family) -> Dump {
    let text = include_str!("data/worked/rows");
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

#[test]
fn every_combination_of_the_options_gives_istio_s_rows() {
    let (mut combinations, mut in_kernel) = (0, 0);
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
                let network = PodNetwork {
                    ipv4: true,
                    ipv6: dual,
                    primary: [IfName::eth0()].into(),
                };
                let plan = Plan::new(&intent, &network).unwrap();
                assert_eq!(plan.families.ipv6, dual);
                for family in plan.families.captured() {
                    let text = plan.iptables(family).to_string();
                    let expected = rows(&options, family);
                    assert_eq!(
                        dump(&text),
                        expected,
                        "{:?} {annotations:?} {env:?}",
                        options.flags
                    );
                    combinations += 1;
                    if combinations % 7 == 0 {
                        assert_eq!(
                            loaded(&text, family == Family::Ipv6, "nft"),
                            expected,
                            "{:?}",
                            options.flags
                        );
                        in_kernel += 1;
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 64 * 3 * 3 * 3 / 2);
    assert!(in_kernel > 100);
}
