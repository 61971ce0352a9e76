//! Our rules in a real kernel: what was planned is what is read back, by us and by nft.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    data::{injected, intent_of},
    in_new_netns, run,
};
use mesh_optin::{
    deadline::Deadline,
    kernel::{KernelError, Nftables},
    plan::{Difference, Form, Plan, PodNetwork, nft::Table, summary},
    profile::{Interfaces, Profile, Selection},
};

fn nftables() -> Nftables {
    Nftables::open(Deadline::after(Duration::from_secs(60))).unwrap()
}

fn network(ipv6: bool) -> PodNetwork {
    PodNetwork::of_eth0(true, ipv6)
}

/// A plan that uses every kind of match.
fn rich(mode: &str) -> Plan {
    let annotations = [
        ("sidecar.istio.io/interceptionMode", mode),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "22,3306"),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,172.16.0.0/12,192.168.1.1/32,0.0.0.0/1,fd00::/8,2001:db8::1/128,127.0.0.9/32",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "10.96.0.10/32,fd00:1::/33",
        ),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "443,8443"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "5432"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "net1,net2"),
        ("istio.io/reroute-virtual-interfaces", "tap0,tap1"),
    ];
    let env = [
        ("ISTIO_DUAL_STACK", "true"),
        ("INVALID_DROP", "1"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
    ];
    let mut intent = intent_of(&injected(&annotations, &env), &Profile::built_in());
    intent.interfaces = Interfaces::Primary;
    intent.outbound.owner_groups.include = Selection::Only(vec![1000, 2000, 4_294_967_294]);
    Plan::new(&intent, &network(true)).unwrap()
}

const MODES: [&str; 2] = ["REDIRECT", "TPROXY"];

fn differences(plan: &Plan, found: Option<Table>) -> Vec<Difference> {
    plan.nftables().differences(found.as_ref())
}

#[test]
fn a_table_is_read_back_as_it_was_planned() {
    for plan in MODES.map(rich) {
        in_new_netns(|| {
            let table = plan.nftables();
            assert_eq!(nftables().table().unwrap(), None);
            nftables().replace(None, &table).unwrap();
            let found = nftables().table().unwrap();
            assert_eq!(summary(&differences(&plan, found.clone())), None);
            assert_eq!(Some(table), found);
        });
    }
}

