//! What an audit finds: the state of each pod, and the pods that are not as they should be. Pure but for the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::{reason::Reason, redirection::Verdict, telemetry::PodKey};

/// What was found of a pod of the mesh. Each is in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PodState {
    /// Of its redirection; also of one that has none where it should have one.
    Redirection(Verdict),
    /// It had drifted.
    Repaired,
    /// Injected, left alone by its own word, and not redirected.
    OptedOut,
    /// Of the mesh, without a sidecar.
    SidecarMissing,
    /// What it is could not be told.
    Unaudited,
}

impl PodState {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Repaired,
            Self::OptedOut,
            Self::SidecarMissing,
            Self::Unaudited,
        ];
        Verdict::ALL
            .map(Self::Redirection)
            .into_iter()
            .chain(others)
    }

    /// As the metric has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Redirection(verdict) => verdict.as_str(),
            Self::Repaired => "repaired",
            Self::OptedOut => "opted-out",
            Self::SidecarMissing => "sidecar-missing",
            Self::Unaudited => "unaudited",
        }
    }
}

/// What an audit of the whole node has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Pods in each state.
    states: BTreeMap<PodState, usize>,
    /// Pods that run by policy that has changed: recreated, they would be refused. They are in a state as well.
    pub(super) policy_changed: usize,
    pub(super) unreadable_records: usize,
    /// Pods that are not as they should be.
    pub(super) wrong: Vec<Wrong>,
    /// The profiles by which pods are decided: names and versions.
    pub(super) profiles: BTreeSet<(String, String)>,
}

/// What is wrong with a pod, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ProblemKind {
    Bypassing,
    Drifted,
    Preempted,
    Unaudited,
    SidecarMissing,
    PolicyChanged,
}

impl ProblemKind {
    /// As an Event has it, where there is one.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bypassing => Reason::Bypassing.as_str(),
            Self::Drifted => Reason::Drifted.as_str(),
            Self::Preempted => Reason::Preempted.as_str(),
            Self::Unaudited => "Unaudited",
            Self::SidecarMissing => Reason::SidecarMissing.as_str(),
            Self::PolicyChanged => Reason::PolicyChanged.as_str(),
        }
    }

    fn of(state: PodState) -> Option<Self> {
        match state {
            PodState::Redirection(Verdict::Bypassing) => Some(Self::Bypassing),
            PodState::Redirection(Verdict::Drifted) => Some(Self::Drifted),
            PodState::Redirection(Verdict::Preempted) => Some(Self::Preempted),
            PodState::Unaudited => Some(Self::Unaudited),
            PodState::SidecarMissing => Some(Self::SidecarMissing),
            PodState::Redirection(Verdict::Consistent | Verdict::Outdated)
            | PodState::Repaired
            | PodState::OptedOut => None,
        }
    }
}

/// A pod that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: ProblemKind,
    pub(super) about: PodKey,
    /// The audit that saw it first.
    pub(super) since: Timestamp,
}

impl Counts {
    pub(super) fn add(&mut self, state: PodState, about: PodKey) {
        *self.states.entry(state).or_default() += 1;
        if let Some(what) = ProblemKind::of(state) {
            self.add_problem(what, about);
        }
    }

    pub(super) fn add_problem(&mut self, what: ProblemKind, about: PodKey) {
        let since = Timestamp::now();
        self.wrong.push(Wrong { what, about, since });
    }

    /// Sorts the problems, the worst kind first. Those that an earlier audit has seen keep its time.
    pub(super) fn sort_and_date(&mut self, earlier: &Self) {
        let known: HashMap<_, _> = earlier
            .wrong
            .iter()
            .map(|wrong| ((wrong.what, &wrong.about.uid), wrong.since))
            .collect();
        for wrong in &mut self.wrong {
            let known = known.get(&(wrong.what, &wrong.about.uid));
            wrong.since = known.copied().unwrap_or(wrong.since);
        }
        fn order(Wrong { what, about, .. }: &Wrong) -> (ProblemKind, &str, &str) {
            (*what, &about.namespace, &about.name)
        }
        self.wrong.sort_by(|a, b| order(a).cmp(&order(b)));
    }

    pub(super) fn of(&self, state: PodState) -> usize {
        self.states.get(&state).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str, uid: &str) -> PodKey {
        PodKey {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }

    #[test]
    fn problems_are_sorted_by_kind_then_namespace_then_name() {
        let mut counts = Counts::default();
        let drifted = PodState::Redirection(Verdict::Drifted);
        let bypassing = PodState::Redirection(Verdict::Bypassing);
        counts.add_problem(ProblemKind::PolicyChanged, key("a", "a", "1"));
        counts.add(PodState::SidecarMissing, key("a", "b", "2"));
        counts.add(drifted, key("b", "a", "3"));
        counts.add(drifted, key("a", "z", "4"));
        counts.add(drifted, key("a", "c", "5"));
        counts.add(bypassing, key("z", "z", "6"));
        counts.sort_and_date(&Counts::default());
        let order: Vec<_> = counts.wrong.iter().map(|w| w.about.uid.as_str()).collect();
        assert_eq!(order, ["6", "5", "4", "3", "2", "1"]);
        assert_eq!((counts.of(drifted), counts.of(bypassing)), (3, 1));
    }

    #[test]
    fn a_pod_that_is_as_it_should_be_is_counted_and_no_problem() {
        let mut counts = Counts::default();
        for state in [
            PodState::Redirection(Verdict::Consistent),
            PodState::Redirection(Verdict::Outdated),
            PodState::Repaired,
            PodState::OptedOut,
        ] {
            counts.add(state, key("a", "a", "1"));
            assert_eq!((counts.of(state), &counts.wrong), (1, &vec![]));
        }
    }

    #[test]
    fn a_problem_keeps_the_time_of_the_audit_that_saw_it_first() {
        let drifted = |name: &str, uid: &str| {
            let mut counts = Counts::default();
            let state = PodState::Redirection(Verdict::Drifted);
            counts.add(state, key("a", name, uid));
            counts
        };
        let mut earlier = drifted("web", "1");
        earlier.wrong[0].since = Timestamp::UNIX_EPOCH;
        let since = |mut counts: Counts| {
            counts.sort_and_date(&earlier);
            counts.wrong[0].since
        };
        assert_eq!(since(drifted("web", "1")), Timestamp::UNIX_EPOCH);
        // the same name as another pod, or another problem of the same pod
        assert!(since(drifted("web", "2")) > Timestamp::UNIX_EPOCH);
        let mut other = Counts::default();
        other.add(PodState::Unaudited, key("a", "web", "1"));
        assert!(since(other) > Timestamp::UNIX_EPOCH);
    }
}
