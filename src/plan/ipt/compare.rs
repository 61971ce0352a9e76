//! Compares the planned rules with those of a namespace. Built-in chains are shared: foreign rules in them are no difference, but
//! those that come before ours are worth a warning.

use super::{Chain, Match, OURS, Rule, Ruleset, Table, TableName, Target};
use crate::{
    mesh::InterceptionMode,
    plan::{Difference, Plan, Preempting, compare::rules, packet::Family},
};

/// Targets that let a packet go on as it was.
pub const HARMLESS: [&str; 9] = [
    "(none)", "LOG", "NFLOG", "TRACE", "TCPMSS", "TOS", "DSCP", "CLASSIFY", "CHECKSUM",
];

/// All differences of meaning of all families. `ipv6_in_use`: an interface has an IPv6 address; where none has, IPv6 counts only if the
/// kernel has it.
pub fn differences(expected: &[Ruleset], found: &[Ruleset], ipv6_in_use: bool) -> Vec<Difference> {
    let of = |family| found.iter().find(|rules| rules.family == family);
    expected
        .iter()
        .map(|rules| (rules, of(rules.family)))
        .filter(|(rules, found)| rules.family == Family::Ipv4 || ipv6_in_use || found.is_some())
        .flat_map(|(rules, found)| compare(rules, found))
        .collect()
}

/// All differences of meaning (`None`: the family has no tables).
pub fn compare(expected: &Ruleset, found: Option<&Ruleset>) -> Vec<Difference> {
    let mut out = Vec::new();
    for name in TableName::ALL {
        let place = format!("{} table {}", expected.family, name.as_str());
        let none = Table {
            name,
            chains: vec![],
        };
        let expected = expected.table(name).unwrap_or(&none);
        let found = found.and_then(|f| f.table(name)).unwrap_or(&none);
        tables(&place, expected, found, &mut out);
    }
    out
}

fn tables(place: &str, expected: &Table, found: &Table, out: &mut Vec<Difference>) {
    for chain in &expected.chains {
        let Some(live) = found.chain(&chain.name) else {
            out.push(Difference::missing(place, format!("chain {}", chain.name)));
            continue;
        };
        if live.policy != chain.policy {
            let text = |c: &Chain| {
                c.policy
                    .as_ref()
                    .map_or_else(|| "no policy".to_owned(), |p| format!("policy {p}"))
            };
            out.push(Difference::changed(
                format!("{place}, chain {}", chain.name),
                text(live),
                text(chain),
            ));
        }
        let live: Vec<Rule> = if is_ours(live) {
            live.rules.clone()
        } else {
            ours(Some(chain), live).cloned().collect()
        };
        rules(
            &format!("{place}, chain {}", chain.name),
            &chain.rules,
            &live,
            out,
        );
    }
    for live in found
        .chains
        .iter()
        .filter(|c| expected.chain(&c.name).is_none())
    {
        if is_ours(live) {
            out.push(Difference::extra(place, format!("chain {}", live.name)));
        }
        let place = format!("{place}, chain {}", live.name);
        out.extend(ours(None, live).map(|rule| Difference::extra(&place, rule.to_string())));
    }
}

/// Whether the namespace has nothing of ours.
pub fn is_untouched(found: &Ruleset) -> bool {
    found
        .tables
        .iter()
        .flat_map(|t| &t.chains)
        .all(|c| !is_ours(c) && ours(None, c).next().is_none())
}

/// Whether it is one of our chains.
pub(super) fn is_ours(chain: &Chain) -> bool {
    chain.policy.is_none() && chain.name.starts_with(OURS)
}

/// Our rules in a built-in chain: those that jump to our chains, and those that are planned for it. Of several that equal a planned one,
/// the last are ours: foreign ones were there before.
pub(super) fn ours<'a>(planned: Option<&Chain>, live: &'a Chain) -> impl Iterator<Item = &'a Rule> {
    let are = are_ours(planned, live);
    live.rules
        .iter()
        .zip(are)
        .filter(|(_, ours)| *ours)
        .map(|(rule, _)| rule)
}

