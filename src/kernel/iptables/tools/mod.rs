//! Finds the iptables programs of a node. In Istio's order: legacy if it holds rules already, else nft, else plain `iptables`. The
//! choice is made once for a network namespace, and recorded.

mod tool;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::child::hide_name_services;
use crate::{
    deadline::Deadline,
    kernel::{KernelError, netns::run_in_new_netns},
    plan::{Variant, packet::Family},
};

pub(super) use self::tool::Tool;

/// The programs of a node that work. Found once, then kept in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    ipv4: FoundTools,
    ipv6: FoundTools,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FoundTools {
    legacy: Option<Tool>,
    nft: Option<Tool>,
    plain: Option<Tool>,
    /// Why none of them can be used.
    not: String,
}

/// A rule that matches nothing, in a table that both families need.
const PROBE: &str = "*nat\n-A OUTPUT -p 255 -j RETURN\nCOMMIT\n";

impl Tools {
    /// Looks into `directories` and tries what is there, in a network namespace of its own that ends with it: no trace of the trial stays.
    /// Fails where a trial came to no verdict: the next may.
    pub fn find(directories: &[PathBuf], deadline: Deadline) -> Result<Self, KernelError> {
        run_in_new_netns(|| {
            hide_name_services();
            let of = |prefix| FoundTools::find(prefix, directories, deadline);
            Ok(Self {
                ipv4: of("iptables")?,
                ipv6: of("ip6tables")?,
            })
        })
    }

    /// What to use in a namespace of which nothing is on record. `holds_rules`: whether the legacy tables there hold a rule.
    pub(super) fn choose(
        &self,
        holds_rules: impl FnOnce() -> Result<bool, KernelError>,
    ) -> Result<Variant, KernelError> {
        let FoundTools {
            legacy, nft, plain, ..
        } = &self.ipv4;
        Ok(match (legacy, nft, plain) {
            (Some(_), _, _) if holds_rules()? => Variant::Legacy,
            (_, Some(_), _) => Variant::Nft,
            (_, None, Some(_)) => Variant::Plain,
            (Some(_), None, None) => Variant::Legacy,
            (None, None, None) => return Err(self.missing(Family::Ipv4)),
        })
    }

    /// The programs of a variant for a family.
    pub(super) fn of(&self, variant: Variant, family: Family) -> Result<&Tool, KernelError> {
        let found = self.found(family);
        let tool = match variant {
            Variant::Legacy => &found.legacy,
            Variant::Nft => &found.nft,
            Variant::Plain => &found.plain,
        };
        tool.as_ref().ok_or_else(|| self.missing(family))
    }

    /// Whether every program that was found is still there, and there is one for each of these families.
    pub fn serve(&self, mut families: impl Iterator<Item = Family>) -> bool {
        let tools = |f: &FoundTools| {
            [&f.legacy, &f.nft, &f.plain]
                .into_iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
        };
        let there = |t: &Tool| t.save.exists() && t.restore.exists();
        [&self.ipv4, &self.ipv6]
            .into_iter()
            .flat_map(tools)
            .all(|t| there(&t))
            && families.all(|f| !tools(self.found(f)).is_empty())
    }

    fn found(&self, family: Family) -> &FoundTools {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    fn missing(&self, family: Family) -> KernelError {
        KernelError::NoIptables {
            family,
            why: self.found(family).not.clone(),
        }
    }
}

impl FoundTools {
    fn find(
        prefix: &str,
        directories: &[PathBuf],
        deadline: Deadline,
    ) -> Result<Self, KernelError> {
        let (mut missing, mut not) = (Vec::new(), Vec::new());
        let mut tool = |name: String| match Tool::find(&name, directories, deadline) {
            Ok(Some(tool)) => Ok(Some(tool)),
            Ok(None) => {
                missing.push(format!("{name}-save and {name}-restore"));
                Ok(None)
            }
            Err(verdict @ KernelError::Tool { .. }) => {
                not.push(verdict.to_string());
                Ok(None)
            }
            Err(none) => Err(none),
        };
        let (legacy, nft, plain) = (
            tool(format!("{prefix}-legacy"))?,
            tool(format!("{prefix}-nft"))?,
            tool(prefix.to_owned())?,
        );
        if !missing.is_empty() {
            let places: Vec<_> = directories
                .iter()
                .map(|d| d.display().to_string())
                .collect();
            not.push(format!(
                "there is no {} in {}",
                missing.join(", no "),
                places.join(":")
            ));
        }
        Ok(Self {
            legacy,
            nft,
            plain,
            not: not.join("; "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_is_chosen_only_where_it_holds_rules_or_nothing_else_works() {
        let tool = |is: bool| {
            is.then(|| Tool {
                save: "/".into(),
                restore: "/".into(),
                nft: false,
                version: (1, 8, 0),
            })
        };
        let choose = |legacy, nft, plain, holds_rules| {
            let found = FoundTools {
                legacy: tool(legacy),
                nft: tool(nft),
                plain: tool(plain),
                not: "there is no x in /sbin".into(),
            };
            let tools = Tools {
                ipv4: found.clone(),
                ipv6: found,
            };
            tools.choose(|| Ok(holds_rules)).map_err(|e| e.to_string())
        };
        assert_eq!(choose(true, true, true, true), Ok(Variant::Legacy));
        assert_eq!(choose(true, true, true, false), Ok(Variant::Nft));
        assert_eq!(choose(true, false, true, false), Ok(Variant::Plain));
        assert_eq!(choose(true, false, false, false), Ok(Variant::Legacy));
        assert!(
            choose(false, false, false, true)
                .unwrap_err()
                .contains("there is no x in /sbin")
        );
    }
}
