use std::fmt;

use serde::Serialize;

/// Something foreign that packets may meet before our rules. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preempting {
    /// Where it is.
    pub place: String,
    /// What it says.
    pub rule: String,
    /// It keeps packets from our rules, or changes them; otherwise they go on to ours.
    pub decides: bool,
    /// It does so to captured packets, as far as can be told: a new pod must not start.
    #[serde(skip)]
    pub stops: bool,
}

impl fmt::Display for Preempting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let but = if self.decides {
            "may decide before our rules do"
        } else {
            "comes before our rules, which still decide"
        };
        write!(f, "{}: {:?} {but}", self.place, self.rule)
    }
}
