//! A kernel and a directory of records in memory, which another program may change and which may fail at any step.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use crate::{
    kernel::{Backend, Bypass, KernelError, Routes},
    node::attachments::{Record, RecordStore},
    plan::{Difference, Form, Plan, Preempting, Routing},
    reason::{Explanation, Reason},
};

/// Lines of rules; `None` where there is no table of ours.
pub(super) type Table = Option<Vec<String>>;

/// What a network namespace holds, and what becomes of changes to it.
#[derive(Default)]
pub(super) struct FakeNamespace {
    pub(super) rules: Table,
    pub(super) routing: Routing,
    /// Counts changes of rules.
    generation: u32,
    /// What another program makes of the rules just before each of the next changes.
    pub(super) meanwhile: VecDeque<Table>,
    /// What the next change of rules, or of routing, fails with.
    pub(super) refuses_rules: Option<KernelError>,
    pub(super) refuses_routing: Option<KernelError>,
    /// It drops the last rule that it is given.
    pub(super) forgets: bool,
    pub(super) preempting: Vec<Preempting>,
    /// How often a plan was lowered, and how often rules were to be changed.
    pub(super) lowered: usize,
    pub(super) changes: usize,
}

impl FakeNamespace {
    fn set(&mut self, rules: Table) {
        self.rules = rules;
        self.generation += 1;
    }
}

/// A backend in such a namespace: one that changes all at once, or one that may leave a half.
pub(super) struct Fake<const ATOMIC: bool> {
    pub(super) namespace: Rc<RefCell<FakeNamespace>>,
    pub(super) read_at: u32,
}

impl<const ATOMIC: bool> Backend for Fake<ATOMIC> {
    type Rules = Vec<String>;
    type Found = Table;

    const IS_ATOMIC: bool = ATOMIC;
    const SEES_PREEMPTING_FIRST: bool = ATOMIC;

    fn form(&self) -> Form {
        if ATOMIC {
            Form::Nftables
        } else {
            Form::Iptables
        }
    }

    fn lower(&self, plan: &Plan) -> Vec<String> {
        self.namespace.borrow_mut().lowered += 1;
        let text = plan.nftables().to_string();
        text.lines().map(str::to_owned).collect()
    }

    fn read(&mut self, _: &Plan) -> Result<Table, KernelError> {
        let namespace = self.namespace.borrow();
        self.read_at = namespace.generation;
        Ok(namespace.rules.clone())
    }

    fn differences(_: &Plan, rules: &Vec<String>, found: &Table) -> Vec<Difference> {
        let none = Vec::new();
        let found = found.as_ref().unwrap_or(&none);
        let differ =
            (0..rules.len().max(found.len())).filter(|at| rules.get(*at) != found.get(*at));
        let line = |at| Difference {
            place: format!("line {at}"),
            found: found.get(at).cloned(),
            expected: rules.get(at).cloned(),
        };
        differ.map(line).collect()
    }

    fn is_untouched(found: &Table) -> bool {
        found.is_none()
    }

    fn redirects_nothing(found: &Table) -> bool {
        found.is_none()
    }

    fn apply(&mut self, rules: &Vec<String>, _: &Table) -> Result<(), KernelError> {
        let mut namespace = self.namespace.borrow_mut();
        namespace.changes += 1;
        if let Some(of_another) = namespace.meanwhile.pop_front() {
            namespace.set(of_another);
        }
        if namespace.generation != self.read_at {
            return Err(KernelError::Conflict);
        }
        if let Some(error) = namespace.refuses_rules.take() {
            if !ATOMIC {
                namespace.set(Some(rules[..rules.len() / 2].to_vec()));
            }
            return Err(error);
        }
        let kept = rules.len() - usize::from(namespace.forgets);
        namespace.set(Some(rules[..kept].to_vec()));
        Ok(())
    }

    fn preempting(
        &mut self,
        _: &Plan,
        _: &Vec<String>,
        _: &Table,
    ) -> Result<Vec<Preempting>, KernelError> {
        Ok(self.namespace.borrow().preempting.clone())
    }
}

impl Routes for Rc<RefCell<FakeNamespace>> {
    fn routing(&self, _: &Routing) -> Result<Routing, KernelError> {
        Ok(self.borrow().routing.clone())
    }

    fn add_routing(&self, missing: &Routing, _: bool) -> Result<Routing, KernelError> {
        let mut namespace = self.borrow_mut();
        if let Some(error) = namespace.refuses_routing.take() {
            return Err(error);
        }
        let routing = &mut namespace.routing;
        routing.addresses.extend(&missing.addresses);
        routing.rules.extend(missing.rules.iter().cloned());
        routing.routes.extend(missing.routes.iter().cloned());
        Ok(missing.clone())
    }

    fn remove_routing(&self, added: &Routing) {
        let mut namespace = self.borrow_mut();
        namespace.routing = namespace.routing.without(added);
    }

    fn policy_rules_in_front(&self, _: &Routing) -> Result<Vec<Preempting>, KernelError> {
        Ok(Vec::new())
    }

    fn find_bypasses(&self, _: &[u32]) -> Result<Vec<(u32, Bypass)>, KernelError> {
        Ok(Vec::new())
    }
}

/// Records in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) records: RefCell<BTreeMap<String, Record>>,
    pub(super) is_full: bool,
}

impl RecordStore for Memory {
    fn put(&self, container_id: &str, json: &[u8]) -> Result<(), Explanation> {
        if self.is_full {
            return Err(Reason::Internal.because("no space left on device"));
        }
        let record = serde_json::from_slice(json).unwrap();
        let mut records = self.records.borrow_mut();
        records.insert(container_id.to_owned(), record);
        Ok(())
    }

    fn remove(&self, container_id: &str) {
        self.records.borrow_mut().remove(container_id);
    }
}
