//! Decisions that need no profile, so that a missing or broken one never stops a gateway, or a pod that opts out.

use super::{
    Namespace, Pod,
    decision::{NoIntent, SoFar, not_enrolled},
    enrollment::{is_enrolled, is_namespace_enrolled},
    pod::{annotation::STATUS, env, label},
};
use crate::profile::{Enrollment, Profile};
use crate::reason::{Explanation, Reason};

/// Whether the pod is one that may have to be redirected. Where the profile forbids its namespace's pods to stay out of the mesh, those that
/// do are refused.
pub(super) fn out_of_scope(
    pod: &Pod,
    namespace: &Namespace,
    profile: Option<&Profile>,
    so_far: &mut SoFar,
) -> Result<(), NoIntent> {
    if let Some(skip) = own_reason_to_skip(pod) {
        return Err(so_far.skip(skip, pod, namespace, profile));
    }
    if pod.proxy().is_some() {
        return Ok(());
    }
    if pod.annotation(STATUS).is_some() {
        return Err(NoIntent::Skip(Reason::NoSidecar.into()));
    }
    let by_labels = is_enrolled(&Enrollment::default(), namespace, pod);
    let by_profile = profile.is_some_and(|p| is_enrolled(&p.spec.enrollment, namespace, pod));
    if !by_labels && !by_profile {
        return Err(NoIntent::Skip(not_enrolled(&namespace.metadata.name)));
    }
    Ok(())
}

/// Why the pod stays out of the mesh, where it says so.
fn own_reason_to_skip(pod: &Pod) -> Option<Explanation> {
    if pod.spec.host_network {
        return Some(Reason::HostNetwork.into());
    }
    let redirects = |name: &str, may: bool| name == "istio-init" && may;
    if pod
        .spec
        .init_containers
        .iter()
        .any(|c| redirects(&c.name, c.may_redirect()))
    {
        return Some(Reason::InitContainerRedirects.into());
    }
    if let Some(proxy) = pod.proxy() {
        if let Some(other) = proxy.other_proxy() {
            let cause = format!("istio-proxy runs as {other}, not as a sidecar");
            return Some(Reason::NotASidecarProxy.because(cause));
        }
        if proxy.env_flag(env::DISABLE_ENVOY) {
            return Some(Reason::ProxyDisabled.into());
        }
    }
    let is_built = pod
        .proxy()
        .is_some_and(|proxy| proxy.is_built_to_redirect());
    if pod.inject() == Some("false") && !is_built {
        let word = if pod.label(label::INJECT).is_some() {
            "label"
        } else {
            "annotation"
        };
        return Some(
            Reason::OptedOut.because(format!("the pod's {word} sidecar.istio.io/inject is false")),
        );
    }
    None
}

/// Whether a profile takes a pod of the namespace for one of the mesh, unless that opts out.
pub(crate) fn expects(profile: &Profile, namespace: &Namespace, pod: &Pod) -> bool {
    let spec = &profile.spec;
    !spec.suspended
        && !spec.excludes(&namespace.metadata.name)
        && is_namespace_enrolled(&spec.enrollment, namespace)
        && !pod.is_gateway()
}

impl SoFar {
    /// Leaves a pod alone that stays out of the mesh by its own word, where the profile lets it.
    pub(super) fn skip(
        &mut self,
        skip: Explanation,
        pod: &Pod,
        namespace: &Namespace,
        profile: Option<&Profile>,
    ) -> NoIntent {
        let forbids = |profile: &&Profile| {
            !profile.spec.tenants.may_opt_out && expects(profile, namespace, pod)
        };
        match profile.filter(forbids) {
            None => NoIntent::Skip(skip),
            Some(profile) => {
                let cause = format!(
                    "MeshProfile {} does not allow pods to opt out: {}",
                    profile.name, skip.cause
                );
                self.refuse_to_skip(Reason::OptOutNotAllowed.because(cause), skip)
            }
        }
    }
}
