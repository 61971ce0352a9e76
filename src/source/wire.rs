//! The protocol between plugin and node agent: one JSON line each way for a question, and one more for the outcome.
//!
//! Agent and plugin have different versions while one of them is being upgraded. `tests/pure/compat` pins what a line may hold: a new
//! field needs a default that means what was before it, and any change raises [`VERSION`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{FoundPod, Governing};
use crate::{
    cni::PodRef,
    mesh::{Namespace, Pod},
    node::SourceKind,
    profile::{Profile, ProfileOrigin},
    reason::{Explanation, Reason},
};

/// The version that is spoken; the one before it is understood as well.
pub const VERSION: u32 = 2;
/// The first version in which a pod comes with all that decides: earlier ones leave out runtime classes, security contexts other than the
/// sidecar's, and when containers started.
pub const WHOLE_PODS: u32 = 2;
/// The first version in which the plugin tells how every ADD ended. Earlier ones tell it only where the agent gave them a pod.
pub const TELLS_ALL: u32 = 2;
/// Longest line to the agent, in bytes.
pub const LONGEST_QUESTION: usize = 16 << 10;
/// Longest line from the agent, in bytes: the API server takes no larger object.
pub const LONGEST_ANSWER: usize = 4 << 20;

/// The version before this one, which is spoken to programs that are not upgraded yet.
pub const BEFORE: u32 = VERSION - 1;

/// Whether a version is one that we speak.
pub fn is_spoken(version: u32) -> bool {
    (BEFORE..=VERSION).contains(&version)
}

/// A line to the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The wire version of this line.
    pub version: u32,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// For a pod; a report follows.
    LookUp(LookUp),
    /// For the pods of this node that should be redirected and are not.
    Bypassing {},
    /// For what the agent is: asked by one that may take its place.
    Owner {},
    /// For how the last ADDs of a pod ended, by its UID.
    Decided {
        /// In the API.
        uid: String,
    },
    /// Nothing: what came of an ADD that no look-up's report tells of. While the agent is away, the line is kept in a file.
    Report(Box<Outcome>),
}

/// For which pod, under which profile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct LookUp {
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The one that the attachment names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How long whoever asks will wait.
    pub millis: u64,
}

/// A line from the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The wire version of this line.
    pub version: u32,
    /// What is answered.
    pub reply: Reply,
}

/// What can be answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The pod, and what governs it.
    Found(Box<Governed>),
    /// Why there is no answer.
    Refused(WireExplanation),
    /// Pods that should be redirected and are not.
    Bypassing(Vec<Bypassing>),
    /// What the agent is.
    Owner(Owner),
    /// The outcome was heard.
    Heard {},
    /// How ADDs of a pod ended, the last one last; those that are remembered.
    Decided(Vec<Outcome>),
}

/// A pod with its namespace and the profile that governs it, or why none does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Governed {
    /// The pod.
    pub pod: Pod,
    /// Its namespace.
    pub namespace: Namespace,
    /// The profile. Version 1 has no answer without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<WireProfile>,
    /// Why there is none; or what was passed over to find one for a pod that has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<WireExplanation>,
}

/// A profile as it was written, and where; without an object it is the built-in one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WireProfile {
    pub origin: ProfileOrigin,
    pub object: Option<Box<RawValue>>,
}

/// An [`Explanation`] on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WireExplanation {
    pub reason: String,
    pub cause: String,
    pub remedy: Option<String>,
}

/// A pod that should be redirected and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Bypassing {
    pub namespace: String,
    pub name: String,
    pub netns: std::path::PathBuf,
}

/// The agent that owns the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct Owner {
    pub version: String,
    pub is_ready: bool,
}

/// What came of an ADD that the agent has not answered for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// When it ended.
    pub at: Timestamp,
    /// The pod as the runtime named it; empty where it named none.
    pub namespace: String,
    /// Likewise.
    pub name: String,
    /// Its UID, where the runtime gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Who has answered for the pod; `None` where nobody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceKind>,
    /// What came of it.
    pub report: Report,
}

/// What came of a look-up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was done, or why nothing was.
    pub outcome: WireExplanation,
    /// The pod does not start.
    pub refused: bool,
    /// What someone should know.
    pub warnings: Vec<WireExplanation>,
    /// The name of the profile that decided; empty where none did.
    #[serde(default)]
    pub profile: String,
    /// From the start of the call to the answer of the look-up.
    pub look_up: Duration,
    /// From there to the end.
    pub apply: Duration,
}

