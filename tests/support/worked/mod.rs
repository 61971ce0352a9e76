//! Istio's own rules: its nine worked examples, and every combination of their options.

pub mod combinations;
pub mod examples;

use std::collections::BTreeMap;

/// The rules of each table and chain, as in any dump. Built-in chains without rules are no difference.
pub type Dump = BTreeMap<(String, String), Vec<String>>;

pub fn dump(text: &str) -> Dump {
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

const TPROXY: (&str, &str) = ("sidecar.istio.io/interceptionMode", "TPROXY");
const DNS: (&str, &str) = ("ISTIO_META_DNS_CAPTURE", "true");
const DUAL: (&str, &str) = ("ISTIO_DUAL_STACK", "true");
const DROP: (&str, &str) = ("INVALID_DROP", "true");
