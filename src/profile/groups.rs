use serde::{Deserialize, Deserializer, Serialize, de};

use super::Selection;
use crate::reason::quote;

/// Most groups of a list, as in Istio.
pub(super) const MOST_GROUPS: usize = 64;

/// `ISTIO_OUTBOUND_OWNER_GROUPS` and `..._EXCLUDE`, as gids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerGroups {
    /// Captured groups.
    pub include: Selection<u32>,
    /// Groups left alone; used only if `include` is all.
    pub exclude: Vec<u32>,
}

/// Owner groups in the syntax of a profile: gids, or `"*"`.
#[derive(Debug, Clone)]
pub struct Groups(pub OwnerGroups);

impl Default for Groups {
    fn default() -> Self {
        Self(OwnerGroups {
            include: Selection::All,
            exclude: Vec::new(),
        })
    }
}

impl<'de> Deserialize<'de> for Groups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Word {
            Number(u32),
            Text(String),
        }
        #[derive(Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Words {
            include: Vec<Word>,
            exclude: Vec<Word>,
        }
        impl Default for Words {
            fn default() -> Self {
                Self {
                    include: vec![Word::Text("*".into())],
                    exclude: Vec::new(),
                }
            }
        }
        let of_word = |word: &Word| match word {
            Word::Number(gid) => Ok(*gid),
            Word::Text(text) => gid(text).ok_or_else(|| {
                de::Error::custom(format!(
                    "{} is not a gid; write the number of the group",
                    quote(text)
                ))
            }),
        };
        let gids = |words: &[Word]| match words.len() {
            0..=MOST_GROUPS => words.iter().map(of_word).collect(),
            _ => Err(de::Error::custom(format!(
                "more than {MOST_GROUPS} owner groups"
            ))),
        };
        let words = Words::deserialize(deserializer)?;
        let all = matches!(words.include.as_slice(), [Word::Text(star)] if star == "*");
        let include = if all {
            Selection::All
        } else {
            Selection::Only(gids(&words.include)?)
        };
        Ok(Self(OwnerGroups {
            include,
            exclude: gids(&words.exclude)?,
        }))
    }
}

/// A gid as text: digits alone.
fn gid(text: &str) -> Option<u32> {
    let is_number = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
