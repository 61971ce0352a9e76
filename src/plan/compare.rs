use std::fmt;

use super::nft::{Chain, Table};

/// `NFT_TABLE_F_DORMANT`
const DORMANT: u32 = 1;

/// One way in which a live table is not what it should be. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "Display says it")]
pub enum Difference {
    TableMissing,
    Flags(u32),
    ChainMissing(String),
    ChainExtra(String),
    Hook { chain: String, found: String, expected: String },
    Rule { chain: String, position: usize, found: Option<String>, expected: Option<String> },
}

/// All differences of meaning between what should be and what was found (`None`: no table at all).
pub fn compare(expected: &Table, found: Option<&Table>) -> Vec<Difference> {
    let Some(found) = found else { return vec![Difference::TableMissing] };
    let by_name = |table: &Table, name: &str| table.chains.iter().position(|c| c.name == name);
    let mut out = Vec::new();
    if found.flags != expected.flags {
        out.push(Difference::Flags(found.flags));
    }
    for chain in &expected.chains {
        match by_name(found, &chain.name) {
            Some(at) => chains(chain, &found.chains[at], &mut out),
            None => out.push(Difference::ChainMissing(chain.name.clone())),
        }
    }
    out.extend(found.chains.iter().filter(|c| by_name(expected, &c.name).is_none()).map(|c| Difference::ChainExtra(c.name.clone())));
    out
}

fn chains(expected: &Chain, found: &Chain, out: &mut Vec<Difference>) {
    let chain = || expected.name.clone();
    if expected.hook != found.hook {
        let text = |c: &Chain| c.hook.as_ref().map_or_else(|| "no hook".to_owned(), ToString::to_string);
        out.push(Difference::Hook { chain: chain(), found: text(found), expected: text(expected) });
    }
    for position in 0..expected.rules.len().max(found.rules.len()) {
        let (should, is) = (expected.rules.get(position), found.rules.get(position));
        if should != is {
            let text = |r: Option<&super::nft::Rule>| r.map(ToString::to_string);
            out.push(Difference::Rule { chain: chain(), position: position + 1, found: text(is), expected: text(should) });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableMissing => f.write_str("the table is missing"),
            Self::Flags(flags) if flags & DORMANT != 0 => f.write_str("the table is dormant: none of its rules is in force"),
            Self::Flags(flags) => write!(f, "the table has flags {flags:#x}"),
            Self::ChainMissing(chain) => write!(f, "chain {chain} is missing"),
            Self::ChainExtra(chain) => write!(f, "chain {chain} should not be there"),
            Self::Hook { chain, found, expected } => write!(f, "chain {chain} has {found:?} instead of {expected:?}"),
            Self::Rule { chain, position, found, expected } => {
                write!(f, "chain {chain}, rule {position}: ")?;
                match (found, expected) {
                    (Some(found), Some(expected)) => write!(f, "{found:?} instead of {expected:?}"),
                    (None, Some(expected)) => write!(f, "{expected:?} is missing"),
                    (Some(found), None) => write!(f, "{found:?} should not be there"),
                    (None, None) => Ok(()),
                }
            }
        }
    }
}

/// The first of some differences, and how many more there are; `None` if there is none.
pub fn summary<T: fmt::Display>(differences: &[T]) -> Option<String> {
    match differences {
        [] => None,
        [only] => Some(only.to_string()),
        [first, others @ ..] => Some(format!("{first} (and {} more differences)", others.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
        nft::Verdict,
    };

    #[test]
    fn each_change_is_one_difference() {
        let table = Plan::new(&intent(&[], &[("INVALID_DROP", "true")]), &network(true, false)).unwrap().nftables();
        assert_eq!(compare(&table, Some(&table)), []);
        assert_eq!(compare(&table, None), [Difference::TableMissing]);
        let mut changes: Vec<(Table, &str)> = Vec::new();
        let mut changed = |part, change: &dyn Fn(&mut Table)| {
            let mut copy = table.clone();
            change(&mut copy);
            changes.push((copy, part));
        };
        changed("chain drop-invalid is missing", &|t| {
            t.chains.remove(0);
        });
        changed("chain x should not be there", &|t| t.chains.push(Chain { name: "x".into(), hook: None, rules: vec![] }));
        changed("dormant", &|t| t.flags = 1);
        changed("priority -99", &|t| t.chains[0].hook.as_mut().unwrap().priority = -99);
        changed("is missing", &|t| {
            t.chains[0].rules.pop();
        });
        changed("should not be there", &|t| {
            let r = t.chains[0].rules[0].clone();
            t.chains[0].rules.push(r);
        });
        changed("instead of", &|t| t.chains[0].rules[0].verdict = Verdict::Drop);
        for (found, part) in changes {
            let differences = compare(&table, Some(&found));
            assert_eq!(differences.len(), 1, "{differences:?}");
            assert!(differences[0].to_string().contains(part), "{} / {part}", differences[0]);
        }
    }
}
