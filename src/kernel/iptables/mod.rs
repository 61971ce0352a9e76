//! The iptables backend: one `iptables-restore` for each family, read back by `iptables-save`. For nodes whose kernel has no nf_tables,
//! and for those whose admin wants Istio's chains.

mod child;
mod tools;

pub use self::tools::Tools;
use self::{
    child::{Child, Sandbox},
    tools::Tool,
};
use super::{KernelError, Netns};
use crate::{
    deadline::Deadline,
    plan::{
        Form, Plan,
        ipt::{Ruleset, is_untouched, parse, removal, replacement},
        packet::Family,
    },
};

/// iptables of the network namespace in which it was opened. What reads and applies must be one caller at a time: `-N` keeps only the
/// legacy programs apart.
pub(super) struct Iptables<'a> {
    tools: &'a Tools,
    form: Form,
    sandbox: Sandbox,
    deadline: Deadline,
}

impl<'a> Iptables<'a> {
    /// For this thread's namespace, which is `netns`. `on_record`: what its rules were made by.
    pub(in crate::kernel) fn open(
        tools: &'a Tools,
        on_record: Option<Form>,
        netns: &Netns,
        deadline: Deadline,
    ) -> Result<Self, KernelError> {
        let form = match on_record {
            Some(form) => form,
            None => tools.choose(|| holds_legacy_rules(tools, deadline))?,
        };
        Ok(Self {
            tools,
            form,
            sandbox: Sandbox::of(netns)?,
            deadline,
        })
    }

    /// Which of them.
    pub(in crate::kernel) fn form(&self) -> Form {
        self.form
    }

    /// The rules of each captured family that the kernel has.
    pub(in crate::kernel) fn read(&self, plan: &Plan) -> Result<Vec<Ruleset>, KernelError> {
        let there = |family: &Family| *family == Family::Ipv4 || plan.ipv6_in_use || has_ipv6();
        plan.families
            .captured()
            .filter(there)
            .map(|family| self.read_family(family, self.deadline))
            .collect()
    }

    /// Makes the rules in the place of what was found of ours. Each table is one transaction of the kernel, and where one of them fails
    /// all are undone. Fails with [`KernelError::Overtaken`] where our chains are there since they were looked for.
    pub(in crate::kernel) fn apply(
        &self,
        plan: &Plan,
        found: &[Ruleset],
    ) -> Result<(), KernelError> {
        for of_family in found {
            let rules = plan.iptables(of_family.family);
            let text = if is_untouched(of_family) {
                rules.to_string()
            } else {
                replacement(&rules, of_family)
            };
            match self.restore(of_family.family, &text, self.deadline) {
                Ok(()) => {}
                Err(KernelError::Overtaken) => return Err(KernelError::Overtaken),
                Err(error) => {
                    let deadline = self.deadline.or_after(UNDOING);
                    found
                        .iter()
                        .for_each(|f| self.undo(plan, f.family, deadline));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes our rules of a family away. What cannot be undone is undone by the next ADD, or by the end of the namespace.
    fn undo(&self, plan: &Plan, family: Family, deadline: Deadline) {
        if let Ok(found) = self.read_family(family, deadline) {
            self.restore(family, &removal(&plan.iptables(family), &found), deadline)
                .ok();
        }
    }

    fn read_family(&self, family: Family, deadline: Deadline) -> Result<Ruleset, KernelError> {
        save(self.tools.of(self.form, family)?, deadline).map(|text| parse(family, &text))
    }

    fn restore(&self, family: Family, text: &str, deadline: Deadline) -> Result<(), KernelError> {
        if text.is_empty() {
            return Ok(());
        }
        let tool = self.tools.of(self.form, family)?;
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
            lacking: false,
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
            && let Ok(tool) = tools.of(Form::IptablesLegacy, family)
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
