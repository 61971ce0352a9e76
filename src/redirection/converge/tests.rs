use std::{cell::RefCell, rc::Rc};

use nix::errno::Errno;

use super::{
    Converging,
    fake::{Fake, FakeNamespace, Memory, Table},
};
use crate::{
    kernel::{KernelError, Live},
    node::attachments::Record,
    plan::{
        FORMAT, Plan, Preempting, Routing,
        fixtures::{intent, network},
    },
    reason::{Explanation, Reason},
    redirection::wanted::{Done, Handling},
};

/// A namespace and the records of its node, and the plan of a pod that needs rules, an address, policy rules and routes.
struct Lab {
    namespace: Rc<RefCell<FakeNamespace>>,
    store: Memory,
    plan: Plan,
    refuses_preempted: bool,
}

impl Lab {
    fn new() -> Self {
        let tproxy = [("sidecar.istio.io/interceptionMode", "TPROXY")];
        let intent = intent(&tproxy, &[("ISTIO_DUAL_STACK", "true")]);
        Self {
            namespace: Rc::default(),
            store: Memory::default(),
            plan: Plan::new(&intent, &network(true, true)).unwrap(),
            refuses_preempted: true,
        }
    }

    /// The record of this sandbox, whose rules are in place or not.
    fn record(&self, done: bool) -> Record {
        let text = include_str!("../../../tests/data/compat/0.1.0/record.json");
        Record {
            intent: self.plan.intent.clone(),
            format: FORMAT,
            done,
            ..serde_json::from_str(text).unwrap()
        }
    }

    fn on_record(&self) -> Option<Record> {
        self.store.records.borrow().values().next().cloned()
    }

    /// An ADD by a backend that changes all at once.
    fn add(&self) -> Result<Done, Explanation> {
        self.add_by::<true>()
    }

    fn add_by<const ATOMIC: bool>(&self) -> Result<Done, Explanation> {
        let earlier = self.on_record();
        let namespace = self.namespace.clone();
        let backend = Fake::<ATOMIC> {
            namespace: namespace.clone(),
            read_at: 0,
        };
        let is_done = earlier.as_ref().is_some_and(|e| e.done);
        let done = Converging {
            live: Live::new(backend, &namespace, &self.plan),
            record: self.record(false),
            earlier: earlier.as_ref(),
            handling: if is_done {
                Handling::Keep
            } else {
                Handling::Make
            },
            refuses_preempted: self.refuses_preempted,
            store: &self.store,
        }
        .converge();
        Ok(done?)
    }

    fn holds(&self, rules: Table, routing: Routing) {
        let namespace = self.namespace.borrow();
        assert_eq!(
            (&namespace.rules, &namespace.routing),
            (&rules, &routing),
            "what is in the namespace"
        );
    }

    fn planned(&self) -> Table {
        let text = self.plan.nftables().to_string();
        Some(text.lines().map(str::to_owned).collect())
    }

    fn holds_the_plan(&self) {
        self.holds(self.planned(), self.plan.routing());
    }

    fn holds_nothing(&self) {
        self.holds(None, Routing::default());
        assert_eq!(self.on_record(), None);
    }
}

fn lacking() -> KernelError {
    KernelError::NoNfTables {
        doing: "adding a rule".into(),
        errno: Errno::ENOENT,
        module: None,
    }
}

fn forbidden() -> KernelError {
    KernelError::Refused {
        doing: "adding it".into(),
        errno: Errno::EPERM,
    }
}

fn of_another() -> Table {
    Some(vec!["table of another".into()])
}

/// How an ADD that must fail ends, as the user reads it.
fn refused(done: Result<Done, Explanation>) -> (Reason, String) {
    let why = done.unwrap_err();
    (why.reason, why.cause)
}

#[test]
fn an_add_makes_all_of_it_and_a_repeated_one_changes_nothing() {
    let lab = Lab::new();
    assert_eq!(lab.add().unwrap().reason, Reason::Redirected);
    lab.holds_the_plan();
    assert!(lab.on_record().unwrap().done);
    assert_eq!(lab.add().unwrap().reason, Reason::AlreadyRedirected);
    lab.holds_the_plan();
    assert_eq!(lab.namespace.borrow().changes, 1);
}

#[test]
fn one_that_is_overtaken_looks_again_and_lowers_its_plan_once() {
    let lab = Lab::new();
    let meanwhile = [None, of_another()];
    lab.namespace.borrow_mut().meanwhile.extend(meanwhile);
    let (reason, cause) = refused(lab.add());
    assert_eq!(reason, Reason::ConflictingAttachment, "{cause}");
    assert_eq!(lab.namespace.borrow().rules, of_another());
    assert_eq!(lab.on_record(), None);
    let lab = Lab::new();
    let meanwhile = [None, None, None, None];
    lab.namespace.borrow_mut().meanwhile.extend(meanwhile);
    assert_eq!(lab.add().unwrap().reason, Reason::Redirected);
    lab.holds_the_plan();
    assert!(lab.on_record().unwrap().done);
    let namespace = lab.namespace.borrow();
    assert_eq!((namespace.changes, namespace.lowered), (5, 1));
}

#[test]
fn one_that_is_overtaken_each_time_gives_up_and_says_why() {
    let lab = Lab::new();
    let meanwhile = std::iter::repeat_n(None, 9);
    lab.namespace.borrow_mut().meanwhile.extend(meanwhile);
    let changed = "another program changed the tables meanwhile".to_owned();
    assert_eq!(refused(lab.add()), (Reason::KernelRefused, changed));
    assert_eq!(lab.namespace.borrow().rules, None);
    assert_eq!(lab.on_record(), None);
}

