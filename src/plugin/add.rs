use tracing::info;

use super::{CallFailure, course::Course, memory};
use crate::{
    cni::{self, Attached, Config, Environment, PodRef, RequestError},
    deadline::Deadline,
    kernel::Netns,
    mesh::{Attachment, Decision, MOST_ATTACHMENTS, decide},
    node::{NodeConfig, attachments, profiles},
    reason::{Explanation, Reason},
    redirection::{Redirection, redirect},
    source::{self, FoundPod, Governing},
};

/// ADD: looks up the pod, decides, redirects. Everything is read and checked before anything is written. The outcome is reported to the agent.
pub(super) fn add(
    environment: &Environment,
    config: Result<Config, RequestError>,
    node: Result<NodeConfig, Explanation>,
    deadline: Deadline,
) -> Result<String, CallFailure> {
    let mut course = Course::new(deadline);
    let done = attach(environment, config, node, &mut course);
    course.report(match &done {
        Ok((explanation, _)) => Ok(explanation),
        Err(failure) => Err(&failure.explanation),
    });
    let (explanation, config) = done?;
    let (namespace, name) = course.pod();
    let micros = deadline.elapsed().as_micros() as u64;
    info!(
        namespace,
        name,
        reason = explanation.reason.as_str(),
        micros,
        "{explanation}"
    );
    Ok(cni::success(config.version, config.prev_result.as_deref()))
}

/// Carries out an ADD. Returns what was done and why, with the configuration to answer by; an error if the pod must not start.
fn attach(
    environment: &Environment,
    config: Result<Config, RequestError>,
    node: Result<NodeConfig, Explanation>,
    course: &mut Course,
) -> Result<(Explanation, Config), CallFailure> {
    let attached = Attached::parse(environment)?;
    course.pod.clone_from(&attached.pod);
    let config = config?;
    let Some(pod) = &attached.pod else {
        return Ok((Reason::NotAPod.into(), config));
    };
    let attachment = Attachment::parse(config.mesh_optin.as_ref().map(|m| m.get()))?;
    let add = Add {
        attached: &attached,
        attachment: &attachment,
        node: &node?,
    };
    let explanation = add.look_up_and_apply(pod, course)?;
    Ok((explanation, config))
}

/// Refuses an attachment beyond the limit. Those of a pod that is not redirected leave no record and are not counted.
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

/// What is known about an ADD before the pod is looked up.
struct Add<'a> {
    attached: &'a Attached,
    attachment: &'a Attachment,
    node: &'a NodeConfig,
}

impl Add<'_> {
    fn look_up_and_apply(
        &self,
        pod: &PodRef,
        course: &mut Course,
    ) -> Result<Explanation, Explanation> {
        let netns = Netns::open(&self.attached.netns)?;
        check_attachment_limit(self.attached)?;
        let named = self.attachment.profile.as_deref();
        let answered = source::look_up(self.node, pod, named, course.deadline)?;
        course.note_source(answered.source, answered.conversation);
        self.apply(&netns, &answered.found, answered.governing, course)
    }

    fn apply(
        &self,
        netns: &Netns,
        found: &FoundPod,
        governing: Option<Governing>,
        course: &mut Course,
    ) -> Result<Explanation, Explanation> {
        let FoundPod { pod, namespace } = found;
        // if the source knows no profile, the node's
        let Governing { profile, warning } = governing.unwrap_or_else(|| {
            let named = self.attachment.profile.as_deref();
            Governing::choose(profiles(self.node.default_profile), found, named)
        });
        course.warnings.extend(warning);
        let decided = decide(pod, namespace, profile.as_ref(), self.attachment);
        course.profile = profile.as_ref().map_or("", |p| &p.name).to_owned();
        course.warnings.extend(decided.warnings);
        match decided.decision {
            Decision::Skip(explanation) => Ok(explanation),
            Decision::Refuse(explanation) => Err(explanation),
            Decision::Redirect(intent) => {
                let redirection = Redirection {
                    attached: self.attached,
                    pod,
                    profile: &profile?,
                    intent: &intent,
                    speaks: self.attachment.speaks(),
                    deadline: course.deadline,
                };
                memory::prepare_redirection();
                let done = redirect(netns, &redirection)?;
                course.warnings.extend(done.warnings);
                Ok(done.reason.into())
            }
        }
    }
}
