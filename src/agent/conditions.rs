//! The conditions of the node, for probes, metrics and the MeshNode.

use jiff::Timestamp;

use crate::{multus::Multus, profile::BackendPolicy, reason::Explanation, words::words};

words! {
    /// What a condition is about.
    pub(super) enum ConditionKind("condition") {
        /// A pod that opts in now would be redirected.
        Ready = "Ready",
        ProgramInstalled = "ProgramInstalled",
        /// Multus looks where the program and its configurations are installed.
        PathsVerified = "PathsVerified",
        /// This node's kernel accepted rules of each kind, and they were read back.
        SelfTestPassed = "SelfTestPassed",
        /// Every MeshProfile can be read and followed.
        ProfilesKnown = "ProfilesKnown",
        /// The credential for when the agent is away.
        HostCredential = "HostCredential",
    }
}

words! {
    /// Whether it holds.
    pub(super) enum ConditionStatus("status of a condition") {
        True = "True",
        False = "False",
        Unknown = "Unknown",
    }
}

/// A condition, as the API of Kubernetes knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) kind: ConditionKind,
    pub(super) status: ConditionStatus,
    /// A word for programs.
    pub(super) reason: &'static str,
    /// A sentence for people; empty where nothing is to be said.
    pub(super) message: String,
}

/// The state of something that is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum NodeFinding {
    /// It was not checked yet.
    #[default]
    Unknown,
    /// It is as it should be.
    Holds,
    /// It is as it should be, but for this.
    Limited(String),
    /// It was not asked for.
    NotRequested,
    /// It cannot be checked, for this reason.
    Unverified(String),
    Wrong(Explanation),
}

impl NodeFinding {
    /// As it should be, if there are no problems.
    pub(super) fn of(wrong: Option<Explanation>) -> Self {
        wrong.map_or(Self::Holds, Self::Wrong)
    }

    pub(super) fn condition(self, kind: ConditionKind) -> Condition {
        let (status, reason, message) = match self {
            Self::Unknown => (ConditionStatus::Unknown, "NotCheckedYet", String::new()),
            Self::Holds => (ConditionStatus::True, "AsExpected", String::new()),
            Self::Limited(what) => (ConditionStatus::True, "Limited", what),
            Self::NotRequested => (ConditionStatus::True, "NotRequested", String::new()),
            Self::Unverified(why) => (ConditionStatus::Unknown, "Unverified", why),
            Self::Wrong(why) => (ConditionStatus::False, why.reason.as_str(), why.to_string()),
        };
        Condition {
            kind,
            status,
            reason,
            message,
        }
    }

    /// Its problems.
    pub(super) fn wrong(self) -> Option<Explanation> {
        match self {
            Self::Wrong(why) => Some(why),
            Self::Unknown
            | Self::Holds
            | Self::Limited(_)
            | Self::NotRequested
            | Self::Unverified(_) => None,
        }
    }
}

/// The latest findings about the node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeFindings {
    /// The problems with what is installed; `None` before the first pass.
    pub(super) installed: Option<Vec<Explanation>>,
    pub(super) paths: NodeFinding,
    pub(super) multus: Option<Multus>,
    pub(super) self_test: NodeFinding,
    /// The backend that is used where the profile says Auto.
    pub(super) backend: Option<BackendPolicy>,
    pub(super) host_credential: NodeFinding,
}

/// When conditions last changed their status.
#[derive(Debug, Default)]
pub(super) struct Since(std::collections::BTreeMap<ConditionKind, (ConditionStatus, Timestamp)>);

impl Since {
    /// Of this one.
    pub(super) fn of(&mut self, condition: &Condition) -> Timestamp {
        let now = (condition.status, Timestamp::now());
        let since = self.0.entry(condition.kind).or_insert(now);
        if since.0 != condition.status {
            *since = now;
        }
        since.1
    }
}
