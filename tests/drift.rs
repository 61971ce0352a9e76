//! Whatever single thing is changed in a live redirection, `verify` finds it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says how much it tried"
)]

mod support;

use support::{
    lab::{Node, PodLab, PodNet, inside, on_node},
    landings::{CONFIG, profile},
    pods::given_with,
    run, try_run,
};

const BOTH: PodNet = PodNet {
    v4: true,
    v6: true,
    net1: false,
};

/// A pod that uses every kind of rule.
fn rich(node: &Node, mode: &str, backend: &str) -> (PodLab, String) {
    let annotations = [
        ("traffic.sidecar.istio.io/excludeInboundPorts", "22,3306"),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,172.16.0.0/12,fd00::/8",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "10.96.0.10/32,fd00:1::/33",
        ),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "5432"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "net1,net2"),
        ("istio.io/reroute-virtual-interfaces", "tap0"),
    ];
    let env = [
        ("ISTIO_DUAL_STACK", "true"),
        ("INVALID_DROP", "1"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
    ];
    let args = given_with(
        node,
        if mode == "TPROXY" {
            "tproxy"
        } else {
            "defaults"
        },
        &annotations,
        &env,
    );
    profile(
        node,
        &format!("{{backend: {backend}, outboundOwnerGroups: {{exclude: [\"2000\"]}}}}"),
    );
    let lab = node.pod("pod", BOTH);
    let add = node.call("ADD", &lab.netns, &args, CONFIG);
    assert_eq!(add.code, 0, "{add:?}");
    (lab, args)
}

/// What `verify` says: its exit code and how many differences and warnings it tells.
fn verify(node: &Node) -> (i32, usize, String) {
    let output = node
        .program(&["verify", "--all", "-o", "json"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    let pod = &json["pods"][0];
    (
        output.status.code().unwrap(),
        pod["differences"].as_array().unwrap().len() + pod["inFront"].as_array().unwrap().len(),
        text,
    )
}

/// Everything that one line of a rule can be changed into, one word at a time.
fn altered(rule: &str) -> Vec<String> {
    let mut out = Vec::new();
    let words: Vec<&str> = rule.split(' ').collect();
    for (at, word) in words.iter().enumerate() {
        let mut with = |other: String| {
            let mut words = words.clone();
            words[at] = &other;
            out.push(words.join(" "));
        };
        let number = word.trim_start_matches([':', '!']).trim_end_matches(',');
        if let Ok(n) = number.parse::<u64>() {
            with(word.replace(number, &(n + 1).to_string()));
        }
        for (from, to) in [
            ("return", "accept"),
            ("drop", "return"),
            ("accept", "return"),
            ("RETURN", "ACCEPT"),
            ("DROP", "RETURN"),
            ("ACCEPT", "RETURN"),
            ("tcp", "udp"),
            ("udp", "tcp"),
            ("iifname", "oifname"),
            ("skuid", "skgid"),
            ("skgid", "skuid"),
            ("daddr", "saddr"),
            ("saddr", "daddr"),
            ("dport", "sport"),
            ("--uid-owner", "--gid-owner"),
            ("--dport", "--sport"),
            ("--dports", "--sports"),
            ("-d", "-s"),
            ("\"lo\"", "\"lp\""),
            ("lo", "lp"),
            ("net1", "net9"),
            ("invalid", "new"),
            ("INVALID", "NEW"),
            ("0x539", "0x53b"),
            ("0x53a", "0x53b"),
            ("0x539/0xffffffff", "0x539/0xff"),
            ("0x53a/0xffffffff", "0x53b/0xffffffff"),
            ("127.0.0.1", "127.0.0.2"),
            ("127.0.0.1/32", "127.0.0.0/8"),
            ("127.0.0.6", "127.0.0.7"),
            ("::1", "::2"),
            ("::1/128", "::/64"),
            ("10.96.0.10", "10.96.0.11"),
            ("10.96.0.10/32", "10.96.0.0/16"),
            ("10.0.0.0/8", "10.0.0.0/9"),
            ("fd00::/8", "fd00::/9"),
            ("outbound", "inert"),
            ("ISTIO_REDIRECT", "ISTIO_IN_REDIRECT"),
            ("ISTIO_IN_REDIRECT", "ISTIO_REDIRECT"),
            ("--save-mark", "--restore-mark"),
            ("--restore-mark", "--save-mark"),
        ] {
            if *word == from {
                with(to.to_owned());
            }
        }
        match *word {
            "!" => with(String::new()),
            "!=" => with("==".into()),
            "skuid" | "skgid" | "sport" | "saddr" | "mark"
                if words
                    .get(at + 1)
                    .is_some_and(|next| *next != "!=" && *next != "set") =>
            {
                with(format!("{word} !="))
            }
            "-s" | "-o" | "-i" | "--mark" | "--sport" if at == 0 || words[at - 1] != "!" => {
                with(format!("! {word}"))
            }
            _ => {}
        }
    }
    out.iter().map(|line| line.replace("  ", " ")).collect()
}

/// Every text with one change: each rule gone, twice, before its neighbour, and altered in every way; more before and in each chain.
fn changed(text: &str, is_rule: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, l)| is_rule(l)) {
        let mut with = |what: &str, replaced: Vec<&str>, skip: usize| {
            let text = [&lines[..at], &replaced, &lines[at + skip..]]
                .concat()
                .join("\n")
                + "\n";
            out.push((format!("{what}: {}", line.trim()), text));
        };
        with("without", vec![], 1);
        with("twice", vec![line, line], 1);
        let chain = |line: &str| {
            line.split(' ')
                .nth(1)
                .filter(|_| line.starts_with('-'))
                .map(str::to_owned)
        };
        if lines
            .get(at + 1)
            .is_some_and(|next| is_rule(next) && next != line && chain(next) == chain(line))
        {
            with("behind its neighbour", vec![lines[at + 1], line], 2);
        }
        for other in altered(line.trim_end()) {
            with(&format!("as {}", other.trim()), vec![&other], 1);
        }
    }
    out
}

