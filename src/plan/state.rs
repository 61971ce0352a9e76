//! The live state of a network namespace, read back into the plan's own types.

use std::fmt;

use serde::Serialize;

use super::{Difference, Plan, Routing, compare, ipt, nft, packet::Family};
use crate::words::words;

words! {
    /// What carries the rules.
    pub enum Form("form of rules") {
        /// One table of nf_tables.
        Nftables = "nftables",
        /// The legacy variant of iptables.
        IptablesLegacy = "iptables-legacy",
        /// The nf_tables variant of iptables.
        IptablesNft = "iptables-nft",
        /// iptables without a variant in its name.
        Iptables = "iptables",
    }
}

impl Form {
    /// The prefix of the programs that carry it; `None` where there are none.
    pub const fn program(self) -> Option<&'static str> {
        match self {
            Self::Nftables => None,
            Self::IptablesLegacy | Self::IptablesNft | Self::Iptables => Some(self.as_str()),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Rules of one form.
    pub rules: Rules,
    /// Address, policy rules, routes.
    pub routing: Routing,
}

/// Rules of one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// Our table, if there is one.
    Nftables(Option<nft::Table>),
    /// Of the captured families; one that the kernel does not have is missing.
    Iptables(Vec<ipt::Ruleset>),
}

impl Rules {
    /// Whether there is nothing of ours.
    pub fn are_untouched(&self) -> bool {
        match self {
            Self::Nftables(table) => table.is_none(),
            Self::Iptables(families) => families.iter().all(ipt::is_untouched),
        }
    }
}

impl Plan {
    /// What of somebody else's packets may meet before our rules, as far as it is in the same tables of iptables.
    pub fn in_front(&self, found: &Rules) -> Vec<Preempting> {
        match found {
            Rules::Nftables(_) => Vec::new(),
            Rules::Iptables(families) => families
                .iter()
                .flat_map(|found| ipt::in_front(self, &self.iptables(found.family), found))
                .collect(),
        }
    }

    /// All differences of meaning between the plan and what was found.
    pub fn compare(&self, found: &State) -> Vec<Difference> {
        let mut out = self.compare_rules(&found.rules);
        out.extend(self.compare_routing(&found.routing));
        out
    }

    /// Whether what was found redirects nothing, whichever version's rules it should be.
    pub fn redirects_nothing(&self, found: &State) -> bool {
        match &found.rules {
            Rules::Nftables(None) => true,
            Rules::Nftables(Some(table)) => {
                table.flags != 0 || table.chains.iter().any(|c| c.rules.is_empty())
            }
            Rules::Iptables(families) => {
                families.is_empty() || families.iter().any(ipt::is_untouched)
            }
        }
    }

    /// The same of what is beside the rules.
    pub fn compare_routing(&self, found: &Routing) -> Vec<Difference> {
        self.routing().compare(found, self.ipv6_in_use)
    }

    /// The same of the rules alone.
    pub fn compare_rules(&self, found: &Rules) -> Vec<Difference> {
        match found {
            Rules::Nftables(table) => compare::tables(self.nftables(), table.as_ref()),
            Rules::Iptables(families) => {
                let of = |family| families.iter().find(|r| r.family == family);
                // a kernel without IPv6 passes none
                let counts = |family: &Family| {
                    *family == Family::Ipv4 || self.ipv6_in_use || of(*family).is_some()
                };
                self.families
                    .captured()
                    .filter(counts)
                    .flat_map(|f| ipt::compare(&self.iptables(f), of(f)))
                    .collect()
            }
        }
    }
}

/// Something of somebody else that packets may meet before our rules. Displays as a sentence.
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
