use super::{
    changes::{changed, missed, nothing_missed},
    rich, verify,
};
use crate::support::{
    lab::{inside, on_node},
    run,
};

fn of_nftables(mode: &str, at_least: usize) {
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
        let reload = |text: &str| format!("flush ruleset\n{text}");
        let changes = changes
            .into_iter()
            .map(|(what, text)| (what, reload(&text)))
            .collect();
        let outcome = missed(node, &lab, changes, &reload(&whole), &["nft", "-f", "-"]);
        nothing_missed(&format!("nftables {mode}"), at_least, outcome);
    });
}

#[test]
fn every_change_of_the_nftables_form_is_found() {
    of_nftables("REDIRECT", 311);
}

#[test]
fn every_change_of_the_nftables_form_is_found_in_tproxy_mode() {
    of_nftables("TPROXY", 454);
}
