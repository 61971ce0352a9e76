//! Which iptables a node has. Istio's order: legacy where it holds rules already, else nft, else plain `iptables`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::child::{Child, hide_name_services};
use crate::{
    deadline::Deadline,
    kernel::{KernelError, netns::in_new_netns},
    plan::packet::Family,
};

/// The programs of a node that work. Found once, then kept in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    ipv4: Found,
    ipv6: Found,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    legacy: Option<Tool>,
    nft: Option<Tool>,
    plain: Option<Tool>,
    /// Why none of them can be used.
    not: String,
}

/// A pair of programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tool {
    pub(super) save: PathBuf,
    pub(super) restore: PathBuf,
    pub(super) variant: Variant,
    pub(super) version: (u32, u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Variant {
    Legacy,
    Nft,
}

/// A rule that matches nothing, in a table that both families need.
const PROBE: &str = "*nat\n-A OUTPUT -p 255 -j RETURN\nCOMMIT\n";

impl Tools {
    /// Looks into `directories` and tries what is there, in a network namespace of its own that ends with it: no trace of the trial stays.
    pub fn find(directories: &[PathBuf], deadline: Deadline) -> Result<Self, KernelError> {
        in_new_netns(|| {
            hide_name_services();
            let of = |prefix| Found::find(prefix, directories, deadline);
            Ok(Self { ipv4: of("iptables"), ipv6: of("ip6tables") })
        })
    }

    /// The program to use in a namespace. `has_rules`: whether the legacy tables there hold a rule.
    pub(super) fn choose(&self, family: Family, has_rules: impl FnOnce(&Tool) -> bool) -> Result<&Tool, KernelError> {
        let found = match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        };
        match (&found.legacy, &found.nft, &found.plain) {
            (Some(legacy), _, _) if has_rules(legacy) => Ok(legacy),
            (_, Some(tool), _) | (_, None, Some(tool)) | (Some(tool), None, None) => Ok(tool),
            (None, None, None) => Err(KernelError::NoIptables { family, why: found.not.clone() }),
        }
    }

    /// Whether every program that was found is still there.
    pub fn are_there(&self) -> bool {
        let all = [&self.ipv4, &self.ipv6].into_iter().flat_map(|f| [&f.legacy, &f.nft, &f.plain]);
        let mut all = all.flatten().peekable();
        all.peek().is_some() && all.all(|t| t.save.exists() && t.restore.exists())
    }
}

impl Found {
    fn find(prefix: &str, directories: &[PathBuf], deadline: Deadline) -> Self {
        let (mut missing, mut broken) = (Vec::new(), Vec::new());
        let mut tool = |name: &str| match Tool::find(name, directories, deadline) {
            Ok(Some(tool)) => Some(tool),
            Ok(None) => {
                missing.push(format!("{name}-save and {name}-restore"));
                None
            }
            Err(why) => {
                broken.push(why.to_string());
                None
            }
        };
        let [legacy, nft] = ["legacy", "nft"].map(|variant| tool(&format!("{prefix}-{variant}")));
        let plain = tool(prefix);
        if !missing.is_empty() {
            let places: Vec<_> = directories.iter().map(|d| d.display().to_string()).collect();
            broken.push(format!("there is no {} in {}", missing.join(", no "), places.join(":")));
        }
        Self { legacy, nft, plain, not: broken.join("; ") }
    }
}

impl Tool {
    /// `None` if it is not there.
    fn find(name: &str, directories: &[PathBuf], deadline: Deadline) -> Result<Option<Self>, KernelError> {
        let there = |program| directories.iter().map(|d| d.join(format!("{name}-{program}"))).find(|p| p.is_file());
        let (Some(save), Some(restore)) = (there("save"), there("restore")) else { return Ok(None) };
        let run = |program: &Path, args: &[&str], stdin: &str| Child { program, args, stdin, writes_in: None, deadline }.output();
        // one so old that it cannot tell its version is legacy
        let version = run(&save, &["--version"], "").unwrap_or_default();
        let variant = if version.contains("nf_tables") { Variant::Nft } else { Variant::Legacy };
        let tool = Self { save, restore, variant, version: parse_version(&version) };
        run(&tool.restore, &[], PROBE)?;
        Ok(Some(tool))
    }
}

/// The first `v<digits>.<digits>.<digits>`; 0.0.0 if there is none.
fn parse_version(text: &str) -> (u32, u32, u32) {
    let numbers = text.split_whitespace().find_map(|w| w.strip_prefix('v').filter(|v| v.starts_with(|c: char| c.is_ascii_digit())));
    let mut numbers = numbers.unwrap_or_default().split('.').map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_write_them() {
        assert_eq!(parse_version("iptables-save v1.8.9 (nf_tables)\n"), (1, 8, 9));
        assert_eq!(parse_version("iptables v1.6"), (1, 6, 0));
        assert_eq!(parse_version("unrecognized option '--version'"), (0, 0, 0));
    }

    #[test]
    fn legacy_is_chosen_only_where_it_holds_rules_or_nothing_else_works() {
        let tool = |name: &str| Some(Tool { save: name.into(), restore: name.into(), variant: Variant::Legacy, version: (1, 8, 0) });
        let choose = |legacy, nft, plain, has_rules| {
            let found = Found { legacy, nft, plain, not: "there is no x in /sbin".into() };
            let tools = Tools { ipv4: found.clone(), ipv6: found };
            let chosen = tools.choose(Family::Ipv6, |_| has_rules).map(|t| t.save.display().to_string());
            chosen.map_err(|e| e.to_string())
        };
        assert_eq!(choose(tool("l"), tool("n"), tool("p"), true).unwrap(), "l");
        assert_eq!(choose(tool("l"), tool("n"), tool("p"), false).unwrap(), "n");
        assert_eq!(choose(tool("l"), None, tool("p"), false).unwrap(), "p");
        assert_eq!(choose(tool("l"), None, None, false).unwrap(), "l");
        assert!(choose(None, None, None, true).unwrap_err().contains("there is no x in /sbin"));
    }
}
