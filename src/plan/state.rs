//! What lives in a network namespace, read back into the plan's own types.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Difference, Plan, Routing, compare, ipt, nft, packet::Family};

/// What carries the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One table of nf_tables.
    Nftables,
    /// iptables, for each family.
    Iptables,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
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
    /// All differences of meaning between the plan and what was found.
    pub fn compare(&self, found: &State) -> Vec<Difference> {
        let mut out = self.compare_rules(&found.rules);
        out.extend(self.routing().compare(&found.routing, self.ipv6_in_use));
        out
    }

    /// The same of the rules alone.
    pub fn compare_rules(&self, found: &Rules) -> Vec<Difference> {
        match found {
            Rules::Nftables(table) => compare::tables(&self.nftables(), table.as_ref()),
            Rules::Iptables(families) => {
                let of = |family| families.iter().find(|r| r.family == family);
                // a kernel without IPv6 passes none
                let counts = |family: &Family| *family == Family::Ipv4 || self.ipv6_in_use || of(*family).is_some();
                self.families.captured().filter(counts).flat_map(|f| ipt::compare(&self.iptables(f), of(f))).collect()
            }
        }
    }
}

/// Something of somebody else that packets meet before our rules. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preempting {
    /// Where it is.
    pub place: String,
    /// What it says.
    pub rule: String,
}

impl fmt::Display for Preempting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} comes before our rules", self.place, self.rule)
    }
}
