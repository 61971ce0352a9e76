//! The user and group of the sidecar, whose connections are not redirected.

use super::{Container, Pod, ProxyIdentity, SecurityContext};
use crate::{
    profile::Redirect,
    reason::{Explanation, Reason},
};

/// What Istio's injector adds beside the sidecar: it runs as the same user, and ends before any other container starts.
const VALIDATION: &str = "istio-validation";

/// The user and group of the sidecar: its container's, else the pod's, else the profile's. Uid 0 is never exempt, so 0 counts as unset, as in
/// Istio.
pub(super) fn identity(
    pod: &Pod,
    proxy: &Container,
    redirect: &Redirect,
) -> Result<ProxyIdentity, Explanation> {
    let id = |field, said: Option<i64>, otherwise| match said.filter(|id| *id != 0) {
        None => Ok(otherwise),
        Some(id) => u32::try_from(id).map_err(|_out_of_range| {
            let cause = format!("istio-proxy securityContext.{field}: {id} is not an id");
            Reason::InvalidAnnotation
                .because(cause)
                .remedy("correct the container")
        }),
    };
    let (user, group) = runs_as(pod, proxy);
    Ok(ProxyIdentity {
        uid: id("runAsUser", user, redirect.proxy_uid)?,
        gid: id("runAsGroup", group, redirect.proxy_gid)?,
    })
}

/// A container other than the sidecar that runs as its user or group, as far as the pod shows: its connections are not redirected either.
pub(super) fn sharing(pod: &Pod, identity: ProxyIdentity) -> Option<Explanation> {
    let ends_before = |c: &Container| c.name == VALIDATION && c.restart_policy != "Always";
    let init = pod.spec.init_containers.iter().filter(|c| !ends_before(c));
    let others = init
        .chain(&pod.spec.containers)
        .filter(|c| c.name != "istio-proxy");
    let shared = |c: &Container| {
        let (user, group) = runs_as(pod, c);
        let what = if user == Some(identity.uid.into()) {
            format!("user {}", identity.uid)
        } else if group == Some(identity.gid.into()) {
            format!("group {}", identity.gid)
        } else {
            return None;
        };
        Some(Reason::ProxyIdentityShared.because(format!(
            "container {} runs as the sidecar's {what}: its outbound connections are left alone",
            c.name
        )))
    };
    others.filter_map(shared).next()
}

/// The user and group that a container runs as, as far as the pod shows.
fn runs_as(pod: &Pod, container: &Container) -> (Option<i64>, Option<i64>) {
    let of = |field: fn(&SecurityContext) -> Option<i64>| {
        field(&container.security_context).or_else(|| field(&pod.spec.security_context))
    };
    (of(|c| c.run_as_user), of(|c| c.run_as_group))
}
