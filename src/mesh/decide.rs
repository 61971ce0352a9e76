use super::{
    Attachment, Container, Input, Intent, InterceptionMode, Namespace, Pod, ProxyIdentity,
    decision::{Decided, Decision, NoIntent, SoFar, not_enrolled},
    enrollment::is_enrolled,
    identity::{identity, sharing},
    inputs::inputs,
    interception::interception_mode,
    layers::{Traffic, resolve},
    out_of_scope::out_of_scope,
    overrides::overrides,
    pod::{
        annotation::{INTERCEPTION_MODE, STATUS},
        env, label,
    },
};
use crate::{
    profile::{MissingSidecar, NotAllowed, Profile, UnenrolledSidecar},
    reason::{Explanation, Reason, quote},
};

/// Decides from the namespace's enrollment and the pod's own labels, annotations and containers. The first reason that applies counts. The
/// inputs are left out, since an ADD does not need them. An error instead of a profile counts only where a profile is needed.
///
/// A pod that has run before is not refused for what changed meanwhile: its sandbox is recreated, and nothing injects it again.
pub fn decide(
    pod: &Pod,
    namespace: &Namespace,
    profile: Result<&Profile, &Explanation>,
    attachment: &Attachment,
) -> Decided {
    decide_with(pod, namespace, profile, attachment, None)
}

/// Like [`decide`], with the inputs that led to the decision.
pub fn explain(
    pod: &Pod,
    namespace: &Namespace,
    profile: Result<&Profile, &Explanation>,
    attachment: &Attachment,
) -> Decided {
    let inputs = inputs(pod, namespace, profile.ok());
    decide_with(pod, namespace, profile, attachment, Some(inputs))
}

fn decide_with(
    pod: &Pod,
    namespace: &Namespace,
    profile: Result<&Profile, &Explanation>,
    attachment: &Attachment,
    inputs: Option<Vec<Input>>,
) -> Decided {
    let mut so_far = SoFar {
        has_run: pod.has_run(),
        inputs,
        warnings: vec![],
        tolerated: None,
        missing_sidecar: None,
        stays_out: false,
    };
    let intent = out_of_scope(pod, namespace, profile.ok(), &mut so_far).and_then(|()| {
        let profile = profile.map_err(|why| NoIntent::Refuse(why.clone()))?;
        let case = Candidate {
            pod,
            namespace,
            profile,
            attachment,
        };
        case.intent(&mut so_far)
    });
    let decision = match intent {
        Ok(intent) => Decision::Redirect(Box::new(intent)),
        Err(NoIntent::Skip(e)) => Decision::Skip(e),
        Err(NoIntent::Warn(e)) => {
            so_far.warnings.push(e.clone());
            Decision::Skip(e)
        }
        Err(NoIntent::Refuse(e)) => Decision::Refuse(e),
    };
    Decided {
        decision,
        inputs: so_far.inputs.unwrap_or_default(),
        warnings: so_far.warnings,
        tolerated: so_far.tolerated,
        missing_sidecar: so_far.missing_sidecar,
        stays_out: so_far.stays_out,
    }
}

struct Candidate<'a> {
    pod: &'a Pod,
    namespace: &'a Namespace,
    profile: &'a Profile,
    attachment: &'a Attachment,
}

impl<'a> Candidate<'a> {
    fn intent(&self, so_far: &mut SoFar) -> Result<Intent, NoIntent> {
        self.is_left_alone(so_far)?;
        let proxy = self.sidecar(so_far)?;
        self.enrollment(so_far)?;
        self.revision(so_far)?;
        let (said, built_for) = (self.pod.annotation(INTERCEPTION_MODE), proxy.built_for());
        if said == Some("NONE") && built_for.is_none_or(|built| built == "NONE") {
            let skip = Reason::InterceptionNone.into();
            return Err(so_far.skip(skip, self.pod, self.namespace, Some(self.profile)));
        }
        let identity = self.identity(proxy, so_far)?;
        self.overrides(so_far)?;
        let mode = interception_mode(said, built_for).map_err(NoIntent::Refuse)?;
        let traffic = resolve(
            self.pod,
            self.attachment,
            &self.profile.spec,
            so_far.inputs.is_some(),
        )
        .map_err(NoIntent::Refuse)?;
        self.runtime(so_far)?;
        if let Some(inputs) = &mut so_far.inputs {
            inputs.extend(traffic.inputs.iter().cloned());
        }
        Ok(self.assemble(proxy, mode, identity, traffic))
    }

