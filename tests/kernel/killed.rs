//! Killed at the calls of its threads, one after the other: with nftables packets see no rule or all rules, and with either backend the next
//! ADD succeeds.

use std::collections::BTreeMap;

use crate::support::{
    lab::{BOTH, CONFIG, Node, PodLab, inside, on_node},
    landings::{given_everything, verified},
    run,
    traced::{Traced, traced_add},
    try_run,
};

/// What was done, beside what the test saw for itself.
struct Kills {
    /// How often it was killed.
    kills: usize,
    /// How often no thread came as far: not all calls are made each time.
    missed: usize,
}

/// Kills an ADD at each of its calls, in a namespace that has nothing of it. `then`: what must hold.
fn kill_everywhere(
    node: &Node,
    lab: &PodLab,
    args: &str,
    forget: impl Fn(),
    mut then: impl FnMut(&str),
) -> Kills {
    let whole = [(); 3].map(|()| {
        forget();
        let whole = traced_add(node, &lab.netns, args, CONFIG, &[]);
        assert_eq!(whole.call.as_ref().unwrap().code, 0, "{:?}", whole.call);
        whole
    });
    // an ADD that waits longer makes more of some calls: those that each of the three made
    let counts = whole.each_ref().map(Traced::calls);
    let calls = counts[0].keys().filter_map(|name| {
        let least = counts.iter().map(|of_one| of_one.get(name)).min()??;
        Some((*name, *least))
    });
    let calls = calls.filter(|(name, _)| !name.starts_with("exec") && !name.starts_with("exit"));
    let mut kills = Kills {
        kills: 0,
        missed: 0,
    };
    for (syscall, n) in calls.flat_map(|(name, count)| (1..=count).map(move |n| (name, n))) {
        forget();
        if !traced_add(
            node,
            &lab.netns,
            args,
            CONFIG,
            &[format!("{syscall}:signal=KILL:when={n}")],
        )
        .killed
        {
            kills.missed += 1;
            continue;
        }
        kills.kills += 1;
        then(&format!("{syscall} {n}"));
        let next = node.call("ADD", &lab.netns, args, CONFIG);
        assert_eq!(next.code, 0, "after a kill at {syscall} {n}: {next:?}");
        verified(node);
    }
    assert!(
        kills.kills > 150 && kills.missed < kills.kills / 4,
        "{} {}",
        kills.kills,
        kills.missed
    );
    kills
}

/// Takes everything away that an ADD makes.
fn forget(node: &Node, lab: &PodLab) {
    inside(&lab.pod, || {
        run("nft", &["flush", "ruleset"], "");
        for family in ["-4", "-6"] {
            try_run("ip", &[family, "rule", "del", "pref", "100"], "").ok();
            try_run("ip", &[family, "route", "flush", "table", "133"], "").ok();
        }
        try_run("ip", &["addr", "del", "::6/128", "dev", "lo"], "").ok();
    });
    std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).ok();
}

#[test]
fn killed_at_a_system_call_it_leaves_no_rule_or_all_rules_and_the_next_add_succeeds() {
    on_node(|node| {
        let args = given_everything(node, "Nftables");
        let lab = node.pod("a", BOTH);
        let tables = || inside(&lab.pod, || run("nft", &["list", "ruleset"], ""));
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        let whole = tables();
        let (mut none, mut all) = (0, 0);
        let kills = kill_everywhere(
            node,
            &lab,
            &args,
            || forget(node, &lab),
            |at| match tables().as_str() {
                "" => none += 1,
                text if text == whole => all += 1,
                part => panic!("killed at {at}: {part}"),
            },
        );
        println!(
            "nftables: killed {} times: {none} times no rule was there, {all} times all were; {} calls were not reached",
            kills.kills, kills.missed
        );
        assert!(none > 50 && all > 10, "{none} {all}");
        // one for each system call: a cheaper ADD makes fewer
        assert!(kills.kills >= 220, "{} kills, once 242", kills.kills);
    });
}

#[test]
fn killed_with_iptables_at_a_system_call_it_leaves_what_the_next_add_completes() {
    on_node(|node| {
        node.install_iptables(&["nft"]);
        let args = given_everything(node, "Iptables");
        let lab = node.pod("a", BOTH);
        let mut left = BTreeMap::new();
        let kills = kill_everywhere(
            node,
            &lab,
            &args,
            || forget(node, &lab),
            |_| {
                let chains = inside(&lab.pod, || run("nft", &["list", "ruleset"], ""))
                    .matches("chain ISTIO")
                    .count();
                *left.entry(chains).or_insert(0) += 1;
            },
        );
        println!(
            "iptables: killed {} times, leaving this number of chains this often: {left:?}; {} calls were not reached",
            kills.kills, kills.missed
        );
        assert!(left.len() > 2, "some in the middle: {left:?}");
        assert!(kills.kills >= 290, "{} kills, once 318", kills.kills);
    });
}
