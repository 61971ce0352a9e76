use super::{
    Attachment, Container, Input, Intent, InterceptionMode, MissingSidecar, Namespace, Pod,
    Profile, ProxyIdentity, UnenrolledSidecar,
    enrolment::enrolled,
    inputs::inputs,
    layers::{Traffic, resolve},
    overrides::may_override,
    pod::{
        annotation::{INTERCEPTION_MODE, STATUS},
        env, label,
    },
};
use crate::reason::{Explanation, Reason, quote};

/// What to do with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Redirect its traffic like this.
    Redirect(Box<Intent>),
    /// Touch nothing, for this reason.
    Skip(Explanation),
    /// Fail the ADD, for this reason: the pod does not start.
    Refuse(Explanation),
}

impl Decision {
    /// The reason's code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Redirect(_) => Reason::Redirected,
            Self::Skip(e) | Self::Refuse(e) => e.reason,
        }
    }
}

/// A decision with everything that led to it.
#[derive(Debug, Clone)]
pub struct Decided {
    /// What to do.
    pub decision: Decision,
    /// What led to it, in the order in which it was looked at.
    pub inputs: Vec<Input>,
    /// What someone should know although the pod starts.
    pub warnings: Vec<Explanation>,
}

/// Decides from the namespace's enrolment and the pod's own labels, annotations and containers. The first reason that applies counts. What
/// led to it is left out: an ADD has no use for it.
pub fn decide(
    pod: &Pod,
    namespace: &Namespace,
    profile: &Profile,
    attachment: &Attachment,
) -> Decided {
    decided(pod, namespace, profile, attachment, None)
}

/// The same, with what led to it.
pub fn explain(
    pod: &Pod,
    namespace: &Namespace,
    profile: &Profile,
    attachment: &Attachment,
) -> Decided {
    let inputs = inputs(pod, namespace, profile);
    decided(pod, namespace, profile, attachment, Some(inputs))
}

fn decided(
    pod: &Pod,
    namespace: &Namespace,
    profile: &Profile,
    attachment: &Attachment,
    inputs: Option<Vec<Input>>,
) -> Decided {
    let mut case = Case {
        pod,
        namespace,
        profile,
        attachment,
        inputs,
        warnings: vec![],
    };
    let decision = match case.intent() {
        Ok(intent) => Decision::Redirect(Box::new(intent)),
        Err(Other::Skip(e)) => Decision::Skip(e),
        Err(Other::Warn(e)) => {
            case.warnings.push(e.clone());
            Decision::Skip(e)
        }
        Err(Other::Refuse(e)) => Decision::Refuse(e),
    };
    Decided {
        decision,
        inputs: case.inputs.unwrap_or_default(),
        warnings: case.warnings,
    }
}

/// Why there is no Intent.
enum Other {
    Skip(Explanation),
    /// Skip, and warn of it.
    Warn(Explanation),
    Refuse(Explanation),
}

struct Case<'a> {
    pod: &'a Pod,
    namespace: &'a Namespace,
    profile: &'a Profile,
    attachment: &'a Attachment,
    /// Where they are wanted.
    inputs: Option<Vec<Input>>,
    warnings: Vec<Explanation>,
}

impl<'a> Case<'a> {
    fn intent(&mut self) -> Result<Intent, Other> {
        self.out_of_scope()?;
        let proxy = self.sidecar()?;
        self.enrolment()?;
        let built_for = proxy
            .env(env::INTERCEPTION_MODE)
            .filter(|built| !built.is_empty());
        let said = self.pod.annotation(INTERCEPTION_MODE);
        if said == Some("NONE") && built_for.is_none_or(|built| built == "NONE") {
            return Err(Other::Skip(Reason::InterceptionNone.into()));
        }
        may_override(self.pod, self.attachment, &self.profile.spec).map_err(Other::Refuse)?;
        let mode = interception_mode(said, built_for)?;
        let traffic = resolve(
            self.pod,
            self.attachment,
            &self.profile.spec,
            self.inputs.is_some(),
        )
        .map_err(Other::Refuse)?;
        let identity = self.identity(proxy)?;
        Ok(self.assemble(proxy, mode, identity, traffic))
    }

    /// What is true of the pod before its sidecar is looked at.
    fn out_of_scope(&self) -> Result<(), Other> {
        let (pod, namespace) = (self.pod, &self.namespace.metadata.name);
        if self.profile.spec.excluded_namespaces.contains(namespace) {
            let cause = format!(
                "profile {} excludes namespace {namespace}",
                self.profile.name
            );
            return Err(Other::Skip(Reason::NamespaceExcluded.because(cause)));
        }
        if pod.spec.host_network {
            return Err(Other::Skip(Reason::HostNetwork.into()));
        }
        if pod.containers().any(|c| c.name == "istio-init") {
            return Err(Other::Skip(Reason::InitContainerRedirects.into()));
        }
        if pod.inject() == Some("false") {
            let word = if pod.label(label::INJECT).is_some() {
                "label"
            } else {
                "annotation"
            };
            return Err(Other::Skip(Reason::OptedOut.because(format!(
                "the pod's {word} sidecar.istio.io/inject is false"
            ))));
        }
        Ok(())
    }