    /// Whether the profile leaves the pod alone, whatever it is.
    fn is_left_alone(&self, so_far: &mut SoFar) -> Result<(), NoIntent> {
        let (spec, name) = (&self.profile.spec, &self.profile.name);
        if spec.suspended {
            let suspended = Reason::Suspended.because(format!("MeshProfile {name} is suspended"));
            if !so_far.has_run {
                return Err(NoIntent::Warn(suspended));
            }
            // it was built to be redirected, and was
            so_far
                .warnings
                .push(suspended.remedy("delete the pod if it should be left alone"));
        }
        let namespace = &self.namespace.metadata.name;
        if spec.excludes(namespace) {
            let cause = format!("profile {name} excludes namespace {namespace}");
            return Err(NoIntent::Skip(Reason::NamespaceExcluded.because(cause)));
        }
        Ok(())
    }

    /// The sidecar, if the pod has one that was injected and redirects.
    fn sidecar(&self, so_far: &mut SoFar) -> Result<&'a Container, NoIntent> {
        let Some(proxy) = self.pod.proxy() else {
            return Err(self.without_proxy(so_far));
        };
        let is_injected = self.pod.annotation(STATUS).is_some();
        if !proxy.is_built_to_redirect() {
            let cause = format!("the pod has a container istio-proxy but no annotation {STATUS}");
            return match is_injected {
                true => Ok(proxy),
                false => Err(NoIntent::Warn(Reason::NotInjected.because(cause))),
            };
        }
        // the spec never changes, labels and annotations may
        let contradicts = match (is_injected, self.pod.inject()) {
            (_, Some("false")) => "the pod sets sidecar.istio.io/inject: false".to_owned(),
            (false, _) => format!("the pod has no annotation {STATUS}"),
            (true, _) => return Ok(proxy),
        };
        so_far.refuse(Reason::OptOutAfterInjection.because(format!(
            "{contradicts}, but its sidecar was built to redirect"
        )))?;
        Ok(proxy)
    }

    fn without_proxy(&self, so_far: &mut SoFar) -> NoIntent {
        let name = &self.namespace.metadata.name;
        if !self.is_enrolled() {
            return NoIntent::Skip(not_enrolled(name));
        }
        let is_asked_for = self.pod.asks_for_sidecar();
        let mut missing = Reason::SidecarMissing.because(if is_asked_for {
            "the pod asks for a sidecar but has no container istio-proxy".to_owned()
        } else {
            format!("namespace {name} is enrolled but the pod has no container istio-proxy")
        });
        let labels = [label::INJECT, label::REVISION];
        if is_asked_for && labels.iter().all(|name| self.pod.label(name).is_none()) {
            missing = missing.remedy("use the label sidecar.istio.io/inject: Istio's injector does not read the annotation");
        }
        so_far.missing_sidecar = Some(missing.clone());
        match self.profile.spec.enrollment.missing_sidecar {
            MissingSidecar::Refuse if is_asked_for => match so_far.refuse(missing.clone()) {
                Err(refused) => refused,
                Ok(()) => NoIntent::Skip(missing),
            },
            MissingSidecar::Refuse | MissingSidecar::Warn => NoIntent::Warn(missing),
        }
    }

    fn is_enrolled(&self) -> bool {
        is_enrolled(&self.profile.spec.enrollment, self.namespace, self.pod)
    }

    /// Whether a pod with a sidecar may have it.
    fn enrollment(&self, so_far: &mut SoFar) -> Result<(), NoIntent> {
        // one that opts out was handled above
        if self.is_enrolled() || self.pod.inject() == Some("false") {
            return Ok(());
        }
        let name = &self.namespace.metadata.name;
        let unenrolled = Reason::UnenrolledSidecar.because(format!(
            "the pod has a sidecar but neither namespace {name} nor the pod is enrolled"
        ));
        match self.profile.spec.enrollment.unenrolled_sidecar {
            UnenrolledSidecar::Refuse => so_far.refuse(unenrolled),
            UnenrolledSidecar::Redirect => {
                so_far.warnings.push(unenrolled);
                Ok(())
            }
        }
    }

    /// Whether the profile lists the revision of the sidecar, or that of the label that enrolled the pod, which may be a tag.
    fn revision(&self, so_far: &mut SoFar) -> Result<(), NoIntent> {
        let (revisions, revision) = (&self.profile.spec.revisions, self.pod.revision());
        let of_namespace = &self.namespace.metadata.labels;
        // the namespace's first; without any of them it is the default revision, which may be a tag as well
        let label = match of_namespace.get(label::REVISION) {
            _ if of_namespace.contains_key(label::ISTIO_INJECTION) => "default",
            Some(of_namespace) => of_namespace,
            None => self.pod.label(label::REVISION).unwrap_or("default"),
        };
        let is_listed = |name: &str| revisions.iter().any(|r| r == name);
        if revisions.is_empty() || is_listed(revision) || is_listed(label) {
            return Ok(());
        }
        so_far.refuse(Reason::RevisionMismatch.because(format!(
            "the sidecar is of revision {}, profile {} allows {}",
            quote(revision),
            self.profile.name,
            revisions.join(", ")
        )))
    }

    /// The sidecar's user and group, and whether another container runs as either.
    fn identity(&self, proxy: &Container, so_far: &mut SoFar) -> Result<ProxyIdentity, NoIntent> {
        let identity =
            identity(self.pod, proxy, &self.profile.spec.redirect).map_err(NoIntent::Refuse)?;
        if let Some(shared) = sharing(self.pod, identity) {
            if self.profile.spec.tenants.may_share_proxy_identity {
                so_far.warnings.push(shared);
            } else {
                so_far.refuse(shared)?;
            }
        }
        Ok(identity)
    }

    /// Whether tenants set only what they may.
    fn overrides(&self, so_far: &mut SoFar) -> Result<(), NoIntent> {
        let spec = &self.profile.spec;
        match overrides(self.pod, self.attachment, spec) {
            None => Ok(()),
            Some(set) if spec.tenants.not_allowed == NotAllowed::Ignore => {
                let cause = format!("{}; the profile's value is used", set.cause);
                so_far.warnings.push(Explanation {
                    cause,
                    remedy: None,
                    ..set
                });
                Ok(())
            }
            Some(set) => so_far.refuse(set),
        }
    }

    /// Whether the pod's packets cross its network namespace.
    fn runtime(&self, so_far: &mut SoFar) -> Result<(), NoIntent> {
        let spec = &self.pod.spec;
        let names = [
            ("class", &spec.runtime_class_name),
            ("handler", &spec.runtime_handler),
        ];
        let unsupported = &self.profile.spec.redirect.unsupported_runtimes;
        for (what, name) in names.into_iter().filter(|(_, name)| !name.is_empty()) {
            if let Some(pattern) = unsupported.iter().find(|pattern| pattern.matches(name)) {
                so_far.refuse(Reason::NotSupported.because(format!(
                    "packets of runtime {what} {} do not cross the pod's network namespace (unsupportedRuntimes: {pattern})",
                    quote(name)
                )))?;
                break;
            }
        }
        Ok(())
    }

    fn assemble(
        &self,
        proxy: &Container,
        mode: InterceptionMode,
        identity: ProxyIdentity,
        traffic: Traffic,
    ) -> Intent {
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
