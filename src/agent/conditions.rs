//! The conditions of the node, for probes, metrics and the MeshNode.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Agent;
use crate::{
    deadline::Deadline,
    mesh::BackendPolicy,
    multus::Multus,
    reason::{Explanation, Reason},
    redirection::self_test,
    words::words,
};

/// How long the self-test may take.
const TESTING: Duration = Duration::from_secs(20);
/// The pause before it is repeated.
const TEST_AGAIN: Duration = Duration::from_secs(15);

words! {
    /// What a condition is about.
    pub(super) enum Kind("condition") {
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
    pub(super) enum Status("status of a condition") {
        True = "True",
        False = "False",
        Unknown = "Unknown",
    }
}

/// A condition, as the API of Kubernetes knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) kind: Kind,
    pub(super) status: Status,
    /// A word for programs.
    pub(super) reason: &'static str,
    /// A sentence for people; empty where nothing is to be said.
    pub(super) message: String,
}

/// Most further profiles that the condition names.
const MOST_NAMED: usize = 64;

/// The state of something that is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Finding {
    /// It was not checked yet.
    #[default]
    Unknown,
    /// It is as it should be.
    Right,
    /// It is as it should be, but for this.
    Limited(String),
    /// It was not asked for.
    NotRequested,
    /// It cannot be checked, for this reason.
    Unverified(String),
    Wrong(Explanation),
}

impl Finding {
    /// As it should be, if there are no problems.
    pub(super) fn of(wrong: Option<Explanation>) -> Self {
        wrong.map_or(Self::Right, Self::Wrong)
    }

    pub(super) fn condition(self, kind: Kind) -> Condition {
        let (status, reason, message) = match self {
            Self::Unknown => (Status::Unknown, "NotCheckedYet", String::new()),
            Self::Right => (Status::True, "AsExpected", String::new()),
            Self::Limited(what) => (Status::True, "Limited", what),
            Self::NotRequested => (Status::True, "NotRequested", String::new()),
            Self::Unverified(why) => (Status::Unknown, "Unverified", why),
            Self::Wrong(why) => (Status::False, why.reason.as_str(), why.to_string()),
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
            | Self::Right
            | Self::Limited(_)
            | Self::NotRequested
            | Self::Unverified(_) => None,
        }
    }
}

/// The latest findings about the node.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    /// The problems with what is installed; `None` before the first pass.
    pub(super) installed: Option<Vec<Explanation>>,
    pub(super) paths: Finding,
    pub(super) multus: Option<Multus>,
    pub(super) self_test: Finding,
    /// The backend that is used where the profile says Auto.
    pub(super) backend: Option<BackendPolicy>,
    pub(super) host_credential: Finding,
}

impl Agent {
    /// All current conditions.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let Findings {
            installed,
            paths,
            self_test,
            host_credential,
            ..
        } = self.findings().clone();
        let ready = self.not_ready();
        let ready = ready.map(|why| Reason::AgentUnavailable.because(why));
        let ready = ready.map(|why| Explanation {
            remedy: None,
            ..why
        });
        let program = installed.map_or(Finding::Unknown, |wrong| {
            Finding::of(wrong.into_iter().next())
        });
        [
            (Kind::Ready, Finding::of(ready)),
            (Kind::ProgramInstalled, program),
            (Kind::PathsVerified, paths),
            (Kind::SelfTestPassed, self_test),
            (Kind::ProfilesKnown, self.profiles_known()),
            (Kind::HostCredential, host_credential),
        ]
        .map(|(kind, finding)| finding.condition(kind))
        .into()
    }

    fn profiles_known(&self) -> Finding {
        if let Some(wrong) = self.profiles.wrong() {
            return Finding::Wrong(wrong);
        }
        let mut unreadable = self.profiles.unreadable().into_iter();
        let Some((first, why)) = unreadable.next() else {
            return Finding::Right;
        };
        let mut cause = format!("the last generation of MeshProfile {first} cannot be read: {why}");
        // the controller reads the names
        for (name, _) in unreadable.take(MOST_NAMED) {
            cause.push_str(&format!(
                "; that of MeshProfile {name} cannot be read either"
            ));
        }
        Finding::Wrong(Reason::NodeConfigInvalid.because(cause))
    }

    /// Tests whether this node can redirect. Repeats the test while it cannot, until it is cancelled: a kernel module may be loaded later.
    pub(super) async fn test_itself(&self) {
        loop {
            let tested = tokio::task::spawn_blocking(|| self_test(Deadline::after(TESTING))).await;
            if let Ok(Ok(lacking)) = &tested {
                self.findings().backend = lacking.automatic();
            }
            let tested = tested.unwrap_or_else(|e| Err(Reason::Internal.because(e.to_string())));
            let finding = match tested {
                Ok(lacking) => match (lacking.everything(), lacking.something()) {
                    (Some(why), _) => Finding::Wrong(why.clone()),
                    (None, Some(what)) => Finding::Limited(what),
                    (None, None) => Finding::Right,
                },
                Err(why) => Finding::Wrong(why),
            };
            let before = std::mem::replace(&mut self.findings().self_test, finding.clone());
            if let Finding::Wrong(why) = &finding {
                if before != finding {
                    let reason = why.reason.as_str();
                    warn!(reason, "this node cannot redirect: {why}");
                }
            } else {
                if let Finding::Limited(what) = &finding {
                    info!("this node can redirect, but for this: {what}");
                }
                return std::future::pending().await;
            }
            tokio::time::sleep(TEST_AGAIN).await;
        }
    }

    /// Why pods could not be decided on, or redirected.
    pub(super) fn unable(&self) -> Option<String> {
        if !self.cache.is_listed() {
            return Some("the node's pods are not listed yet".into());
        }
        let self_test = self.findings().self_test.clone();
        if self_test == Finding::Unknown {
            return Some("whether this node can redirect is being tried".into());
        }
        let wrong = self.profiles.wrong().or(self_test.wrong());
        wrong.map(|wrong| wrong.to_string())
    }
}

/// When conditions last changed their status.
#[derive(Debug, Default)]
pub(super) struct Since(std::collections::BTreeMap<Kind, (Status, Timestamp)>);

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