fn are_ours(planned: Option<&Chain>, live: &Chain) -> Vec<bool> {
    let mut left: Vec<&Rule> = planned.iter().flat_map(|c| &c.rules).collect();
    let mut out: Vec<bool> = live
        .rules
        .iter()
        .rev()
        .map(|rule| {
            let planned = left.iter().position(|p| *p == rule);
            planned.map(|at| left.swap_remove(at));
            let jumps = matches!(&rule.target, Target::Jump(chain) if chain.starts_with(OURS));
            live.policy.is_some() && (jumps || planned.is_some())
        })
        .collect();
    out.reverse();
    out
}

/// Foreign rules that captured packets meet before ours and that may decide on them.
pub fn in_front(plan: &Plan, expected: &Ruleset, found: &Ruleset) -> Vec<Preempting> {
    let marks = plan.intent.mode == InterceptionMode::Tproxy;
    let mut out = Vec::new();
    for table in &found.tables {
        for chain in table
            .chains
            .iter()
            .filter(|c| ["PREROUTING", "OUTPUT"].contains(&c.name.as_str()))
        {
            let place = || {
                format!(
                    "{} table {}, chain {}",
                    found.family,
                    table.name.as_str(),
                    chain.name
                )
            };
            let planned = expected
                .table(table.name)
                .and_then(|t| t.chain(&chain.name));
            let are_ours = are_ours(planned, chain);
            // where we have none, packets go on to the tables in which we have some, if they are let
            let end = are_ours
                .iter()
                .rposition(|ours| *ours)
                .unwrap_or(if planned.is_none() {
                    chain.rules.len()
                } else {
                    0
                });
            for (rule, _) in chain.rules[..end]
                .iter()
                .zip(&are_ours)
                .filter(|(_, ours)| !**ours)
            {
                let goes_on =
                    planned.is_none() && matches!(rule.target, Target::Accept | Target::Return);
                if decides(&rule.target, marks) {
                    out.push(Preempting {
                        place: place(),
                        rule: rule.to_string(),
                        decides: !goes_on,
                        stops: !goes_on && sees(plan, rule),
                    });
                }
            }
            if let Some(policy) = chain
                .policy
                .as_ref()
                .filter(|p| planned.is_none() && *p != "ACCEPT")
            {
                out.push(Preempting {
                    place: place(),
                    rule: format!("policy {policy}"),
                    decides: true,
                    stops: true,
                });
            }
        }
    }
    out
}

/// Whether captured packets may match a rule.
fn sees(plan: &Plan, rule: &Rule) -> bool {
    rule.matches.iter().all(|m| match m {
        Match::Interface(_, name) => plan.sees_interface(name.as_str()),
        Match::Protocol(protocol) => plan.sees_protocol(protocol.number()),
        Match::Address { .. }
        | Match::Port { .. }
        | Match::DestinationPorts { .. }
        | Match::Owner { .. }
        | Match::CtState(_)
        | Match::Mark { .. }
        | Match::ConnMark(_)
        | Match::Other(_) => true,
    })
}