    /// The sidecar, if the pod has one that was injected and redirects.
    fn sidecar(&self) -> Result<&'a Container, Other> {
        let Some(proxy) = self.pod.proxy() else {
            return Err(self.without_proxy());
        };
        if proxy.env_flag(env::DISABLE_ENVOY) {
            return Err(Other::Skip(Reason::ProxyDisabled.into()));
        }
        if let Some(kind) = proxy.proxy_type().filter(|kind| *kind != "sidecar") {
            return Err(Other::Skip(Reason::NotASidecarProxy.because(format!(
                "istio-proxy runs as {}, not as a sidecar",
                quote(kind)
            ))));
        }
        if self.pod.annotation(STATUS).is_none() {
            let cause = format!("the pod has a container istio-proxy but no annotation {STATUS}");
            return Err(Other::Warn(Reason::NotInjected.because(cause)));
        }
        Ok(proxy)
    }

    fn without_proxy(&self) -> Other {
        let name = &self.namespace.metadata.name;
        if self.pod.annotation(STATUS).is_some() {
            return Other::Skip(Reason::NoSidecar.into());
        }
        if !self.is_enrolled() {
            return Other::Skip(Reason::NotEnrolled.because(format!(
                "neither namespace {name} nor the pod is enrolled in the mesh"
            )));
        }
        if !self.pod.asks_for_sidecar() {
            return Other::Warn(Reason::SidecarMissing.because(format!(
                "namespace {name} is enrolled but the pod has no container istio-proxy"
            )));
        }
        let missing = Reason::SidecarMissing
            .because("the pod's labels ask for a sidecar but it has no container istio-proxy");
        match self.profile.spec.enrolment.missing_sidecar {
            MissingSidecar::Refuse => Other::Refuse(missing),
            MissingSidecar::Warn => Other::Warn(missing),
        }
    }

    fn is_enrolled(&self) -> bool {
        enrolled(&self.profile.spec.enrolment, self.namespace, self.pod)
    }

    /// Whether a pod with a sidecar may have it.
    fn enrolment(&mut self) -> Result<(), Other> {
        if !self.is_enrolled() {
            let name = &self.namespace.metadata.name;
            let unenrolled = Reason::UnenrolledSidecar.because(format!(
                "the pod has a sidecar but neither namespace {name} nor the pod is enrolled"
            ));
            match self.profile.spec.enrolment.unenrolled_sidecar {
                UnenrolledSidecar::Refuse if !self.pod.has_run() => {
                    return Err(Other::Refuse(unenrolled));
                }
                UnenrolledSidecar::Refuse | UnenrolledSidecar::Redirect => {
                    self.warnings.push(unenrolled)
                }
            }
        }
        let (revisions, revision) = (&self.profile.spec.revisions, self.pod.revision());
        if !revisions.is_empty() && !revisions.iter().any(|r| r == revision) {
            let cause = format!(
                "the sidecar is of revision {}, profile {} allows {}",
                quote(revision),
                self.profile.name,
                revisions.join(", ")
            );
            return Err(Other::Refuse(Reason::RevisionMismatch.because(cause)));
        }
        Ok(())
    }

    /// Whose connections are the sidecar's own. Uid 0 is never exempt, so 0 counts as not said, as in Istio.
    fn identity(&self, proxy: &Container) -> Result<ProxyIdentity, Other> {
        let redirect = &self.profile.spec.redirect;
        let id = |field, said: Option<i64>, otherwise| match said.filter(|id| *id != 0) {
            None => Ok(otherwise),
            Some(id) => u32::try_from(id).map_err(|_out_of_range| {
                Other::Refuse(
                    Reason::InvalidAnnotation
                        .because(format!(
                            "istio-proxy securityContext.{field}: {id} is no id"
                        ))
                        .remedy("correct the container"),
                )
            }),
        };
        Ok(ProxyIdentity {
            uid: id(
                "runAsUser",
                proxy.security_context.run_as_user,
                redirect.proxy_uid,
            )?,
            gid: id(
                "runAsGroup",
                proxy.security_context.run_as_group,
                redirect.proxy_gid,
            )?,
        })
    }

    fn assemble(
        &mut self,
        proxy: &Container,
        mode: InterceptionMode,
        identity: ProxyIdentity,
        traffic: Traffic,
    ) -> Intent {
        if let Some(inputs) = &mut self.inputs {
            inputs.extend(traffic.inputs);
        }
        let redirect = &self.profile.spec.redirect;
        Intent {
            mode,
            proxy: identity,
            ports: redirect.ports,
            inbound: traffic.inbound,
            outbound: traffic.outbound,
            exclude_interfaces: traffic.exclude_interfaces,
            reroute_interfaces: traffic.reroute_interfaces,
            dns_capture: proxy.env_flag(env::DNS_CAPTURE),
            drop_invalid: proxy.env_flag(env::INVALID_DROP),
            dual_stack: proxy.env_flag(env::DUAL_STACK),
            interfaces: redirect.interfaces,
            ip_families: redirect.ip_families,
            backend: redirect.backend,
        }
    }
}

/// The mode that the pod says, which must be the one that its sidecar was built for: a `NONE` that was added later is doubt, not a skip.
fn interception_mode(
    said: Option<&str>,
    built_for: Option<&str>,
) -> Result<InterceptionMode, Other> {
    let invalid = |cause| Other::Refuse(Reason::InvalidAnnotation.because(cause));
    let mode = said.unwrap_or("REDIRECT");
    if let Some(built) = built_for.filter(|built| *built != mode) {
        let said = said.map_or_else(|| "absent".into(), quote);
        return Err(invalid(format!(
            "annotation {INTERCEPTION_MODE} is {said}, but the sidecar was built for {}",
            quote(built)
        )));
    }
    match mode {
        "REDIRECT" => Ok(InterceptionMode::Redirect),
        "TPROXY" => Ok(InterceptionMode::Tproxy),
        other => Err(invalid(format!(
            "annotation {INTERCEPTION_MODE}: {} is not REDIRECT, TPROXY or NONE",
            quote(other)
        ))),
    }
}
