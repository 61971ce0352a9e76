use std::fmt;

use serde::Serialize;

use super::nft::{Chain, Table};

/// `NFT_TABLE_F_DORMANT`
const DORMANT: u32 = 1;

/// One way in which what lives in a network namespace is not what it should be. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: a chain, a rule by its position, `lo` ...
    pub place: String,
    /// What is there; `None`: nothing.
    pub found: Option<String>,
    /// What should be there; `None`: nothing.
    pub expected: Option<String>,
}

impl Difference {
    /// Something should be there.
    pub fn missing(place: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            found: None,
            expected: Some(expected.into()),
        }
    }

    /// Something should not be there.
    pub fn extra(place: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            found: Some(found.into()),
            expected: None,
        }
    }

    /// Something is there in another's place.
    pub fn changed(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            found: Some(found.into()),
            expected: Some(expected.into()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match (&self.found, &self.expected) {
            (Some(found), Some(expected)) => write!(f, "{found:?} instead of {expected:?}"),
            (None, Some(expected)) => write!(f, "{expected:?} is missing"),
            (Some(found), None) => write!(f, "{found:?} should not be there"),
            (None, None) => f.write_str("differs"),
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

impl Table {
    /// All differences of meaning between this table, which should be, and what was found (`None`: no table at all).
    pub fn differences(&self, found: Option<&Self>) -> Vec<Difference> {
        let Some(found) = found else {
            return vec![Difference::missing("nftables", "table inet mesh-optin")];
        };
        let by_name = |table: &Table, name: &str| table.chains.iter().position(|c| c.name == name);
        let mut out = Vec::new();
        if found.flags != self.flags {
            let dormant = if found.flags & DORMANT != 0 {
                " (dormant: none of its rules is in force)"
            } else {
                ""
            };
            out.push(Difference::extra(
                "table inet mesh-optin",
                format!("flags {:#x}{dormant}", found.flags),
            ));
        }
        if found.is_cut {
            let more = "too large to read in full; this list is incomplete";
            out.push(Difference::extra("table inet mesh-optin", more));
        }
        if found.unnamed > 0 {
            let what = format!(
                "{} sets, maps, objects or flowtables that are not ours",
                found.unnamed
            );
            out.push(Difference::extra("table inet mesh-optin", what));
        }
        for chain in &self.chains {
            match by_name(found, &chain.name) {
                Some(at) => chains(chain, &found.chains[at], &mut out),
                None => out.push(Difference::missing(
                    "table inet mesh-optin",
                    format!("chain {}", chain.name),
                )),
            }
        }
        let extra = found
            .chains
            .iter()
            .filter(|c| by_name(self, &c.name).is_none());
        out.extend(
            extra.map(|c| Difference::extra("table inet mesh-optin", format!("chain {}", c.name))),
        );
        out
    }
}

fn chains(expected: &Chain, found: &Chain, out: &mut Vec<Difference>) {
    let place = format!("chain {}", expected.name);
    if expected.hook != found.hook {
        let text = |c: &Chain| {
            c.hook
                .as_ref()
                .map_or_else(|| "no hook".to_owned(), ToString::to_string)
        };
        out.push(Difference::changed(&place, text(found), text(expected)));
    }
    rules(&place, &expected.rules, &found.rules, out);
}

/// Differences of a chain's rules, by their position.
pub(super) fn rules<T: PartialEq + fmt::Display>(
    chain: &str,
    expected: &[T],
    found: &[T],
    out: &mut Vec<Difference>,
) {
    let text = |rule: Option<&T>| rule.map(ToString::to_string);
    for at in 0..expected.len().max(found.len()) {
        let (should, is) = (expected.get(at), found.get(at));
        if should != is {
            out.push(Difference {
                place: format!("{chain}, rule {}", at + 1),
                found: text(is),
                expected: text(should),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
        nft::Statement,
    };

    #[test]
    fn each_change_is_one_difference() {
        let plan = Plan::new(
            &intent(&[], &[("INVALID_DROP", "true")]),
            &network(true, false),
        )
        .unwrap();
        let table = plan.nftables();
        assert_eq!(table.differences(Some(&table)), []);
        assert_eq!(table.differences(None).len(), 1);
        let mut changes: Vec<(Table, &str)> = Vec::new();
        let mut changed = |part, change: &dyn Fn(&mut Table)| {
            let mut copy = table.clone();
            change(&mut copy);
            changes.push((copy, part));
        };
        changed(r#""chain mangle-prerouting" is missing"#, &|t| {
            t.chains.remove(0);
        });
        changed(r#""chain x" should not be there"#, &|t| {
            t.chains.push(Chain {
                name: "x".into(),
                hook: None,
                rules: vec![],
            })
        });
        changed("dormant", &|t| t.flags = 1);
        changed(
            "\"2 sets, maps, objects or flowtables that are not ours\" should not be there",
            &|t| t.unnamed = 2,
        );
        changed("priority -99", &|t| {
            t.chains[0].hook.as_mut().unwrap().priority = -99
        });
        changed("is missing", &|t| {
            t.chains[0].rules.pop();
        });
        changed("should not be there", &|t| {
            let r = t.chains[0].rules[0].clone();
            t.chains[0].rules.push(r);
        });
        changed("instead of", &|t| {
            t.chains[0].rules[0].statements = vec![Statement::Drop]
        });
        for (found, part) in changes {
            let differences = table.differences(Some(&found));
            assert_eq!(differences.len(), 1, "{differences:?}");
            assert!(
                differences[0].to_string().contains(part),
                "{} / {part}",
                differences[0]
            );
        }
    }
}
