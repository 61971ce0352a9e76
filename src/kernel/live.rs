//! The live redirection of a network namespace: rules of one backend, and what they need beside them.

use super::{Backend, Bypass, KernelError, Nftables, Routes, legacy::legacy_tables};
use crate::{
    deadline::Deadline,
    plan::{Difference, Form, Plan, Preempting, Routing},
};

/// A plan and the redirection of this thread's namespace that is to become it.
pub struct Live<'a, B: Backend> {
    backend: B,
    network: &'a dyn Routes,
    plan: &'a Plan,
    /// The plan, lowered.
    rules: B::Rules,
    routing: Routing,
}

/// What was found in a namespace.
#[derive(Debug)]
pub struct LiveState<F> {
    rules: F,
    routing: Routing,
    /// From the plan; those of rules first.
    differences: Vec<Difference>,
    of_rules: usize,
}

impl<F> LiveState<F> {
    /// All differences of meaning from the plan.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// The same, to keep.
    pub fn into_differences(self) -> Vec<Difference> {
        self.differences
    }

    /// Those of the rules.
    pub fn of_rules(&self) -> &[Difference] {
        &self.differences[..self.of_rules]
    }

    /// Those of what is beside the rules.
    pub fn of_routing(&self) -> &[Difference] {
        &self.differences[self.of_rules..]
    }
}

impl<'a, B: Backend> Live<'a, B> {
    /// Lowers the plan. `network` is that of this thread's namespace.
    pub fn new(backend: B, network: &'a dyn Routes, plan: &'a Plan) -> Self {
        Self {
            rules: backend.lower(plan),
            routing: plan.routing(),
            backend,
            network,
            plan,
        }
    }

    /// Its form.
    pub fn form(&self) -> Form {
        self.backend.form()
    }

    /// What there is of the kinds that the plan has.
    pub fn read(&mut self) -> Result<LiveState<B::Found>, KernelError> {
        let rules = self.backend.read(self.plan)?;
        let routing = self.network.routing(&self.routing)?;
        let mut differences = B::differences(self.plan, &self.rules, &rules);
        let of_rules = differences.len();
        differences.extend(self.routing.compare(&routing, self.plan.ipv6_in_use));
        Ok(LiveState {
            rules,
            routing,
            differences,
            of_rules,
        })
    }

    /// Whether there is no rule of ours.
    pub fn is_untouched(&self, found: &LiveState<B::Found>) -> bool {
        B::is_untouched(&found.rules)
    }

    /// Whether what was found redirects nothing, whichever version's rules it should be.
    pub fn redirects_nothing(&self, found: &LiveState<B::Found>) -> bool {
        B::redirects_nothing(&found.rules)
    }

    /// The interfaces among these, by index, whose packets bypass the rules.
    pub fn find_bypasses(&self, of: &[u32]) -> Result<Vec<(u32, Bypass)>, KernelError> {
        self.network.find_bypasses(of)
    }

    /// Foreign rules that come before ours.
    pub fn preempting(
        &mut self,
        found: &LiveState<B::Found>,
    ) -> Result<Vec<Preempting>, KernelError> {
        let mut all = self.network.policy_rules_in_front(&self.routing)?;
        all.extend(
            self.backend
                .preempting(self.plan, &self.rules, &found.rules)?,
        );
        Ok(all)
    }

    /// Applies the plan to the state that was read. Fails with [`KernelError::Conflict`] if that state has changed since. If it fails,
    /// everything that it added is removed.
    pub fn apply(&mut self, found: &LiveState<B::Found>) -> Result<(), KernelError> {
        let missing = self.routing.without(&found.routing);
        let added = self.network.add_routing(&missing, self.plan.ipv6_in_use)?;
        if found.of_rules().is_empty() {
            return Ok(());
        }
        let applied = self.backend.apply(&self.rules, &found.rules);
        applied.inspect_err(|error| {
            if !matches!(error, KernelError::Conflict) {
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
        let ours = nftables.table()?.is_some();
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
