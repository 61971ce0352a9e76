//! Whether this agent can answer plugins, and what was found about it and its node.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use jiff::Timestamp;
use tracing::{info, warn};

use super::{
    cache::Cache,
    conditions::{Condition, ConditionKind, NodeFinding, NodeFindings},
    counts::Counts,
    ownership::{Ownership, Role},
    profiles::Profiles,
    watch::{LOST, out_of_reach},
};
use crate::{
    deadline::Deadline,
    profile::{VERSION, unreadable},
    reason::{Explanation, Reason},
    redirection::self_test,
    source::wire::{Bypassing, Owner},
};

/// How long the self-test may take.
const TESTING: Duration = Duration::from_secs(20);
/// The pause before it is repeated.
const TEST_AGAIN: Duration = Duration::from_secs(15);

/// The state of the agent and its node.
pub(super) struct Health {
    pub(super) ownership: Ownership,
    /// A plugin has reported an ADD, so Multus finds the program.
    pub(super) was_called: AtomicBool,
    cache: Arc<Cache>,
    profiles: Arc<Profiles>,
    findings: Mutex<NodeFindings>,
    audited: Mutex<Audited>,
}

/// The results of an audit.
#[derive(Debug, Clone, Default)]
pub(super) struct Audited {
    pub(super) bypassing: Vec<Bypassing>,
    pub(super) counts: Counts,
    /// When it ended.
    pub(super) at: Option<Timestamp>,
}

impl Health {
    pub(super) fn new(cache: Arc<Cache>, profiles: Arc<Profiles>) -> Self {
        Self {
            ownership: Ownership::new(),
            was_called: AtomicBool::default(),
            cache,
            profiles,
            findings: Mutex::default(),
            audited: Mutex::default(),
        }
    }

    /// Why plugins cannot be answered, or would not find what they need; `None` if the agent is ready.
    pub(super) fn not_ready(&self) -> Option<String> {
        let installed = self.findings().installed.clone();
        let wrong = match (self.ownership.role(), installed) {
            // what the owner has done to the node is its own concern
            (Role::StandingBy, _) => Vec::new(),
            (Role::Owner, Some(mut found)) => {
                found.extend(self.findings().paths.clone().wrong());
                found
            }
            (Role::Owner, None) => {
                return Some("the node's files are not installed yet".into());
            }
            (Role::Starting, _) => {
                let unable = self.unable();
                return unable.or_else(|| Some("plugins cannot ask this agent yet".into()));
            }
        };
        let mut all: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        all.extend(self.unable());
        (!all.is_empty()).then(|| all.join("\n"))
    }