// === impl ===

impl Question {
    /// In our version.
    pub fn new(ask: Ask) -> Self {
        Self {
            version: VERSION,
            ask,
        }
    }
}

impl LookUp {
    /// The pod, as the runtime names it.
    pub fn pod(&self) -> PodRef {
        PodRef {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

impl Governed {
    /// What was found, or what cannot be read of it.
    pub(super) fn into_found(self) -> Result<(FoundPod, Governing), String> {
        let Self {
            pod,
            namespace,
            profile,
            trouble,
        } = self;
        let trouble = trouble.map(Explanation::from);
        let governing = match (profile, trouble) {
            (Some(profile), warning) => {
                let unread = |e| format!("its profile cannot be read: {e}");
                let profile = Ok(profile.profile().map_err(unread)?);
                Governing { profile, warning }
            }
            (None, Some(why)) => Governing {
                profile: Err(why),
                warning: None,
            },
            (None, None) => return Err("it names no profile".into()),
        };
        Ok((FoundPod { pod, namespace }, governing))
    }
}

impl WireProfile {
    /// Reads it.
    pub fn profile(&self) -> Result<Profile, String> {
        match &self.object {
            None => Ok(Profile::built_in()),
            Some(object) => Profile::from_json(object.get(), self.origin.clone()),
        }
    }
}

impl From<&Explanation> for WireExplanation {
    fn from(explanation: &Explanation) -> Self {
        /// More of a text is never shown, in characters.
        const SHOWN: usize = 500;
        let shown = |text: &str| text.chars().take(SHOWN).collect();
        let Explanation {
            reason,
            cause,
            remedy,
        } = explanation;
        Self {
            reason: reason.to_string(),
            cause: shown(cause),
            remedy: remedy.as_deref().map(shown),
        }
    }
}

impl From<WireExplanation> for Explanation {
    fn from(refusal: WireExplanation) -> Self {
        match refusal.reason.parse::<Reason>() {
            Ok(reason) => Self {
                reason,
                cause: refusal.cause,
                remedy: refusal.remedy.map(Into::into),
            },
            // of an agent that is newer than we are
            Err(_) => {
                Reason::AgentUnavailable.because(format!("{}: {}", refusal.reason, refusal.cause))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_arrives_as_it_was_sent_and_an_unknown_one_is_an_absent_agent() {
        for reason in Reason::ALL {
            let sent = reason.because("this");
            assert_eq!(Explanation::from(WireExplanation::from(&sent)), sent);
        }
        let newer = WireExplanation {
            reason: "FromTheFuture".into(),
            cause: "that".into(),
            remedy: None,
        };
        let read = Explanation::from(newer);
        assert_eq!(
            (read.reason, read.cause.as_str()),
            (Reason::AgentUnavailable, "FromTheFuture: that")
        );
    }

    #[test]
    fn this_version_and_the_one_before_are_spoken() {
        assert!(is_spoken(VERSION) && is_spoken(BEFORE));
        assert!(!is_spoken(VERSION + 1) && !is_spoken(BEFORE - 1));
        let look_up = LookUp {
            namespace: "a".into(),
            name: "b".into(),
            uid: None,
            profile: None,
            millis: 5,
        };
        let line = serde_json::to_string(&Question::new(Ask::LookUp(look_up))).unwrap();
        assert_eq!(
            line,
            r#"{"version":2,"ask":{"lookUp":{"namespace":"a","name":"b","millis":5}}}"#
        );
        assert_eq!(
            serde_json::to_string(&Question::new(Ask::Bypassing {})).unwrap(),
            r#"{"version":2,"ask":{"bypassing":{}}}"#
        );
    }

    #[test]
    fn profiles_arrive_as_they_were_written() {
        let object = r#"{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{"name":"p"},"spec":{"revisions":["r"]}}"#;
        let sent = WireProfile {
            origin: ProfileOrigin::File("/p.yaml".into()),
            object: Some(RawValue::from_string(object.into()).unwrap()),
        };
        let read: WireProfile =
            serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        let profile = read.profile().unwrap();
        assert_eq!(
            (
                profile.name.as_str(),
                profile.spec.revisions[0].as_str(),
                profile.origin
            ),
            ("p", "r", sent.origin)
        );
    }
}
