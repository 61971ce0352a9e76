use super::{
    Container, Namespace, Pod,
    enrollment::{SYSTEM_NAMESPACES, is_enrolled, istio, maistra},
    pod::{EnvVar, annotation, label},
};
use crate::profile::{EnrollmentMode, Profile};

/// A pod that has not been through admission (from a manifest, without a UID), as Istio's injector with its defaults would change it.
/// `None` if the injector would leave it alone, or has already changed it.
pub fn assume_injected(pod: &Pod, namespace: &Namespace, profile: &Profile) -> Option<Pod> {
    let admitted = !pod.metadata.uid.is_empty() || pod.annotation(annotation::STATUS).is_some();
    if admitted || !would_inject(pod, namespace, profile) {
        return None;
    }
    let mut pod = pod.clone();
    let mode = pod
        .annotation(annotation::INTERCEPTION_MODE)
        .unwrap_or("REDIRECT")
        .to_owned();
    let revision = revision(&pod, namespace).to_owned();
    let template = pod
        .annotation(annotation::TEMPLATES)
        .unwrap_or("sidecar")
        .to_owned();
    match template.as_str() {
        "grpc-simple" => {}
        "grpc-agent" => complete(proxy_of(&mut pod), "sidecar", &mode, profile)
            .env
            .push(variable("DISABLE_ENVOY", "true")),
        "gateway" => drop(complete(proxy_of(&mut pod), "router", &mode, profile)),
        _ => drop(complete(proxy_of(&mut pod), "sidecar", &mode, profile)),
    }
    let annotations = &mut pod.metadata.annotations;
    annotations.insert(annotation::STATUS.into(), "{}".into());
    annotations.insert(annotation::REVISION.into(), revision);
    annotations.insert(annotation::INTERCEPTION_MODE.into(), mode);
    Some(pod)
}

/// The revision that injects: a namespace's `istio-injection` means the default one, whatever `istio.io/rev` says.
fn revision<'a>(pod: &'a Pod, namespace: &'a Namespace) -> &'a str {
    let labels = &namespace.metadata.labels;
    if labels.contains_key(label::ISTIO_INJECTION) {
        return "default";
    }
    labels
        .get(label::REVISION)
        .map(String::as_str)
        .or(pod.label(label::REVISION))
        .unwrap_or("default")
}

/// The pod's istio-proxy, of which users may write a part.
fn proxy_of(pod: &mut Pod) -> &mut Container {
    let is_proxy = |c: &Container| c.name == "istio-proxy";
    if let Some(at) = pod.spec.init_containers.iter().position(is_proxy) {
        return &mut pod.spec.init_containers[at];
    }
    let containers = &mut pod.spec.containers;
    let at = containers.iter().position(is_proxy).unwrap_or_else(|| {
        containers.push(Container {
            name: "istio-proxy".into(),
            ..Container::default()
        });
        containers.len() - 1
    });
    &mut containers[at]
}

/// What the template adds to it.
fn complete<'a>(
    proxy: &'a mut Container,
    kind: &str,
    mode: &str,
    profile: &Profile,
) -> &'a mut Container {
    let redirect = &profile.spec.redirect;
    let (user, group) = (
        if mode == "TPROXY" {
            0
        } else {
            redirect.proxy_uid
        },
        redirect.proxy_gid,
    );
    if proxy.args.is_empty() {
        proxy.args = vec!["proxy".into(), kind.into()];
    }
    proxy
        .env
        .push(variable("ISTIO_META_INTERCEPTION_MODE", mode));
    proxy
        .security_context
        .run_as_user
        .get_or_insert(user.into());
    proxy
        .security_context
        .run_as_group
        .get_or_insert(group.into());
    proxy
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: value.into(),
    }
}

/// Both stages of Istio's decision: the webhooks' selectors and the injector's own policy.
fn would_inject(pod: &Pod, namespace: &Namespace, profile: &Profile) -> bool {
    let rule = &profile.spec.enrollment;
    // OpenShift Service Mesh 2 does not inject by default: a member's pods ask.
    let asks_as_member = maistra(namespace) && pod.inject() == Some("true");
    // it reads labels only
    let webhook = istio(rule, namespace, pod, pod.label(label::INJECT));
    let selected = match rule.mode {
        EnrollmentMode::Istio => webhook,
        EnrollmentMode::Maistra => asks_as_member,
        EnrollmentMode::Either => webhook || asks_as_member,
        EnrollmentMode::Selector => is_enrolled(rule, namespace, pod),
    };
    selected
        && !pod.spec.host_network
        && !SYSTEM_NAMESPACES.contains(&namespace.metadata.name.as_str())
        && pod.inject() != Some("false")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mesh::{Attachment, decide},
        reason::Reason,
    };

    fn enrolled_namespace() -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = "team-a".into();
        namespace
            .metadata
            .labels
            .insert(label::ISTIO_INJECTION.into(), "enabled".into());
        namespace
    }

    #[test]
    fn a_template_in_an_enrolled_namespace_is_decided_as_injected() {
        let (mut pod, namespace, profile) =
            (Pod::default(), enrolled_namespace(), Profile::built_in());
        assert_eq!(assume_injected(&pod, &Namespace::default(), &profile), None);
        assert!(assume_injected(&pod, &namespace, &profile).is_some());
        pod.metadata
            .annotations
            .insert(annotation::INJECT.into(), "false".into());
        assert_eq!(assume_injected(&pod, &namespace, &profile), None);
        pod.metadata.annotations.clear();
        pod.metadata.uid = "u".into();
        assert_eq!(
            assume_injected(&pod, &namespace, &profile),
            None,
            "the API server has had it"
        );
    }

    #[test]
    fn each_template_makes_its_own_pod() {
        let mut namespace = enrolled_namespace();
        namespace
            .metadata
            .labels
            .insert(label::REVISION.into(), "canary".into());
        let mut profile = Profile::built_in();
        profile.spec.revisions = vec!["default".into()];
        for (template, partial_proxy, reason) in [
            (None, false, Reason::Redirected),
            (None, true, Reason::Redirected),
            (Some("sidecar,mine"), false, Reason::Redirected),
            (Some("gateway"), true, Reason::NotASidecarProxy),
            (Some("grpc-agent"), false, Reason::ProxyDisabled),
            (Some("grpc-simple"), false, Reason::NoSidecar),
        ] {
            let mut pod = Pod::default();
            pod.metadata
                .annotations
                .extend(template.map(|t| (annotation::TEMPLATES.to_owned(), t.to_owned())));
            if partial_proxy {
                pod.spec.containers.push(Container {
                    name: "istio-proxy".into(),
                    ..Container::default()
                });
            }
            let assumed = assume_injected(&pod, &namespace, &profile).unwrap();
            let decided = decide(&assumed, &namespace, Ok(&profile), &Attachment::default());
            assert_eq!(
                decided.decision.reason(),
                reason,
                "{template:?} {partial_proxy}"
            );
        }
    }
}