    /// Describes the agent to one that may take over.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            version: VERSION.into(),
            is_ready: self.not_ready().is_none(),
        }
    }

    pub(super) fn findings(&self) -> MutexGuard<'_, NodeFindings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The results of the last audit.
    pub(super) fn last_audit(&self) -> MutexGuard<'_, Audited> {
        self.audited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_audited(&self, bypassing: Vec<Bypassing>, counts: Counts) {
        *self.last_audit() = Audited {
            bypassing,
            counts,
            at: Some(Timestamp::now()),
        };
    }

    /// All current conditions.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let NodeFindings {
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
        let program = installed.map_or(NodeFinding::Unknown, |wrong| {
            NodeFinding::of(wrong.into_iter().next())
        });
        [
            (ConditionKind::Ready, NodeFinding::of(ready)),
            (ConditionKind::ProgramInstalled, program),
            (ConditionKind::PathsVerified, paths),
            (ConditionKind::SelfTestPassed, self_test),
            (ConditionKind::ProfilesKnown, self.profiles_known()),
            (ConditionKind::HostCredential, host_credential),
        ]
        .map(|(kind, finding)| finding.condition(kind))
        .into()
    }

    fn profiles_known(&self) -> NodeFinding {
        if let Some(wrong) = self.profiles.wrong() {
            return NodeFinding::Wrong(wrong);
        }
        let all = self.profiles.unreadable();
        let all = all.iter().map(|(name, why)| (name.as_str(), why.as_str()));
        NodeFinding::of(unreadable(all).map(|cause| Reason::NodeConfigInvalid.because(cause)))
    }

    /// Tests whether this node can redirect. Repeats the test while it cannot, until it is canceled: a kernel module may be loaded later.
    pub(super) async fn test_itself(&self) {
        loop {
            let tested = tokio::task::spawn_blocking(|| self_test(Deadline::after(TESTING))).await;
            if let Ok(Ok(lacking)) = &tested {
                self.findings().backend = lacking.automatic();
            }
            let tested = tested.unwrap_or_else(|e| Err(Reason::Internal.because(e.to_string())));
            let finding = match tested {
                Ok(lacking) => match (lacking.everything(), lacking.something()) {
                    (Some(why), _) => NodeFinding::Wrong(why.clone()),
                    (None, Some(what)) => NodeFinding::Limited(what),
                    (None, None) => NodeFinding::Holds,
                },
                Err(why) => NodeFinding::Wrong(why),
            };
            let before = std::mem::replace(&mut self.findings().self_test, finding.clone());
            if let NodeFinding::Wrong(why) = &finding {
                if before != finding {
                    let reason = why.reason.as_str();
                    warn!(reason, "this node cannot redirect: {why}");
                }
            } else {
                if let NodeFinding::Limited(what) = &finding {
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
        if self.cache.lost_for().is_some_and(|since| since > LOST) {
            return Some(out_of_reach("the node's pods").to_string());
        }
        let self_test = self.findings().self_test.clone();
        if self_test == NodeFinding::Unknown {
            return Some("whether this node can redirect is being tried".into());
        }
        let wrong = self.profiles.wrong().or(self_test.wrong());
        wrong.map(|wrong| wrong.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::fixtures;

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_ready_once_it_can_decide_redirect_and_be_asked() {
        let (cache, profiles) = (
            Arc::new(Cache::new()),
            fixtures::profiles(&[("p", json!({}))]),
        );
        let health = Health::new(cache.clone(), Arc::new(Profiles::of(profiles)));
        let not_ready = |why: &str| {
            let found = health.not_ready().unwrap_or_default();
            assert!(
                found.contains(why) && !health.owner().is_ready,
                "{found}, not {why}"
            );
        };
        not_ready("the node's pods are not listed yet");
        cache.list(Vec::new());
        not_ready("whether this node can redirect is being tried");
        health.findings().self_test = NodeFinding::Wrong(Reason::KernelUnsupported.into());
        not_ready("kernel lacks a required feature");
        health.findings().self_test = NodeFinding::Holds;
        not_ready("plugins cannot ask this agent yet");
        health.ownership.set(Role::Owner);
        not_ready("the node's files are not installed yet");
        let wrong = Reason::NodeConfigInvalid.because("the directory is missing");
        health.findings().installed = Some(vec![wrong]);
        not_ready("the directory is missing");
        // the node's files are the owner's concern
        health.ownership.set(Role::StandingBy);
        assert_eq!(health.not_ready(), None);
        health.ownership.set(Role::Owner);
        health.findings().installed = Some(Vec::new());
        assert_eq!(health.not_ready(), None);
        assert!(health.owner().is_ready);
        // a watch that breaks usually resumes soon
        cache.mark_broken();
        assert_eq!(health.not_ready(), None);
        tokio::time::advance(LOST * 2).await;
        cache.mark_broken();
        not_ready("the node's pods could not be followed");
        cache.mark_resumed();
        assert_eq!(health.not_ready(), None);
        let conditions = health.conditions();
        let ready = conditions.iter().find(|c| c.kind == ConditionKind::Ready);
        assert_eq!(ready.unwrap().reason, "AsExpected");
    }

    #[test]
    fn an_agent_that_does_not_know_the_profiles_is_not_ready() {
        let cache = Arc::new(Cache::new());
        cache.list(Vec::new());
        let health = Health::new(cache, Arc::new(Profiles::of(None)));
        health.findings().self_test = NodeFinding::Holds;
        let why = health.not_ready().unwrap();
        assert!(
            why.contains("does not know the cluster's MeshProfiles yet"),
            "{why}"
        );
    }
}