/// Makes each change, has it verified, and at the end puts back what was. How many were tried, and which were missed. What the program
/// does not take cannot happen.
fn missed(
    node: &Node,
    lab: &PodLab,
    changes: Vec<(String, String)>,
    whole: &str,
    program: &[&str],
) -> (usize, Vec<String>) {
    let (mut tried, mut missed) = (0, vec![]);
    let load = |text: &str| inside(&lab.pod, || try_run(program[0], &program[1..], text)).is_ok();
    for (what, text) in changes
        .into_iter()
        .filter(|(_, text)| text != whole && load(text))
    {
        tried += 1;
        if verify(node).0 != 5 {
            missed.push(format!("{what}\n{text}"));
        }
    }
    assert!(load(whole));
    assert_eq!(verify(node).0, 0, "{}", verify(node).2);
    (tried, missed)
}

fn nothing_missed(what: &str, tried: usize, missed: &[String]) {
    println!("{what}: {tried} changes, {} found", tried - missed.len());
    assert!(
        missed.is_empty(),
        "{what}: {} of {tried} missed:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

fn of_nftables(mode: &str) {
    on_node(|node| {
        let (lab, _) = rich(node, mode, "Nftables");
        assert_eq!(verify(node).0, 0, "{}", verify(node).2);
        let whole = inside(&lab.pod, || {
            run("nft", &["list", "table", "inet", "mesh-optin"], "")
        });
        let is_rule = |line: &str| line.starts_with("\t\t") && !line.contains("hook");
        let mut changes = changed(&whole, is_rule);
        for line in whole.lines().filter(|l| l.contains("hook")) {
            let number = line
                .split("priority ")
                .nth(1)
                .unwrap()
                .split(';')
                .next()
                .unwrap();
            for (from, to) in [
                (format!("priority {number}"), "priority 5"),
                ("policy accept".into(), "policy drop"),
                ("hook prerouting".into(), "hook input"),
                ("hook output".into(), "hook postrouting"),
            ] {
                changes.push((
                    format!("{line}: {to}"),
                    whole.replacen(line, &line.replace(&from, to), 1),
                ));
            }
        }
        for line in whole.lines().filter(|l| l.starts_with("\tchain")) {
            let empty = |rest: &str| rest.find("\n\t}").unwrap();
            let (before, rest) = whole.split_once(line).unwrap();
            let (hook, _) = rest[1..].split_once('\n').unwrap();
            let hook = if hook.contains("hook") {
                format!("\n{hook}")
            } else {
                String::new()
            };
            changes.push((
                format!("flushed {line}"),
                format!("{before}{line}{hook}{}", &rest[empty(rest)..]),
            ));
            changes.push((
                format!("accept in front of {line}"),
                format!(
                    "{before}{line}{hook}\n\t\taccept{}",
                    rest.strip_prefix(&hook).unwrap()
                ),
            ));
            changes.push((
                format!("one more in front of {line}"),
                format!(
                    "{before}{line}{hook}\n\t\tcounter{}",
                    rest.strip_prefix(&hook).unwrap()
                ),
            ));
        }
        changes.push((
            "a chain more".into(),
            whole.replacen('{', "{\n\tchain more {\n\t}", 1),
        ));
        changes.push((
            "a chain of a hook more".into(),
            whole.replacen(
                '{',
                "{\n\tchain more {\n\t\ttype filter hook input priority 0;\n\t}",
                1,
            ),
        ));
        changes.push((
            "dormant".into(),
            whole.replacen('{', "{\n\tflags dormant;", 1),
        ));
        changes.push(("no table".into(), "table inet other {\n}\n".into()));
        for (family, name, hook, rule) in [
            (
                "ip",
                "f",
                "nat hook output priority -101",
                "tcp dport 80 redirect to :1",
            ),
            (
                "ip",
                "mesh-optin",
                "nat hook output priority -101",
                "tcp dport 80 redirect to :1",
            ),
            ("ip6", "f", "filter hook prerouting priority -200", "drop"),
            ("inet", "f", "filter hook output priority -310", "notrack"),
            (
                "inet",
                "f",
                "filter hook output priority -310",
                "udp dport vmap { 53 : drop }",
            ),
            (
                "inet",
                "nat",
                "filter hook output priority -310",
                "ct zone set 7",
            ),
            (
                "inet",
                "f",
                "filter hook prerouting priority -310",
                "tcp dport set 15008",
            ),
            (
                "ip",
                "f",
                "filter hook prerouting priority -310; policy drop",
                "tcp dport 1 accept",
            ),
        ] {
            let table = format!(
                "table {family} {name} {{\n\tchain c {{\n\t\ttype {hook};\n\t\t{rule}\n\t}}\n}}\n"
            );
            changes.push((
                format!("in front: {hook}: {rule}"),
                format!("{whole}{table}"),
            ));
        }
        let anew = |text: &str| format!("flush ruleset\n{text}");
        let changes = changes
            .into_iter()
            .map(|(what, text)| (what, anew(&text)))
            .collect();
        let (tried, missed) = missed(node, &lab, changes, &anew(&whole), &["nft", "-f", "-"]);
        nothing_missed(&format!("nftables {mode}"), tried, &missed);
        assert!(tried > 300, "{tried}");
    });
}

#[test]
fn what_comes_before_ours_and_lets_packets_go_on_is_told_and_is_no_drift() {
    on_node(|node| {
        let (lab, _) = rich(node, "REDIRECT", "Nftables");
        let chains = [
            ("filter hook prerouting priority -301", "accept"),
            ("nat hook output priority -150", "tcp dport 80 accept"),
        ];
        for (hook, rule) in chains {
            inside(&lab.pod, || {
                run(
                    "nft",
                    &["-f", "-"],
                    &format!("table ip f {{\n chain c {{\n type {hook};\n {rule}\n }}\n}}\n"),
                )
            });
            let (code, told, text) = verify(node);
            assert!(code == 0 && told == 1 && text.contains("accept"), "{text}");
            inside(&lab.pod, || run("nft", &["delete", "table", "ip", "f"], ""));
        }
        // what cannot be before ours, or does nothing, is not told
        for (flags, hook, rule) in [
            ("", "filter hook prerouting priority 0", "drop"),
            (
                "flags dormant;",
                "filter hook prerouting priority -301",
                "drop",
            ),
            ("", "filter hook prerouting priority -301", "counter"),
            ("", "filter hook input priority -301", "drop"),
        ] {
            inside(&lab.pod, || {
                run(
                    "nft",
                    &["-f", "-"],
                    &format!(
                        "table ip f {{\n {flags}\n chain c {{\n type {hook};\n {rule}\n }}\n}}\n"
                    ),
                )
            });
            let (code, told, text) = verify(node);
            assert!(code == 0 && told == 0, "{hook} {rule}: {text}");
            inside(&lab.pod, || run("nft", &["delete", "table", "ip", "f"], ""));
        }
    });
}

#[test]
fn every_change_of_the_nftables_form_is_found() {
    of_nftables("REDIRECT");
}

#[test]
fn every_change_of_the_nftables_form_is_found_in_tproxy_mode() {
    of_nftables("TPROXY");
}

fn of_iptables(mode: &str, variant: &str) {
    on_node(|node| {
        node.install_iptables(&[variant]);
        let (lab, _) = rich(node, mode, "Iptables");
        assert_eq!(verify(node).0, 0, "{}", verify(node).2);
        for prefix in ["iptables", "ip6tables"] {
            let (save, restore) = (
                format!("{prefix}-{variant}-save"),
                format!("{prefix}-{variant}-restore"),
            );
            let whole: String = inside(&lab.pod, || run(&save, &[], ""))
                .lines()
                .filter(|l| !l.starts_with('#'))
                .map(|l| format!("{l}\n"))
                .collect();
            let mut changes = changed(&whole, |line| line.starts_with("-A "));
            for line in whole.lines() {
                if let Some(chain) = line.strip_prefix(':').and_then(|l| l.split(' ').next()) {
                    let ours = chain.starts_with("ISTIO_");
                    let used = ours || chain == "PREROUTING" || chain == "OUTPUT";
                    if !used {
                        continue;
                    }
                    // a chain's table is that in which its line is
                    let table_start = whole[..whole.find(line).unwrap()].rfind('*').unwrap();
                    let (head, table) = whole.split_at(table_start);
                    let end = table.find("COMMIT").unwrap();
                    let (table, tail) = table.split_at(end);
                    let in_chain = format!("-A {chain} ");
                    let flushed: String = table
                        .lines()
                        .filter(|l| !l.starts_with(&in_chain))
                        .map(|l| format!("{l}\n"))
                        .collect();
                    if flushed != table {
                        changes
                            .push((format!("flushed {chain}"), format!("{head}{flushed}{tail}")));
                        let front = table.replacen(
                            &in_chain,
                            &format!("-A {chain} -j ACCEPT\n{in_chain}"),
                            1,
                        );
                        changes.push((
                            format!("accept in front of {chain}"),
                            format!("{head}{front}{tail}"),
                        ));
                    }
                    if !ours && table.contains("raw") {
                        changes.push((
                            format!("policy of {chain}"),
                            format!(
                                "{head}{}{tail}",
                                table
                                    .replacen(
                                        &format!("{line}\n"),
                                        &line.replace("ACCEPT", "DROP"),
                                        1
                                    )
                                    .replacen("DROP [0:0]", "DROP [0:0]\n", 1)
                            ),
                        ));
                    }
                }
            }
            changes.push((
                "a chain more".into(),
                whole.replacen("COMMIT", ":ISTIO_MORE - [0:0]\nCOMMIT", 1),
            ));
            changes.push((
                "no rules".into(),
                "*nat\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n".into(),
            ));
            let (tried, missed) = missed(node, &lab, changes, &whole, &[&restore]);
            nothing_missed(&format!("{prefix}-{variant} {mode}"), tried, &missed);
            assert!(tried > 200, "{tried}");
        }
    });
}

#[test]
fn every_change_of_the_iptables_form_is_found() {
    of_iptables("REDIRECT", "nft");
}

#[test]
fn every_change_of_the_iptables_form_is_found_in_tproxy_mode() {
    of_iptables("TPROXY", "nft");
}

#[test]
fn every_change_of_the_legacy_iptables_form_is_found() {
    of_iptables("TPROXY", "legacy");
}

#[test]
fn every_change_of_addresses_policy_rules_and_routes_is_found_and_a_repeated_add_completes_them() {
    on_node(|node| {
        let (lab, args) = rich(node, "TPROXY", "Nftables");
        let ip = |command: &str| {
            inside(&lab.pod, || {
                run("ip", &command.split(' ').collect::<Vec<_>>(), "")
            })
        };
        let rule = "rule XXX pref 32765 fwmark 0x539 lookup 133";
        // what changes it, what undoes it (empty: a repeated ADD does)
        let mut changes: Vec<(String, String)> =
            vec![("addr del ::6/128 dev lo".into(), String::new())];
        for family in ["-4", "-6"] {
            let rule = |verb: &str| format!("{family} {}", rule.replace("XXX", verb));
            let route = |verb: &str, of: &str| format!("{family} route {verb} {of} table 133");
            let all = if family == "-4" { "0.0.0.0/0" } else { "::/0" };
            let part = if family == "-4" {
                "10.0.0.0/8"
            } else {
                "fd00::/16"
            };
            changes.extend([
                (rule("del"), String::new()),
                (route("del", &format!("local {all} dev lo")), String::new()),
                (
                    rule("add").replace("32765", "32764"),
                    rule("del").replace("32765", "32764"),
                ),
                (
                    rule("add")
                        .replace("0x539", "0x539/0xff")
                        .replace("32765", "100"),
                    rule("del")
                        .replace("0x539", "0x539/0xff")
                        .replace("32765", "100"),
                ),
                (
                    format!("{family} rule add pref 7 lookup 200"),
                    format!("{family} rule del pref 7"),
                ),
                (
                    route("add", &format!("local {part} dev lo")),
                    route("del", &format!("local {part} dev lo")),
                ),
                (
                    route("add", &format!("blackhole {part}")),
                    route("del", &format!("blackhole {part}")),
                ),
            ]);
        }
        let tried = changes.len();
        for (change, undo) in changes {
            ip(&change);
            let (code, told, text) = verify(node);
            assert!(code == 5 && told > 0, "{change}: {text}");
            if undo.is_empty() {
                assert_eq!(
                    node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
                    "AlreadyRedirected"
                );
            } else {
                ip(&undo);
            }
            assert_eq!(verify(node).0, 0, "after {undo}");
        }
        println!("{tried} changes, {tried} found");
    });
}

#[test]
fn a_namespace_of_another_cookie_is_told_as_gone_and_an_unknown_one_as_unknown() {
    on_node(|node| {
        let (lab, _) = rich(node, "REDIRECT", "Nftables");
        let verify = |args: &[&str]| {
            let output = node
                .program(&[&["verify"], args].concat())
                .output()
                .unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stdout).unwrap()
                    + &String::from_utf8(output.stderr).unwrap(),
            )
        };
        for args in [
            &["--netns", &lab.netns][..],
            &["defaults"],
            &["defaults", "-n", "team-a"],
            &["--all"],
        ] {
            let (code, text) = verify(args);
            assert!(
                code == 0 && text.contains("is redirected as it should be (nftables"),
                "{args:?}: {text}"
            );
        }
        assert_eq!(verify(&["nobody"]).0, 1);
        assert_eq!(verify(&[]).0, 2);
        assert_eq!(verify(&["--netns", "/proc/self/ns/mnt"]).0, 1);
        nix::mount::umount2(
            &node.path("run/netns/pod"),
            nix::mount::MntFlags::MNT_DETACH,
        )
        .unwrap();
        std::fs::remove_file(node.path("run/netns/pod")).unwrap();
        let (code, text) = verify(&["--all"]);
        assert!(code == 0 && text.contains("is gone"), "{text}");
    });
}

#[test]
fn verify_all_never_says_that_all_is_well_where_it_could_not_look() {
    on_node(|node| {
        let verify = || {
            let output = node.program(&["verify", "--all"]).output().unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        let (code, out, err) = verify();
        assert!(
            code == 1 && out.is_empty() && err.contains("nothing of mesh-optin is installed here"),
            "{code} {out}{err}"
        );
        node.write("var/lib/mesh-optin/installed.json", "{}");
        assert_eq!(verify().0, 0, "installed, and no pod yet");
        std::fs::remove_file(node.path("var/lib/mesh-optin/installed.json")).unwrap();
        let (lab, _) = rich(node, "REDIRECT", "Nftables");
        node.write("run/mesh-optin/attachments/c0ffee.net2.json", "{}");
        let (code, out, err) = verify();
        assert!(
            code == 1
                && out.contains("is redirected as it should be")
                && err.contains("1 of the records"),
            "{code} {out}{err}"
        );
        drop(lab);
    });
}
