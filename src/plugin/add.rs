use std::time::Instant;

use tracing::{info, warn};

use super::{
    Failure, log_to_stderr,
    redirect::{self, Redirection},
};
use crate::{
    cni::{self, Attached, Config, Environment},
    deadline::Deadline,
    kernel::Netns,
    mesh::{Attachment, Decision, decide, governing},
    node::{NodeConfig, profiles},
    reason::{Explanation, Reason},
    source,
};

/// ADD: looks the pod up, decides, redirects. All is read and checked before anything is written.
pub(super) fn add(environment: &Environment, config: &Config) -> Result<String, Failure> {
    let attached = Attached::parse(environment)?;
    let success = || cni::success(config.version, config.prev_result.as_deref());
    let Some(pod) = &attached.pod else { return Ok(success()) }; // NotAPod
    let started = Instant::now();
    let outcome = redirected(&attached, config);
    let (namespace, name, micros) = (&pod.namespace, &pod.name, started.elapsed().as_micros() as u64);
    match &outcome {
        Ok(told) => info!(namespace, name, reason = told.reason.as_str(), micros, "{told}"),
        Err(told) => tracing::error!(namespace, name, reason = told.reason.as_str(), micros, "{told}"),
    }
    outcome.map(|_| success()).map_err(Failure::from)
}

/// What was done and why; an error where the pod must not start.
fn redirected(attached: &Attached, config: &Config) -> Result<Explanation, Explanation> {
    let Some(pod) = &attached.pod else { return Ok(Reason::NotAPod.into()) };
    let attachment = Attachment::parse(config.mesh_optin.as_ref().map(|m| m.get()))?;
    let node = NodeConfig::load()?;
    log_to_stderr(node.log_level);
    let deadline = Deadline::after(node.deadline);
    let profiles = profiles(node.default_profile)?;
    let netns = Netns::open(&attached.netns)?;
    let found = source::look_up(&node, pod, deadline)?;
    let profile = governing(&profiles, &found.namespace, &attachment)?;
    let decided = decide(&found.pod, &found.namespace, profile, &attachment);
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
            let done = redirect::redirect(&netns, &redirection)?;
            warn(&done.warnings);
            Ok(done.reason.into())
        }
    }
}