#[test]
fn nft_loads_our_text_into_the_same_table_and_lists_ours_without_complaint() {
    for plan in MODES.map(rich) {
        let table = plan.nftables();
        let by_nft = in_new_netns(|| {
            run("nft", &["-f", "-"], &table.to_string());
            nftables().table().unwrap()
        });
        assert_eq!(summary(&differences(&plan, by_nft)), None);
        let (listed_of_nft, listed_of_us) = in_new_netns(|| {
            run("nft", &["-f", "-"], &table.to_string());
            let of_nft = run("nft", &["list", "ruleset"], "");
            run("nft", &["flush", "ruleset"], "");
            nftables().replace(None, &table).unwrap();
            (of_nft, run("nft", &["list", "ruleset"], ""))
        });
        // chains are listed in the order in which they were made
        let chains = |text: &str| {
            text.split("\tchain ")
                .map(str::trim)
                .map(|c| c.trim_end_matches('}').trim().to_owned())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(chains(&listed_of_nft), chains(&listed_of_us));
        assert!(
            listed_of_us.contains("172.16.0.0/12, 192.168.1.1 }"),
            "{listed_of_us}"
        );
    }
}

#[test]
fn a_second_table_is_refused_and_the_first_stays() {
    in_new_netns(|| {
        let table = rich("REDIRECT").nftables();
        nftables().replace(None, &table).unwrap();
        let mut other = table.clone();
        other.chains.truncate(1);
        assert!(matches!(
            nftables().replace(None, &other),
            Err(KernelError::Conflict)
        ));
        assert_eq!(nftables().table().unwrap(), Some(table));
    });
}

#[test]
fn a_transaction_for_an_earlier_generation_is_refused_as_a_whole() {
    in_new_netns(|| {
        let table = rich("REDIRECT").nftables();
        let mut late = nftables();
        assert_eq!(late.table().unwrap(), None);
        run("nft", &["add", "table", "inet", "foreign"], "");
        assert!(matches!(
            late.replace(None, &table),
            Err(KernelError::Conflict)
        ));
        assert_eq!(late.table().unwrap(), None);
        late.replace(None, &table).unwrap();
        assert_eq!(late.table().unwrap(), Some(table));
    });
}

#[test]
fn a_refused_rule_leaves_nothing_and_is_named() {
    in_new_netns(|| {
        let mut table = rich("REDIRECT").nftables();
        table.chains.retain(|c| c.name != "outbound"); // a jump to it stays
        let error = nftables().replace(None, &table).unwrap_err().to_string();
        assert!(
            error.contains("adding to chain output the rule") && error.contains("jump outbound"),
            "{error}"
        );
        assert_eq!(nftables().table().unwrap(), None);
        assert_eq!(run("nft", &["list", "ruleset"], ""), "");
    });
}

#[test]
fn the_largest_lists_fit_one_transaction() {
    in_new_netns(|| {
        let list = |of: &dyn Fn(u32) -> String| (0..102).map(of).collect::<Vec<_>>().join(",");
        let (ports, v4, v6) = (
            list(&|i| (i * 3 + 1).to_string()),
            list(&|i| format!("10.{i}.0.0/24")),
            list(&|i| format!("fd00:{i:x}::/64")),
        );
        let annotations = [
            (
                "traffic.sidecar.istio.io/excludeInboundPorts",
                ports.as_str(),
            ),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", &ports),
            ("traffic.sidecar.istio.io/includeOutboundPorts", &ports),
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", &v4),
            ("traffic.sidecar.istio.io/excludeOutboundIPRanges", &v6),
        ];
        let intent = intent_of(
            &injected(&annotations, &[("ISTIO_DUAL_STACK", "true")]),
            &Profile::built_in(),
        );
        let table = Plan::new(&intent, &network(true)).unwrap().nftables();
        nftables().replace(None, &table).unwrap();
        assert_eq!(nftables().table().unwrap(), Some(table));
    });
}

#[test]
fn a_live_rule_with_another_meaning_is_never_taken_for_the_planned_one() {
    let plan = rich("REDIRECT");
    let text = plan.nftables().to_string();
    let named = "table inet mesh-optin {\n\tset s { type inet_service; elements = { 443, 8443 }; }";
    let timed = "table inet mesh-optin {\n\tset s { type inet_service; flags timeout; elements = { 443 timeout 1h, 8443 }; }";
    let mut changes = vec![
        (
            "table inet mesh-optin {",
            "table inet mesh-optin {\n\tflags dormant;",
        ),
        ("redirect to :15001", "redirect to :1-15001"),
        ("redirect to :15006", "redirect to :15006 fully-random"),
        ("oifname \"lo\"", "oifname \"lo*\""),
        (
            "{ 443, 8443 } redirect to :15001",
            "vmap { 443 : drop, 8443 : drop } redirect to :15001",
        ),
        ("ct state invalid drop", "notrack ct state invalid drop"),
        (
            "ct state invalid drop",
            "ct direction reply ct state invalid drop",
        ),
        (
            "ct state invalid drop",
            "limit rate 1/day ct state invalid drop",
        ),
        (
            "ip daddr 10.96.0.10 return",
            "ip daddr & 255.255.0.0 == 10.96.0.10 return",
        ),
        (
            "ip daddr 10.96.0.10 return",
            "ip daddr != 10.96.0.10 return",
        ),
        ("meta skuid 1337 return", "meta skuid 1338 return"),
        ("meta skuid 1337 return", "meta skuid >= 1337 return"),
        ("meta skgid 1337 return", "meta skgid 1337 accept"),
        ("policy accept", "policy drop"),
        ("priority -100", "priority -99"),
        ("tcp dport 5432 return", "udp dport 5432 return"),
        ("tcp dport 5432 return", "tcp sport 5432 return"),
        ("tcp dport 5432 return", "tcp dport 5432 goto outbound"),
        ("jump outbound", "log jump outbound"),
    ];
    let with = |set: &str| {
        text.replacen("tcp dport { 443, 8443 }", "tcp dport @s", 1)
            .replacen("table inet mesh-optin {", set, 1)
    };
    let replaced: Vec<_> = changes
        .drain(..)
        .map(|(from, to)| {
            assert!(text.contains(from), "{from}");
            (format!("{from} -> {to}"), text.replacen(from, to, 1))
        })
        .chain([
            ("a named set".to_owned(), with(named)),
            ("a set with timeouts".to_owned(), with(timed)),
        ])
        .collect();
    // without one rule, and with one rule twice
    let rules: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("\t\t") && !l.contains("hook"))
        .collect();
    let edited = rules.iter().flat_map(|rule| {
        [
            (
                format!("without {rule}"),
                text.replacen(&format!("{rule}\n"), "", 1),
            ),
            (
                format!("twice {rule}"),
                text.replacen(rule, &format!("{rule}\n{rule}"), 1),
            ),
        ]
    });
    let mut found = 0;
    for (what, changed) in replaced.into_iter().chain(edited) {
        let live = in_new_netns(|| {
            run("nft", &["-f", "-"], &changed);
            nftables().table().unwrap()
        });
        assert_ne!(differences(&plan, live), [], "{what}");
        found += 1;
    }
    assert!(found > 60, "{found}");
}

#[test]
fn chains_with_many_paths_between_them_are_each_read_once() {
    in_new_netns(|| {
        let levels = 12;
        let mut script = "table inet theirs {\n".to_owned();
        for level in (0..levels).rev() {
            let jumps = if level + 1 < levels {
                format!("jump c{}\n", level + 1).repeat(4)
            } else {
                String::new()
            };
            script += &format!("chain c{level} {{\n{jumps}}}\n");
        }
        script += "chain base { type filter hook output priority -400; jump c0; }\n}\n";
        run("nft", &["-f", "-"], &script);
        let plan = rich("REDIRECT");
        assert_eq!(
            nftables()
                .in_front(&plan, plan.nftables().hooks(), Form::Nftables)
                .unwrap(),
            [],
            "before the deadline"
        );
    });
}