#[test]
fn what_was_added_before_a_failure_is_removed() {
    type Refuse = fn(&mut FakeNamespace);
    let refuse: [(Refuse, Reason, &str); 3] = [
        (
            |namespace| namespace.refuses_rules = Some(lacking()),
            Reason::KernelUnsupported,
            "adding a rule: ENOENT",
        ),
        (
            |namespace| namespace.refuses_rules = Some(forbidden()),
            Reason::KernelRefused,
            "adding it: EPERM",
        ),
        (
            |namespace| namespace.refuses_routing = Some(forbidden()),
            Reason::KernelRefused,
            "adding it: EPERM",
        ),
    ];
    for (refuse, reason, cause) in refuse {
        let lab = Lab::new();
        refuse(&mut lab.namespace.borrow_mut());
        let found = refused(lab.add());
        assert!(found.0 == reason && found.1.starts_with(cause), "{found:?}");
        lab.holds_nothing();
        assert_eq!(lab.add().unwrap().reason, Reason::Redirected);
        lab.holds_the_plan();
    }
}

#[test]
fn what_was_on_record_before_a_failure_is_on_record_again() {
    let lab = Lab::new();
    let before = lab.record(false);
    before.write(&lab.store).unwrap();
    lab.namespace.borrow_mut().rules = of_another();
    lab.namespace.borrow_mut().refuses_rules = Some(forbidden());
    assert_eq!(refused(lab.add()).0, Reason::KernelRefused);
    assert_eq!(lab.on_record(), Some(before), "what was killed half-way");
    lab.holds(of_another(), Routing::default());
}

#[test]
fn what_could_not_be_undone_stays_on_record_for_the_next_add_to_complete() {
    let lab = Lab::new();
    lab.namespace.borrow_mut().refuses_rules = Some(forbidden());
    assert_eq!(refused(lab.add_by::<false>()).0, Reason::KernelRefused);
    assert!(lab.namespace.borrow().rules.is_some(), "a half");
    assert_eq!(lab.on_record().map(|record| record.done), Some(false));
    assert_eq!(lab.add_by::<false>().unwrap().reason, Reason::Redirected);
    lab.holds_the_plan();
    assert!(lab.on_record().unwrap().done);
}

#[test]
fn rules_that_read_back_differently_are_no_success_and_stay_on_record() {
    let lab = Lab::new();
    lab.namespace.borrow_mut().forgets = true;
    let (reason, cause) = refused(lab.add());
    assert_eq!(reason, Reason::KernelRefused);
    assert!(
        cause.starts_with("the redirection reads back differently: ")
            && cause.contains("is missing"),
        "{cause}"
    );
    assert_eq!(lab.on_record().map(|record| record.done), Some(false));
    lab.namespace.borrow_mut().forgets = false;
    assert_eq!(lab.add().unwrap().reason, Reason::Redirected);
    lab.holds_the_plan();
    assert!(lab.on_record().unwrap().done);
}

#[test]
fn nothing_is_made_that_cannot_be_put_on_record() {
    let mut lab = Lab::new();
    lab.store.is_full = true;
    let full = "no space left on device".to_owned();
    assert_eq!(refused(lab.add()), (Reason::Internal, full));
    lab.holds_nothing();
}

#[test]
fn rules_of_another_are_a_conflict_and_stay() {
    let lab = Lab::new();
    lab.namespace.borrow_mut().rules = of_another();
    let (reason, cause) = refused(lab.add());
    assert_eq!(reason, Reason::ConflictingAttachment);
    assert!(cause.contains("table of another"), "{cause}");
    lab.holds(of_another(), Routing::default());
    assert_eq!(lab.on_record(), None);
}

#[test]
fn foreign_rules_that_decide_first_refuse_unless_the_profile_says_otherwise() {
    let mut lab = Lab::new();
    let preempting = Preempting {
        place: "table ip theirs".into(),
        rule: "drop".into(),
        decides: true,
        stops: true,
    };
    lab.namespace.borrow_mut().preempting.push(preempting);
    let (reason, cause) = refused(lab.add());
    assert_eq!(reason, Reason::Preempted);
    assert!(cause.contains("table ip theirs"), "{cause}");
    lab.holds_nothing();
    lab.refuses_preempted = false;
    let done = lab.add().unwrap();
    let warnings: Vec<_> = done.warnings.iter().map(|w| w.reason).collect();
    assert_eq!(
        (done.reason, warnings),
        (Reason::Redirected, vec![Reason::Preempted])
    );
    // where they are seen only beside ours
    let lab = Lab {
        refuses_preempted: true,
        ..lab
    };
    assert_eq!(refused(lab.add_by::<false>()).0, Reason::Preempted);
}

#[test]
fn what_a_newer_version_made_stays_with_a_warning() {
    let lab = Lab::new();
    let newer = Record {
        format: FORMAT + 1,
        ..lab.record(true)
    };
    newer.write(&lab.store).unwrap();
    lab.namespace.borrow_mut().rules = of_another();
    let done = lab.add().unwrap();
    let warnings: Vec<_> = done.warnings.iter().map(|w| w.reason).collect();
    assert_eq!(
        (done.reason, warnings),
        (Reason::AlreadyRedirected, vec![Reason::Outdated])
    );
    lab.holds(of_another(), Routing::default());
    assert_eq!(lab.on_record(), Some(newer));
}
