//! The iptables backend: one `iptables-restore` for each family, read back by `iptables-save`. For nodes whose kernel has no nf_tables,
//! and for those whose admin wants Istio's chains.

mod child;
mod tools;

pub use self::tools::Tools;
use self::{
    child::{Child, Sandbox},
    tools::Variant,
};
use super::{KernelError, Netns};
use crate::{
    deadline::Deadline,
    plan::{
        Plan,
        ipt::{Ruleset, is_untouched, parse, removal, replacement},
        packet::Family,
    },
};

/// iptables of the network namespace in which it was opened.
pub struct Iptables<'a> {
    tools: &'a Tools,
    sandbox: Sandbox,
    deadline: Deadline,
}

impl<'a> Iptables<'a> {
    /// For this thread's namespace, which is `netns`.
    pub fn open(tools: &'a Tools, netns: &Netns, deadline: Deadline) -> Result<Self, KernelError> {
        Ok(Self { tools, sandbox: Sandbox::of(netns)?, deadline })
    }

    /// The rules of each captured family that the kernel has.
    pub fn read(&self, plan: &Plan) -> Result<Vec<Ruleset>, KernelError> {
        let there = |family: &Family| *family == Family::Ipv4 || plan.ipv6_in_use || has_ipv6();
        plan.families.captured().filter(there).map(|family| self.read_family(family, self.deadline)).collect()
    }

    /// Makes the rules in the place of what was found of ours. Each table is one transaction of the kernel, and where one of them fails
    /// all are undone. Fails with [`KernelError::Overtaken`] where our chains are there since they were looked for.
    pub fn apply(&self, plan: &Plan, found: &[Ruleset]) -> Result<(), KernelError> {
        for of_family in found {
            let rules = plan.iptables(of_family.family);
            let text = if is_untouched(of_family) { rules.to_string() } else { replacement(&rules, of_family) };
            match self.restore(of_family.family, &text, self.deadline) {
                Ok(()) => {}
                Err(KernelError::Overtaken) => return Err(KernelError::Overtaken),
                Err(error) => {
                    found.iter().for_each(|f| self.undo(plan, f.family));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes our rules of a family away. What cannot be undone is undone by the next ADD, or by the end of the namespace.
    fn undo(&self, plan: &Plan, family: Family) {
        let deadline = self.deadline.or_after(UNDOING);
        if let Ok(found) = self.read_family(family, deadline) {
            self.restore(family, &removal(&plan.iptables(family), &found), deadline).ok();
        }
    }

    fn read_family(&self, family: Family, deadline: Deadline) -> Result<Ruleset, KernelError> {
        let tool = self.tools.choose(family, |legacy| self.has_rules(family, &legacy.save))?;
        let save = Child { program: &tool.save, args: &[], stdin: "", writes_in: None, deadline };
        Ok(parse(family, &save.output()?))
    }

    fn restore(&self, family: Family, text: &str, deadline: Deadline) -> Result<(), KernelError> {
        if text.is_empty() {
            return Ok(());
        }
        let tool = self.tools.choose(family, |legacy| self.has_rules(family, &legacy.save))?;
        let wait = format!("--wait={}", deadline.left().as_secs().clamp(1, 10));
        let args: &[&str] = if tool.waits() { &["--noflush", &wait] } else { &["--noflush"] };
        Child { program: &tool.restore, args, stdin: text, writes_in: Some(&self.sandbox), deadline }.output().map(|_| ())
    }

    /// Whether legacy tables of this namespace hold a rule. The kernel tells without making them.
    fn has_rules(&self, family: Family, save: &std::path::Path) -> bool {
        let names = match family {
            Family::Ipv4 => "/proc/thread-self/net/ip_tables_names",
            Family::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
        };
        let any_table = std::fs::read_to_string(names).is_ok_and(|n| !n.is_empty());
        let save = Child { program: save, args: &[], stdin: "", writes_in: None, deadline: self.deadline };
        any_table && save.output().is_ok_and(|text| text.lines().any(|l| l.starts_with("-A ")))
    }
}

/// What undoing may take where the deadline has passed.
const UNDOING: std::time::Duration = std::time::Duration::from_secs(2);

/// Whether the kernel has IPv6 in this thread's namespace.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/thread-self/net/if_inet6").exists()
}

impl tools::Tool {
    /// Whether it knows `--wait`; nf_tables needs no lock, but takes the option.
    fn waits(&self) -> bool {
        self.variant == Variant::Nft || self.version >= (1, 6, 2)
    }
}
