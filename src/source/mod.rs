//! The sources of pods: agent, API server, manifests.

mod agent;
mod api;
pub mod manifests;
pub mod wire;

use std::path::Path;

use crate::{
    cni::PodRef,
    deadline::Deadline,
    mesh::{Namespace, Pod, governing},
    node::{NodeConfig, SourceKind, list, paths},
    profile::Profile,
    reason::{Explanation, Reason},
};

pub use self::agent::{Conversation, bypassing, last_outcome, listens as agent_listens, tell};
pub(crate) use self::{
    agent::connect,
    api::{get_both, runtime_handler},
};

/// A pod and its namespace.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct FoundPod {
    pub pod: Pod,
    pub namespace: Namespace,
}

/// Why a source does not tell of a pod.
#[derive(Debug)]
enum NoAnswer {
    /// This node has no such source.
    Absent(Explanation),
    /// It cannot be asked, or does not know: another source may.
    Away(Explanation),
    /// It knows why not.
    Refused(Explanation),
}

impl From<Explanation> for NoAnswer {
    fn from(why: Explanation) -> Self {
        Self::Refused(why)
    }
}

/// What governs a pod.
#[derive(Debug)]
pub struct Governing {
    /// The profile, or why there is none.
    pub profile: Result<Profile, Explanation>,
    /// What was passed over to find one for a pod that has run.
    pub warning: Option<Explanation>,
}

impl Governing {
    /// Among these profiles, for an attachment that may name one.
    pub fn choose(
        profiles: Result<Vec<Profile>, Explanation>,
        found: &FoundPod,
        named: Option<&str>,
    ) -> Self {
        let FoundPod { pod, namespace } = found;
        let chosen = profiles.and_then(|profiles| {
            let (profile, warning) = governing(&profiles, namespace, pod, named)?;
            Ok((profile.clone(), warning))
        });
        match chosen {
            Ok((profile, warning)) => Self {
                profile: Ok(profile),
                warning,
            },
            Err(why) => Self {
                profile: Err(why),
                warning: None,
            },
        }
    }
}

/// A look-up's answer.
pub struct Answered {
    /// The pod and its namespace.
    pub found: FoundPod,
    /// What governs it, where whoever answered knows that.
    pub governing: Option<Governing>,
    /// Who answered.
    pub source: SourceKind,
    /// With whom to speak of what comes of it.
    pub conversation: Option<Conversation>,
}

/// Asks the node's sources in order, for a pod whose attachment may name a profile. The next one is asked only where one is away, never
/// where one has answered; each but the last has half of the time that is left.
pub fn look_up(
    config: &NodeConfig,
    pod: &PodRef,
    profile: Option<&str>,
    deadline: Deadline,
) -> Result<Answered, Explanation> {
    let mut away = None;
    for (at, kind) in config.sources.iter().enumerate() {
        let is_last = !config.sources[at + 1..].iter().any(|next| next.is_there());
        match ask(*kind, config, pod, profile, deadline, is_last) {
            Ok(answered) => {
                return is_the_one(&answered.found, pod, config).map(|()| answered);
            }
            // that a source does not exist says less than that one failed
            Err(NoAnswer::Absent(why)) => away = away.or(Some(why)),
            Err(NoAnswer::Away(why)) => away = Some(why),
            Err(NoAnswer::Refused(why)) => return Err(why),
        }
    }
    Err(away.unwrap_or_else(|| Reason::NoSource.into()))
}

/// Whether any source could answer at all; what STATUS tells.
pub fn any_available(config: &NodeConfig) -> Result<(), Explanation> {
    for kind in &config.sources {
        let available = match kind {
            SourceKind::Agent => agent::listens(),
            SourceKind::Api => api::Api::credential()?.is_some(),
            SourceKind::Manifests => match &config.manifests {
                Some(directory) => {
                    list(directory, &manifests::EXTENSIONS).map(|_| directory.is_dir())?
                }
                None => false,
            },
        };
        if available {
            return Ok(());
        }
    }
    Err(Reason::NoSource.into())
}

fn ask(
    kind: SourceKind,
    config: &NodeConfig,
    pod: &PodRef,
    profile: Option<&str>,
    deadline: Deadline,
    is_last: bool,
) -> Result<Answered, NoAnswer> {
    let within = if is_last { deadline } else { deadline.half() };
    let found = match kind {
        SourceKind::Agent => {
            let agent::AgentAnswer {
                found,
                governing,
                conversation,
            } = agent::look_up(pod, profile, deadline, is_last)?;
            return Ok(Answered {
                found,
                governing: Some(governing),
                source: kind,
                conversation: Some(conversation),
            });
        }
        SourceKind::Api => match api::Api::credential()? {
            Some(credential) => api::Api::new(credential).look_up(pod, within)?,
            None => return Err(NoAnswer::Absent(Reason::NoSource.because(NOBODY))),
        },
        SourceKind::Manifests => match &config.manifests {
            Some(directory) => manifests::Directory::new(directory).look_up(pod)?,
            None => return Err(NoAnswer::Absent(Reason::NoSource.into())),
        },
    };
    Ok(Answered {
        found,
        governing: None,
        source: kind,
        conversation: None,
    })
}

impl SourceKind {
    /// Whether it is worth asking, at no cost.
    fn is_there(self) -> bool {
        match self {
            Self::Agent | Self::Manifests => true,
            Self::Api => Path::new(paths::API).exists(),
        }
    }
}

/// Neither of the usual sources was ever installed.
const NOBODY: &str =
    "there is neither a node agent nor an API credential in /var/lib/mesh-optin/api";

/// The runtime's UID must be the pod's: names are used again. So must be the node, where ours is known.
fn is_the_one(found: &FoundPod, asked: &PodRef, config: &NodeConfig) -> Result<(), Explanation> {
    let PodRef {
        namespace,
        name,
        uid,
    } = asked;
    if let Some(uid) = uid.as_deref().filter(|uid| !found.pod.is_incarnation(uid)) {
        let cause = format!(
            "pod {namespace}/{name} has UID {}, the runtime asks for {uid}",
            found.pod.metadata.uid
        );
        return Err(Reason::PodUidMismatch.because(cause));
    }
    if let Some(node) = config
        .node_name
        .as_deref()
        .filter(|node| *node != found.pod.spec.node_name)
    {
        return Err(Reason::WrongNode.because(format!(
            "pod {namespace}/{name} is bound to node {:?}, this is {node:?}",
            found.pod.spec.node_name
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_another_uid_or_another_node_is_refused() {
        let mut pod = Pod::default();
        pod.metadata.uid = "new".into();
        pod.spec.node_name = "n1".into();
        let found = FoundPod {
            pod,
            namespace: Namespace::default(),
        };
        let asked = |uid: Option<&str>| PodRef {
            namespace: "a".into(),
            name: "b".into(),
            uid: uid.map(Into::into),
        };
        let check = |uid, node: Option<&str>| {
            let config = NodeConfig {
                node_name: node.map(Into::into),
                ..NodeConfig::default()
            };
            is_the_one(&found, &asked(uid), &config).map_err(|e| e.reason)
        };
        assert_eq!(check(Some("new"), Some("n1")), Ok(()));
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some("old"), None), Err(Reason::PodUidMismatch));
        assert_eq!(check(Some("new"), Some("n2")), Err(Reason::WrongNode));
    }
}
