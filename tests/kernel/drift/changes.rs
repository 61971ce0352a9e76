//! Changes of a ruleset as text, one at a time.

use super::verify;
use crate::support::{
    lab::{Node, PodLab, inside},
    try_run,
};

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

/// Every text with one change: each rule gone, twice, swapped with the next, and altered in every way; more before and in each chain.
pub(super) fn changed(text: &str, is_rule: impl Fn(&str) -> bool) -> Vec<(String, String)> {
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
            with("after the next rule", vec![lines[at + 1], line], 2);
        }
        for other in altered(line.trim_end()) {
            with(&format!("as {}", other.trim()), vec![&other], 1);
        }
    }
    out
}

/// Makes each change, has it verified, and at the end puts back what was. How many were tried, and which were missed. What the program
/// does not take cannot happen.
pub(super) fn missed(
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

/// All changes were found, and no fewer were tried than before.
pub(super) fn nothing_missed(what: &str, at_least: usize, (tried, missed): (usize, Vec<String>)) {
    println!("{what}: {tried} changes, {} found", tried - missed.len());
    assert!(
        tried >= at_least,
        "{what}: {tried} changes, once {at_least}"
    );
    assert!(
        missed.is_empty(),
        "{what}: {} of {tried} missed:\n{}",
        missed.len(),
        missed.join("\n")
    );
}
