use tracing::{info, warn};

use super::Failure;
use crate::{
    cni::{self, Attached, Config, Environment, PodRef},
    deadline::Deadline,
    kernel::Netns,
    mesh::{Attachment, Decision, decide},
    node::{NodeConfig, attachments, profiles},
    reason::{Explanation, Reason},
    redirection::{MOST_ATTACHMENTS, Redirection, redirect},
    source::{self, Answered, Found, Governing, wire::Report},
};

/// ADD: looks the pod up, decides, redirects. All is read and checked before anything is written.
pub(super) fn add(
    environment: &Environment,
    config: &Config,
    node: Result<NodeConfig, Explanation>,
    deadline: Deadline,
) -> Result<String, Failure> {
    let attached = Attached::parse(environment)?;
    let (told, pod) = match &attached.pod {
        None => (Reason::NotAPod.into(), None),
        Some(pod) => {
            let attachment = Attachment::parse(config.mesh_optin.as_ref().map(|m| m.get()))?;
            (
                Add {
                    attached: &attached,
                    attachment: &attachment,
                    node: &node?,
                    deadline,
                }
                .answered(pod)?,
                Some(pod),
            )
        }
    };
    let (namespace, name) = pod.map_or(("", ""), |p| (&p.namespace, &p.name));
    let micros = deadline.passed().as_micros() as u64;
    info!(
        namespace,
        name,
        reason = told.reason.as_str(),
        micros,
        "{told}"
    );
    Ok(cni::success(config.version, config.prev_result.as_deref()))
}

/// Refuses the first that is too much. Those of a pod that is not redirected leave nothing and are not counted.
fn check_attachment_limit(attached: &Attached) -> Result<(), Explanation> {
    let earlier = attachments::interfaces(&attached.container_id);
    if earlier.len() < MOST_ATTACHMENTS || earlier.contains(&attached.ifname) {
        return Ok(());
    }
    Err(Reason::TooManyAttachments.because(format!(
        "the pod's sandbox has {} attachments of type mesh-optin already",
        earlier.len()
    )))
}

/// What is known of an ADD for a pod before the pod is looked up.
struct Add<'a> {
    attached: &'a Attached,
    attachment: &'a Attachment,
    node: &'a NodeConfig,
    deadline: Deadline,
}

impl Add<'_> {
    /// What was done and why; an error where the pod must not start. Whoever answered for the pod is told.
    fn answered(&self, pod: &PodRef) -> Result<Explanation, Explanation> {
        let netns = Netns::open(&self.attached.netns)?;
        check_attachment_limit(self.attached)?;
        let answered = source::look_up(
            self.node,
            pod,
            self.attachment.profile.as_deref(),
            self.deadline,
        )?;
        let (looked_up, mut warnings) = (self.deadline.passed(), Vec::new());
        let told = self.redirected(&netns, &answered, &mut warnings);
        for warning in &warnings {
            warn!(
                namespace = pod.namespace,
                name = pod.name,
                reason = warning.reason.as_str(),
                "{warning}"
            );
        }
        if let Some(conversation) = answered.conversation {
            let outcome = told.as_ref().unwrap_or_else(|refusal| refusal).into();
            let (warnings, apply) = (
                warnings.iter().map(Into::into).collect(),
                self.deadline.passed().saturating_sub(looked_up),
            );
            let report = Report {
                outcome,
                refused: told.is_err(),
                warnings,
                look_up: looked_up,
                apply,
            };
            conversation.report(Some(&report));
        }
        told
    }

    fn redirected(
        &self,
        netns: &Netns,
        answered: &Answered,
        warnings: &mut Vec<Explanation>,
    ) -> Result<Explanation, Explanation> {
        let Found { pod, namespace } = &answered.found;
        let of_node; // where who answered knows none
        let governing = match &answered.governing {
            Some(governing) => governing,
            None => {
                let named = self.attachment.profile.as_deref();
                of_node =
                    Governing::among(profiles(self.node.default_profile), &answered.found, named);
                &of_node
            }
        };
        warnings.extend(governing.warning.clone());
        let decided = decide(pod, namespace, governing.profile.as_ref(), self.attachment);
        warnings.extend(decided.warnings);
        match decided.decision {
            Decision::Skip(explanation) => Ok(explanation),
            Decision::Refuse(explanation) => Err(explanation),
            Decision::Redirect(intent) => {
                let profile = governing.profile.as_ref().map_err(Clone::clone)?;
                let redirection = Redirection {
                    attached: self.attached,
                    pod,
                    profile,
                    intent: &intent,
                    speaks: self.attachment.speaks(),
                    deadline: self.deadline,
                };
                let done = redirect(netns, &redirection)?;
                warnings.extend(done.warnings);
                Ok(done.reason.into())
            }
        }
    }
}
