//! What the two backends have in common.

use std::fmt;

use super::KernelError;
use crate::plan::{Difference, Form, Plan, Preempting, Routing};

/// One way to carry a plan's rules out in this thread's network namespace.
pub trait Backend {
    /// A plan, lowered.
    type Rules: fmt::Debug;
    /// What there is in the place of the rules.
    type Found: fmt::Debug;

    /// A change is made as a whole or not at all. Otherwise what could not be undone may stay.
    const IS_ATOMIC: bool;
    /// Foreign rules that come before ours can be told before ours are there.
    const SEES_PREEMPTING_FIRST: bool;

    /// Which of the forms it makes.
    fn form(&self) -> Form;

    /// The rules of a plan. This is the work of an ADD: it is done once.
    fn lower(&self, plan: &Plan) -> Self::Rules;

    /// What there is of ours.
    fn read(&mut self, plan: &Plan) -> Result<Self::Found, KernelError>;

    /// All differences of meaning between the rules and what was found.
    fn differences(plan: &Plan, rules: &Self::Rules, found: &Self::Found) -> Vec<Difference>;

    /// Whether there is nothing of ours.
    fn is_untouched(found: &Self::Found) -> bool;

    /// Whether what was found redirects nothing, whichever version's rules it should be.
    fn redirects_nothing(found: &Self::Found) -> bool;

    /// Makes the rules in the place of what was found. Fails with [`KernelError::Conflict`] if that has changed since.
    fn apply(&mut self, rules: &Self::Rules, found: &Self::Found) -> Result<(), KernelError>;

    /// Foreign rules that packets may meet before these.
    fn preempting(
        &mut self,
        plan: &Plan,
        rules: &Self::Rules,
        found: &Self::Found,
    ) -> Result<Vec<Preempting>, KernelError>;
}

/// How packets that come in on an interface bypass the rules of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// It is a port of a bridge.
    Bridge,
    /// A filter of traffic control redirects them to another interface.
    TrafficControl,
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "is now a bridge port",
            Self::TrafficControl => "now has a tc filter that redirects its packets",
        })
    }
}

/// What a plan needs beside rules, in this thread's network namespace. The same with either backend.
pub trait Routes {
    /// What there is of the kinds that are planned.
    fn routing(&self, planned: &Routing) -> Result<Routing, KernelError>;

    /// Adds what is missing; returns what was added. If something fails, nothing stays added. `ipv6_in_use`: an interface has an IPv6
    /// address; where none has, IPv6 may be switched off.
    fn add_routing(&self, missing: &Routing, ipv6_in_use: bool) -> Result<Routing, KernelError>;

    /// Removes what was added; what cannot be removed does no harm without the rules.
    fn remove_routing(&self, added: &Routing);

    /// Foreign policy rules that come before ours, or will where ours is missing.
    fn policy_rules_in_front(&self, planned: &Routing) -> Result<Vec<Preempting>, KernelError>;

    /// Those of these interfaces, by index, whose packets bypass the rules.
    fn find_bypasses(&self, of: &[u32]) -> Result<Vec<(u32, Bypass)>, KernelError>;
}