/// Whether a target may keep a packet from the rules that follow, or change what they look at.
fn decides(target: &Target, marks: bool) -> bool {
    match target {
        Target::Jump(what) | Target::Other(what) => {
            match what.split(' ').next().unwrap_or_default() {
                "MARK" | "CONNMARK" => marks,
                name => !HARMLESS.contains(&name),
            }
        }
        Target::SetMark(_) | Target::SaveMark | Target::RestoreMark => marks,
        Target::Return | Target::Accept | Target::Drop | Target::Goto(_) => true,
        Target::Redirect(_) | Target::Tproxy(..) | Target::SetZone(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
        ipt::{parse, removal, replacement},
    };

    fn plan() -> Plan {
        let annotations = [
            ("sidecar.istio.io/interceptionMode", "TPROXY"),
            ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
        ];
        Plan::new(
            &intent(&annotations, &[("INVALID_DROP", "1")]),
            &network(true, false),
        )
        .unwrap()
    }

    fn planned() -> Ruleset {
        plan().iptables(Family::Ipv4)
    }

    /// As a kernel would dump it.
    fn dump(rules: &Ruleset, edit: impl Fn(String) -> String) -> Ruleset {
        let mut text = String::new();
        for table in &rules.tables {
            text += &format!(
                "*{}\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [3:4]\n",
                table.name.as_str()
            );
            table
                .chains
                .iter()
                .filter(|c| c.policy.is_none())
                .for_each(|c| text += &format!(":{} - [0:0]\n", c.name));
            text += &format!("{table}COMMIT\n");
        }
        parse(rules.family, &edit(text))
    }

    #[test]
    fn each_line_that_is_removed_doubled_or_altered_is_found() {
        let rules = planned();
        let whole = dump(&rules, |t| t);
        assert_eq!(compare(&rules, Some(&whole)), []);
        let lines: Vec<String> = rules
            .tables
            .iter()
            .flat_map(|t| t.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        for line in &lines {
            for edited in [
                String::new(),
                format!("{line}\n{line}\n"),
                format!("{line} --more 1\n"),
            ] {
                let live = dump(&rules, |t| t.replacen(&format!("{line}\n"), &edited, 1));
                // one more of a rule in a built-in chain may be foreign
                let found =
                    compare(&rules, Some(&live)).len() + in_front(&plan(), &rules, &live).len();
                assert_ne!(found, 0, "{line} -> {edited}");
            }
        }
        assert!(lines.len() > 25);
        let other = |from: &str, to: &str| {
            compare(&rules, Some(&dump(&rules, |t| t.replacen(from, to, 1))))
        };
        assert_eq!(other(":OUTPUT ACCEPT", ":OUTPUT DROP").len(), 1);
        assert_eq!(other("COMMIT", ":ISTIO_X - [0:0]\nCOMMIT").len(), 1);
        assert_ne!(compare(&rules, None), []);
    }

    #[test]
    fn foreign_rules_are_no_difference_and_those_before_ours_are_reported() {
        let rules = planned();
        let live = dump(&rules, |t| {
            let front = "-A OUTPUT -p tcp -j ACCEPT\n-A OUTPUT -j LOG\n-A OUTPUT -p udp -g MINE\n-A OUTPUT -o net1 -j DROP\n";
            let t = t.replacen("-A OUTPUT", &format!("{front}-A OUTPUT"), 1);
            t.replace(
                "COMMIT",
                "-A OUTPUT -j DROP\n:MINE - [0:0]\n-A MINE -j DROP\nCOMMIT",
            )
        });
        assert_eq!(compare(&rules, Some(&live)), []);
        let front: Vec<_> = in_front(&plan(), &rules, &live)
            .into_iter()
            .map(|p| (p.rule, p.stops))
            .collect();
        let expected = [
            ("-p tcp -j ACCEPT", true),
            ("-p udp -g MINE", false),
            ("-o net1 -j DROP", false),
        ];
        assert_eq!(
            front,
            expected.map(|(rule, stops)| (rule.to_owned(), stops)),
            "no UDP and nothing of net1 is captured"
        );
        assert!(
            !is_untouched(&live)
                && is_untouched(&parse(
                    Family::Ipv4,
                    "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j DROP\nCOMMIT\n"
                ))
        );
    }

    #[test]
    fn a_replacement_deletes_our_rules_only() {
        let rules = planned();
        let live = dump(&rules, |t| {
            t.replacen("-A OUTPUT", "-A OUTPUT -j FOREIGN\n-A OUTPUT", 1)
        });
        for text in [replacement(&rules, &live), removal(&rules, &live)] {
            assert!(
                !text.contains("FOREIGN") && text.contains("-D OUTPUT -o net1 -j RETURN\n"),
                "{text}"
            );
        }
        assert!(removal(&rules, &live).contains("-F ISTIO_DIVERT\n"));
    }
}
