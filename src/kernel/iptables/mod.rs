//! The iptables backend: one `iptables-restore` for each family, read back by `iptables-save`. For nodes whose kernel has no nf_tables,
//! and for those whose admin wants Istio's chains.

mod child;
mod tools;

pub use self::tools::Tools;
use self::{
    child::{Child, Sandbox},
    tools::Tool,
};
use super::{Backend, KernelError, Netns, Nftables, legacy::legacy_tables};
use crate::{
    deadline::Deadline,
    plan::{
        Difference, Form, Plan, Preempting, Variant,
        ipt::{self, Ruleset, is_untouched, parse, removal, replacement},
        nft::Hook,
        packet::Family,
    },
};

/// iptables of the network namespace in which it was opened. What reads and applies must be one caller at a time: `-N` keeps only the
/// legacy programs apart.
pub struct Iptables<'a> {
    tools: &'a Tools,
    variant: Variant,
    sandbox: Sandbox,
    deadline: Deadline,
}

/// A plan as iptables carries it out.
#[derive(Debug)]
pub struct Rules {
    /// Of the captured families.
    families: Vec<Ruleset>,
    /// Where the kernel attaches the tables that these are in: at the priorities of our own chains.
    hooks: Vec<Hook>,
}

impl<'a> Iptables<'a> {
    /// For this thread's namespace, which is `netns`. `on_record`: what its rules were made by.
    pub fn open(
        tools: &'a Tools,
        on_record: Option<Variant>,
        netns: &Netns,
        deadline: Deadline,
    ) -> Result<Self, KernelError> {
        let variant = match on_record {
            Some(variant) => variant,
            None => tools.choose(|| holds_legacy_rules(tools, deadline))?,
        };
        Ok(Self {
            tools,
            variant,
            sandbox: Sandbox::of(netns)?,
            deadline,
        })
    }

    /// Takes our rules of a family away. What cannot be undone is undone by the next ADD, or by the end of the namespace.
    fn undo(&self, rules: &Ruleset, deadline: Deadline) {
        if let Ok(found) = self.read_family(rules.family, deadline) {
            self.restore(rules.family, &removal(rules, &found), deadline)
                .ok();
        }
    }

    fn read_family(&self, family: Family, deadline: Deadline) -> Result<Ruleset, KernelError> {
        save(self.tools.of(self.variant, family)?, deadline).map(|text| parse(family, &text))
    }

    fn restore(&self, family: Family, text: &str, deadline: Deadline) -> Result<(), KernelError> {
        if text.is_empty() {
            return Ok(());
        }
        let tool = self.tools.of(self.variant, family)?;
        let wait = format!("--wait={}", deadline.left().as_secs().clamp(1, 10));
        let args: &[&str] = if tool.waits() {
            &["--noflush", &wait]
        } else {
            &["--noflush"]
        };
        Child {
            program: &tool.restore,
            args,
            stdin: text,
            writes_in: Some(&self.sandbox),
            deadline,
        }
        .output()
        .map(|_| ())
    }
}

