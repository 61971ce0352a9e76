//! What `iptables-save` wrote, as the plan's own types. Strict: what is not understood to the last option is `Match::Other` or
//! `Target::Other`, which nothing planned equals.

mod rule;

use self::rule::Reader;
use super::{Chain, Ruleset, Table, TableName};
use crate::plan::packet::Family;

/// The tables that we use; the others are left out.
pub fn parse(family: Family, save: &str) -> Ruleset {
    let mut tables: Vec<Table> = Vec::new();
    let mut ours = false;
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let name = TableName::ALL
                .into_iter()
                .find(|t| t.as_str() == name.trim());
            tables.extend(name.map(|name| Table {
                name,
                chains: vec![],
            }));
            ours = name.is_some();
        }
        let Some(table) = tables.last_mut().filter(|_| ours) else {
            continue;
        };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let policy = words.next().filter(|p| *p != "-").map(str::to_owned);
            table.chains.push(Chain {
                name,
                policy,
                rules: vec![],
            });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (name, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            if let Some(chain) = table.chains.iter_mut().find(|c| c.name == name) {
                chain.rules.push(Reader::read(family, rule));
            }
        }
    }
    Ruleset { family, tables }
}

/// Words, quotes kept: what is quoted is never ours.
fn words(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' if !quoted => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    out.push(&text[start..]);
    out.retain(|w| !w.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ipt::{Match, Rule, Target};

    fn rule(text: &str) -> Rule {
        let save = format!(
            "# a comment\n*security\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j DROP\nCOMMIT\n*nat\n:OUTPUT ACCEPT [7:8]\n-A OUTPUT {text}\nCOMMIT\n"
        );
        let rules = parse(Family::Ipv4, &save);
        assert_eq!(rules.tables.len(), 1);
        rules.tables[0].chains[0].rules[0].clone()
    }

    #[test]
    fn what_is_not_ours_is_never_taken_for_it_and_reads_as_it_was_written() {
        for text in [
            "-d 10.0.0.1/255.0.255.0 -j RETURN",
            "-o eth+ -j RETURN",
            "! -o lo -j RETURN",
            "-p tcp -m tcp --dport 1:80 -j RETURN",
            "-p tcp -m comment --comment \"-j ACCEPT \\\" x\" -j RETURN",
            "-m mark --mark 0x539/0xff -j RETURN",
            "-m owner --uid-owner 0-1337 -j RETURN",
            "-m owner --socket-exists -j RETURN",
            "-p icmp -j RETURN",
            "-m limit --limit 1/day -j RETURN",
        ] {
            let rule = rule(text);
            assert!(
                rule.matches.iter().any(|m| matches!(m, Match::Other(_))),
                "{rule:?}"
            );
            assert_eq!(rule.to_string(), text);
        }
        for text in [
            "-p tcp -j REDIRECT --to-ports 1-15001",
            "-p tcp -j REDIRECT --to-ports 15001 --random",
            "-j MARK --set-xmark 0x539/0xff",
            "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xffffffff",
            "-p tcp -j TPROXY --on-port 15006 --on-ip 10.0.0.1 --tproxy-mark 0x539/0xffffffff",
            "-j CT --notrack",
            "-j DNAT --to-destination 10.0.0.1:15001",
        ] {
            let rule = rule(text);
            assert!(matches!(rule.target, Target::Other(_)), "{rule:?}");
            assert_eq!(rule.to_string(), text);
        }
        assert_eq!(
            rule("-p tcp -g ISTIO_OUTPUT").target,
            Target::Goto("ISTIO_OUTPUT".into())
        );
        assert!(matches!(rule("-p tcp").target, Target::Other(_)));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[-!a-zA-Z0-9/:., \"\\\\é\n*]{0,80}") {
            parse(Family::Ipv6, &format!("*nat\n:A - [0:0]\n-A A {text}\n:{text}\n-A {text}\n*{text}"));
        }
    }
}
