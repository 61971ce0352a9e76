use std::fmt;

use serde::{Deserialize, Serialize};

/// A name, or what names begin with: `name` or `begin*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pattern(String);

impl Pattern {
    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(begin) => name.starts_with(begin),
            None => self.0 == name,
        }
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trailing_star_stands_for_more() {
        for (pattern, name, matches) in [
            ("kata", "kata", true),
            ("kata", "kata-qemu", false),
            ("kata*", "kata-qemu", true),
            ("kata*", "my-kata", false),
            ("*", "", true),
            ("k*a", "kata", false),
        ] {
            assert_eq!(
                Pattern::from(pattern).matches(name),
                matches,
                "{pattern} {name}"
            );
        }
    }
}
