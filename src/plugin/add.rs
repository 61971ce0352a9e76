use tracing::{info, warn};

use super::Failure;
use crate::{
    cni::{self, Attached, Config, Environment, PodRef},
    deadline::Deadline,
    kernel::Netns,
    mesh::{Attachment, Decision, decide, governing},
    node::{NodeConfig, profiles},
    reason::{Explanation, Reason},
    redirection::{Redirection, redirect},
    source,
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
            (redirected(&attached, pod, &attachment, &node?, deadline)?, Some(pod))
        }
    };
    let (namespace, name) = pod.map_or(("", ""), |p| (&p.namespace, &p.name));
    let micros = (deadline.whole() - deadline.left()).as_micros() as u64;
    info!(namespace, name, reason = told.reason.as_str(), micros, "{told}");
    Ok(cni::success(config.version, config.prev_result.as_deref()))
}

/// What was done and why; an error where the pod must not start.
fn redirected(
    attached: &Attached,
    pod: &PodRef,
    attachment: &Attachment,
    node: &NodeConfig,
    deadline: Deadline,
) -> Result<Explanation, Explanation> {
    let profiles = profiles(node.default_profile)?;
    let netns = Netns::open(&attached.netns)?;
    let found = source::look_up(node, pod, deadline)?;
    let profile = governing(&profiles, &found.namespace, attachment)?;
    let decided = decide(&found.pod, &found.namespace, profile, attachment);
    let warn = |warnings: &[Explanation]| {
        for warning in warnings {
            warn!(namespace = pod.namespace, name = pod.name, reason = warning.reason.as_str(), "{warning}");
        }
    };
    warn(&decided.warnings);
    match decided.decision {
        Decision::Skip(explanation) => Ok(explanation),
        Decision::Refuse(explanation) => Err(explanation),
        Decision::Redirect(intent) => {
            let redirection = Redirection { attached, pod: &found.pod, profile, intent: &intent, deadline };
            let done = redirect(&netns, &redirection)?;
            warn(&done.warnings);
            Ok(done.reason.into())
        }
    }
}