impl Backend for Iptables<'_> {
    type Rules = Rules;
    /// Of each captured family that the kernel has.
    type Found = Vec<Ruleset>;

    const IS_ATOMIC: bool = false;
    const SEES_PREEMPTING_FIRST: bool = false;

    fn form(&self) -> Form {
        self.variant.into()
    }

    fn lower(&self, plan: &Plan) -> Rules {
        let captured = plan.families.captured();
        Rules {
            families: captured.map(|family| plan.iptables(family)).collect(),
            hooks: plan.nftables().hooks().cloned().collect(),
        }
    }

    fn read(&mut self, plan: &Plan) -> Result<Vec<Ruleset>, KernelError> {
        let there = |family: &Family| *family == Family::Ipv4 || plan.ipv6_in_use || has_ipv6();
        plan.families
            .captured()
            .filter(there)
            .map(|family| self.read_family(family, self.deadline))
            .collect()
    }

    fn differences(plan: &Plan, rules: &Rules, found: &Vec<Ruleset>) -> Vec<Difference> {
        ipt::differences(&rules.families, found, plan.ipv6_in_use)
    }

    fn is_untouched(found: &Vec<Ruleset>) -> bool {
        found.iter().all(is_untouched)
    }

    fn redirects_nothing(found: &Vec<Ruleset>) -> bool {
        found.is_empty() || found.iter().any(is_untouched)
    }

    /// Each table is one transaction of the kernel, and where one of them fails all are undone.
    fn apply(&mut self, rules: &Rules, found: &Vec<Ruleset>) -> Result<(), KernelError> {
        for (rules_of_family, found_of_family) in rules.paired(found) {
            let text = if is_untouched(found_of_family) {
                rules_of_family.to_string()
            } else {
                replacement(rules_of_family, found_of_family)
            };
            match self.restore(rules_of_family.family, &text, self.deadline) {
                Ok(()) => {}
                Err(KernelError::Conflict) => return Err(KernelError::Conflict),
                Err(error) => {
                    let deadline = self.deadline.or_after(UNDOING);
                    rules
                        .paired(found)
                        .for_each(|(rules, _)| self.undo(rules, deadline));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn preempting(
        &mut self,
        plan: &Plan,
        rules: &Rules,
        found: &Vec<Ruleset>,
    ) -> Result<Vec<Preempting>, KernelError> {
        let pairs = rules.paired(found);
        let mut all: Vec<_> = pairs
            .flat_map(|(rules, found)| ipt::in_front(plan, rules, found))
            .collect();
        let nftables = Nftables::open(self.deadline);
        match nftables.and_then(|mut n| n.in_front(plan, rules.hooks.iter(), self.form())) {
            Err(KernelError::NoNfTables { .. }) => {} // then nothing of it is in front
            others => all.extend(others?),
        }
        if self.variant != Variant::Legacy {
            all.extend(legacy_tables());
        }
        Ok(all)
    }
}

impl Rules {
    /// Those of the families that were found, with what was found.
    fn paired<'a>(
        &'a self,
        found: &'a [Ruleset],
    ) -> impl Iterator<Item = (&'a Ruleset, &'a Ruleset)> {
        let of = |rules: &'a Ruleset| found.iter().find(|f| f.family == rules.family);
        let each = self.families.iter();
        each.filter_map(move |rules| Some((rules, of(rules)?)))
    }
}

/// What undoing may take where the deadline has passed.
const UNDOING: std::time::Duration = std::time::Duration::from_secs(2);

fn save(tool: &Tool, deadline: Deadline) -> Result<String, KernelError> {
    let text = Child {
        program: &tool.save,
        args: &[],
        stdin: "",
        writes_in: None,
        deadline,
    }
    .output()?;
    // of a table that holds what only nft can say, iptables-nft-save shows nothing
    match text
        .lines()
        .find(|l| l.starts_with('#') && l.contains("is incompatible"))
    {
        None => Ok(text),
        Some(what) => Err(KernelError::Tool {
            doing: tool.save.display().to_string(),
            what: what.into(),
            lacking: None,
        }),
    }
}

/// Whether legacy tables of this namespace hold a rule. The kernel tells without making them.
fn holds_legacy_rules(tools: &Tools, deadline: Deadline) -> Result<bool, KernelError> {
    for (family, names) in [
        (Family::Ipv4, "/proc/thread-self/net/ip_tables_names"),
        (Family::Ipv6, "/proc/thread-self/net/ip6_tables_names"),
    ] {
        let any_table = std::fs::read_to_string(names).is_ok_and(|n| !n.is_empty());
        if any_table
            && let Ok(tool) = tools.of(Variant::Legacy, family)
            && save(tool, deadline)?.lines().any(|l| l.starts_with("-A "))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the kernel has IPv6 in this thread's namespace.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/thread-self/net/if_inet6").exists()
}
