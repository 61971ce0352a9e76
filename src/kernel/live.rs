//! The live redirection of a network namespace: reads and applies it with either backend.

use super::{Bypass, KernelError, Netns, Network, Nftables, Tools, iptables::Iptables};
use crate::{
    deadline::Deadline,
    plan::{Form, Plan, Preempting, Rules, State},
};

/// The backend that programs rules.
pub enum Carrier<'a> {
    /// nf_tables over netlink.
    Nftables,
    /// The node's iptables: those that made the rules, where that is on record.
    Iptables(&'a Tools, Option<Form>),
}

/// The redirection of this thread's namespace.
pub struct Live<'a> {
    network: &'a Network,
    backend: Backend<'a>,
}

enum Backend<'a> {
    Nftables(Nftables),
    Iptables(Iptables<'a>, Deadline),
}

impl<'a> Live<'a> {
    /// `netns` is this thread's.
    pub fn open(
        carrier: &Carrier<'a>,
        network: &'a Network,
        netns: &Netns,
        deadline: Deadline,
    ) -> Result<Self, KernelError> {
        let backend = match carrier {
            Carrier::Nftables => Backend::Nftables(Nftables::open(deadline)?),
            Carrier::Iptables(tools, on_record) => Backend::Iptables(
                Iptables::open(tools, *on_record, netns, deadline)?,
                deadline,
            ),
        };
        Ok(Self { network, backend })
    }

    /// Its form.
    pub fn form(&self) -> Form {
        match &self.backend {
            Backend::Nftables(_) => Form::Nftables,
            Backend::Iptables(iptables, _) => iptables.form(),
        }
    }

    /// What there is of the kinds that the plan has.
    pub fn read(&mut self, plan: &Plan) -> Result<State, KernelError> {
        let rules = match &mut self.backend {
            Backend::Nftables(nftables) => Rules::Nftables(nftables.read()?),
            Backend::Iptables(iptables, _) => Rules::Iptables(iptables.read(plan)?),
        };
        Ok(State {
            rules,
            routing: self.network.routing(&plan.routing())?,
        })
    }

    /// The interfaces among these, by index, whose packets bypass the rules.
    pub fn bypassed(&self, of: &[u32]) -> Result<Vec<(u32, Bypass)>, KernelError> {
        self.network.bypassed(of)
    }

    /// Foreign rules that come before ours.
    pub fn in_front(&mut self, plan: &Plan, found: &State) -> Result<Vec<Preempting>, KernelError> {
        let mut in_front = self.network.policy_rules_in_front(&plan.routing())?;
        in_front.extend(plan.in_front(&found.rules));
        match &mut self.backend {
            Backend::Nftables(nftables) => {
                in_front.extend(nftables.in_front(plan, Form::Nftables)?);
                in_front.extend(legacy_tables());
            }
            Backend::Iptables(iptables, deadline) => {
                match Nftables::open(*deadline).and_then(|mut n| n.in_front(plan, iptables.form()))
                {
                    Err(KernelError::NoNfTables { .. }) => {} // then nothing of it is in front
                    others => in_front.extend(others?),
                }
                if iptables.form() != Form::IptablesLegacy {
                    in_front.extend(legacy_tables());
                }
            }
        }
        Ok(in_front)
    }

    /// Applies the plan to the state that was read. Fails with [`KernelError::Overtaken`] if that state has changed since. If it fails,
    /// everything that it added is removed.
    pub fn apply(&mut self, plan: &Plan, found: &State) -> Result<(), KernelError> {
        let added = self
            .network
            .add_routing(&plan.routing().without(&found.routing), plan.ipv6_in_use)?;
        let applied = match (&mut self.backend, &found.rules) {
            (_, rules) if plan.compare_rules(rules).is_empty() => Ok(()),
            (Backend::Nftables(nftables), Rules::Nftables(found)) => {
                nftables.apply(plan.nftables(), found.as_ref())
            }
            (Backend::Iptables(iptables, _), Rules::Iptables(found)) => iptables.apply(plan, found),
            // of another backend
            (Backend::Nftables(_), Rules::Iptables(_))
            | (Backend::Iptables(..), Rules::Nftables(_)) => Err(KernelError::Overtaken),
        };
        applied.inspect_err(|error| {
            if !matches!(error, KernelError::Overtaken) {
                self.network.remove_routing(&added);
            }
        })
    }
}

/// What redirects traffic in a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// Our table.
    Ours,
    /// Chains of Istio's.
    Istio,
    /// What cannot be looked into: tables of the older iptables.
    Perhaps,
    /// Nothing.
    Nothing,
}

/// What redirects the traffic of this thread's namespace.
pub fn redirects(deadline: Deadline) -> Result<Redirects, KernelError> {
    let of_nftables = Nftables::open(deadline).and_then(|mut nftables| {
        let ours = nftables.read()?.is_some();
        Ok(if ours {
            Redirects::Ours
        } else if nftables.has_chains_of_istio()? {
            Redirects::Istio
        } else {
            Redirects::Nothing
        })
    });
    match of_nftables {
        Ok(Redirects::Nothing) | Err(KernelError::NoNfTables { .. })
            if legacy_tables().is_some() =>
        {
            Ok(Redirects::Perhaps)
        }
        Err(KernelError::NoNfTables { .. }) => Ok(Redirects::Nothing),
        other => other,
    }
}

/// Tables of the older iptables in which there may be something before our rules: what they hold is not netlink's to show.
fn legacy_tables() -> Option<Preempting> {
    let names = |path| std::fs::read_to_string(path).unwrap_or_default();
    let names = names("/proc/thread-self/net/ip_tables_names")
        + &names("/proc/thread-self/net/ip6_tables_names");
    let there = |table: &&str| names.lines().any(|name| name == *table);
    let tables: Vec<_> = ["raw", "mangle", "nat"].into_iter().filter(there).collect();
    let rule = format!("tables {} (see iptables-legacy-save)", tables.join(", "));
    (!tables.is_empty()).then(|| Preempting {
        place: "iptables-legacy".into(),
        rule,
        decides: true,
        stops: false,
    })
}
