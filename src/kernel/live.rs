//! A network namespace's redirection: read, and applied, in either form.

use super::{Interfaces, Iptables, KernelError, Netns, Nftables, Tools};
use crate::{
    deadline::Deadline,
    plan::{Form, Plan, Preempting, Rules, State, ipt},
};

/// What carries rules out.
pub enum Carrier<'a> {
    /// nf_tables over netlink.
    Nftables,
    /// The node's iptables.
    Iptables(&'a Tools),
}

/// The redirection of this thread's namespace.
pub struct Live<'a> {
    interfaces: &'a Interfaces,
    backend: Backend<'a>,
}

enum Backend<'a> {
    Nftables(Nftables),
    Iptables(Iptables<'a>, Deadline),
}

impl<'a> Live<'a> {
    /// `netns` is this thread's.
    pub fn open(carrier: &Carrier<'a>, interfaces: &'a Interfaces, netns: &Netns, deadline: Deadline) -> Result<Self, KernelError> {
        let backend = match carrier {
            Carrier::Nftables => Backend::Nftables(Nftables::open(deadline)?),
            Carrier::Iptables(tools) => Backend::Iptables(Iptables::open(tools, netns, deadline)?, deadline),
        };
        Ok(Self { interfaces, backend })
    }

    /// Its form.
    pub fn form(&self) -> Form {
        match self.backend {
            Backend::Nftables(_) => Form::Nftables,
            Backend::Iptables(..) => Form::Iptables,
        }
    }

    /// What there is of the kinds that the plan has.
    pub fn read(&mut self, plan: &Plan) -> Result<State, KernelError> {
        let rules = match &mut self.backend {
            Backend::Nftables(nftables) => Rules::Nftables(nftables.read()?),
            Backend::Iptables(iptables, _) => Rules::Iptables(iptables.read(plan)?),
        };
        Ok(State { rules, routing: self.interfaces.routing(&plan.routing())? })
    }

    /// What somebody else has put before our rules.
    pub fn in_front(&mut self, plan: &Plan, found: &State) -> Result<Vec<Preempting>, KernelError> {
        let mut in_front = self.interfaces.policy_rules_in_front(&plan.routing())?;
        match (&mut self.backend, &found.rules) {
            (Backend::Nftables(nftables), _) => {
                in_front.extend(nftables.in_front(&plan.nftables(), true)?);
                in_front.extend(legacy_tables());
            }
            (Backend::Iptables(_, deadline), rules) => {
                if let Rules::Iptables(found) = rules {
                    in_front.extend(found.iter().flat_map(|f| ipt::in_front(&plan.iptables(f.family), f)));
                }
                // where there is no nf_tables nothing of it is in front
                let others = Nftables::open(*deadline).and_then(|mut n| n.in_front(&plan.nftables(), false));
                in_front.extend(others.unwrap_or_default());
            }
        }
        Ok(in_front)
    }

    /// Makes what was found into what is planned. Fails with [`KernelError::Overtaken`] where that is no longer what there is. Where it
    /// fails, what it has done is undone.
    pub fn apply(&mut self, plan: &Plan, found: &State) -> Result<(), KernelError> {
        let added = self.interfaces.add_routing(&plan.routing().without(&found.routing), plan.ipv6_in_use)?;
        let applied = match (&mut self.backend, &found.rules) {
            (_, rules) if plan.compare_rules(rules).is_empty() => Ok(()),
            (Backend::Nftables(nftables), _) => nftables.create(&plan.nftables()),
            (Backend::Iptables(iptables, _), Rules::Iptables(found)) => iptables.apply(plan, found),
            (Backend::Iptables(..), Rules::Nftables(_)) => Err(KernelError::Overtaken),
        };
        applied.inspect_err(|error| {
            if !matches!(error, KernelError::Overtaken) {
                self.interfaces.remove_routing(&added);
            }
        })
    }
}

/// Tables of the older iptables: their rules are not netlink's to show.
fn legacy_tables() -> Option<Preempting> {
    let names = |path| std::fs::read_to_string(path).unwrap_or_default();
    let names = names("/proc/thread-self/net/ip_tables_names") + &names("/proc/thread-self/net/ip6_tables_names");
    let rule = names.split_whitespace().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    (!rule.is_empty()).then(|| Preempting { place: "iptables-legacy".into(), rule: format!("tables {rule}") })
}
