use super::{
    Container, EnrolmentMode, Namespace, Pod, Profile,
    enrolment::{SYSTEM_NAMESPACES, enrolled, istio, maistra},
    pod::{EnvVar, annotation, label},
};

/// A pod that has not been through admission (a manifest's, without a UID), as Istio's injector with its defaults would make it.
/// `None` where the injector would leave it alone, or where it has been there already.
pub fn assume_injected(pod: &Pod, namespace: &Namespace, profile: &Profile) -> Option<Pod> {
    let admitted = !pod.metadata.uid.is_empty() || pod.annotation(annotation::STATUS).is_some() || pod.proxy().is_some();
    if admitted || !would_inject(pod, namespace, profile) {
        return None;
    }
    let mut pod = pod.clone();
    let mode = pod.annotation(annotation::INTERCEPTION_MODE).unwrap_or("REDIRECT").to_owned();
    let revision =
        namespace.metadata.labels.get(label::REVISION).map(String::as_str).or(pod.label(label::REVISION)).unwrap_or("default").to_owned();
    let id = |privileged| if privileged { Some(0) } else { Some(i64::from(profile.spec.redirect.proxy_uid)) };
    let mut proxy = Container { name: "istio-proxy".into(), args: vec!["proxy".into(), "sidecar".into()], ..Container::default() };
    proxy.env.push(EnvVar { name: "ISTIO_META_INTERCEPTION_MODE".into(), value: mode.clone() });
    proxy.security_context.run_as_user = id(mode == "TPROXY");
    proxy.security_context.run_as_group = Some(i64::from(profile.spec.redirect.proxy_gid));
    pod.spec.containers.push(proxy);
    let annotations = &mut pod.metadata.annotations;
    annotations.insert(annotation::STATUS.into(), "{}".into());
    annotations.insert(annotation::REVISION.into(), revision);
    annotations.insert(annotation::INTERCEPTION_MODE.into(), mode);
    Some(pod)
}

/// Both stages of Istio's decision: the webhooks' selectors and the injector's own policy.
fn would_inject(pod: &Pod, namespace: &Namespace, profile: &Profile) -> bool {
    let rule = &profile.spec.enrolment;
    // OpenShift Service Mesh 2 does not inject by default: a member's pods ask.
    let asks_as_member = maistra(namespace) && pod.inject() == Some("true");
    let selected = match rule.mode {
        EnrolmentMode::Istio => istio(rule, namespace, pod),
        EnrolmentMode::Maistra => asks_as_member,
        EnrolmentMode::Either => istio(rule, namespace, pod) || asks_as_member,
        EnrolmentMode::Selector => enrolled(rule, namespace, pod),
    };
    selected && !pod.spec.host_network && !SYSTEM_NAMESPACES.contains(&namespace.metadata.name.as_str()) && pod.inject() != Some("false")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Attachment, decide};

    #[test]
    fn a_template_in_an_enrolled_namespace_is_decided_as_injected() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = "team-a".into();
        let (mut pod, profile) = (Pod::default(), Profile::built_in());
        assert_eq!(assume_injected(&pod, &namespace, &profile), None);
        namespace.metadata.labels.insert(label::ISTIO_INJECTION.into(), "enabled".into());
        let assumed = assume_injected(&pod, &namespace, &profile).unwrap();
        let reason = decide(&assumed, &namespace, &profile, &Attachment::default()).decision.reason();
        assert_eq!(reason, crate::reason::Reason::Redirected);
        pod.metadata.annotations.insert(annotation::INJECT.into(), "false".into());
        assert_eq!(assume_injected(&pod, &namespace, &profile), None);
        pod.metadata.annotations.clear();
        pod.metadata.uid = "u".into();
        assert_eq!(assume_injected(&pod, &namespace, &profile), None, "the API server has had it");
    }
}
