//! Whether a namespace, or a pod by its own labels, is enrolled in the mesh.

use super::{
    Enrolment, EnrolmentMode, Namespace, Pod,
    pod::label::{INJECT, ISTIO_ENV, ISTIO_INJECTION, MAISTRA_IGNORE, MAISTRA_MEMBER_OF, REVISION},
};

/// Namespaces that Istio never injects.
pub(super) const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Whether neither webhook labels nor the profile's rule keep this pod out of the mesh.
pub(super) fn enrolled(rule: &Enrolment, namespace: &Namespace, pod: &Pod) -> bool {
    match rule.mode {
        EnrolmentMode::Istio => istio(rule, namespace, pod),
        EnrolmentMode::Maistra => maistra(namespace),
        EnrolmentMode::Either => istio(rule, namespace, pod) || maistra(namespace),
        EnrolmentMode::Selector => rule.namespace_selector.matches(&namespace.metadata.labels),
    }
}

/// The truth table of Istio's injection webhooks, labels only.
pub(super) fn istio(rule: &Enrolment, namespace: &Namespace, pod: &Pod) -> bool {
    let labels = &namespace.metadata.labels;
    let inject = pod.label(INJECT);
    if inject == Some("false") {
        false
    } else if let Some(injection) = labels.get(ISTIO_INJECTION) {
        injection == "enabled"
    } else if labels.contains_key(REVISION) || pod.label(REVISION).is_some() {
        true
    } else if let Some(value) = inject {
        value == "true"
    } else {
        rule.namespaces_by_default && !SYSTEM_NAMESPACES.contains(&namespace.metadata.name.as_str())
    }
}

/// The namespace selector of OpenShift Service Mesh 2's webhook.
pub(super) fn maistra(namespace: &Namespace) -> bool {
    let labels = &namespace.metadata.labels;
    labels
        .get(MAISTRA_MEMBER_OF)
        .is_some_and(|mesh| !mesh.is_empty())
        && !labels.contains_key(MAISTRA_IGNORE)
        && !labels.contains_key(ISTIO_ENV)
        && labels.get(ISTIO_INJECTION).map(String::as_str) != Some("disabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> std::collections::BTreeMap<String, String> {
        text.split(' ')
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect()
    }

    #[test]
    fn istio_s_truth_table() {
        for (ns, pod, by_default, expected) in [
            ("", "sidecar.istio.io/inject=false", true, false),
            (
                "istio-injection=enabled",
                "sidecar.istio.io/inject=false",
                false,
                false,
            ),
            ("istio-injection=enabled", "", false, true),
            ("istio-injection=enabled istio.io/rev=x", "", false, true),
            (
                "istio-injection=disabled",
                "sidecar.istio.io/inject=true",
                true,
                false,
            ),
            ("istio-injection=Enabled", "", true, false),
            ("istio.io/rev=x", "", false, true),
            (
                "istio.io/rev=x",
                "sidecar.istio.io/inject=maybe",
                false,
                true,
            ),
            ("", "istio.io/rev=y", false, true),
            ("", "sidecar.istio.io/inject=true", false, true),
            ("", "sidecar.istio.io/inject=True", true, false),
            ("", "", false, false),
            ("", "", true, true),
            ("maistra.io/member-of=m", "", false, false),
        ] {
            let rule = Enrolment {
                mode: EnrolmentMode::Istio,
                namespaces_by_default: by_default,
                ..Enrolment::default()
            };
            let (mut n, mut p) = (Namespace::default(), Pod::default());
            n.metadata.labels = labels(ns);
            p.metadata.labels = labels(pod);
            assert_eq!(
                enrolled(&rule, &n, &p),
                expected,
                "namespace {ns:?} pod {pod:?} by default {by_default}"
            );
        }
    }

    #[test]
    fn maistra_s_webhook_selector() {
        for (ns, expected) in [
            ("maistra.io/member-of=m", true),
            ("maistra.io/member-of=", false),
            ("istio-injection=enabled", false),
            (
                "maistra.io/member-of=m maistra.io/ignore-namespace=ignore",
                false,
            ),
            ("maistra.io/member-of=m istio-env=x", false),
            ("maistra.io/member-of=m istio-injection=disabled", false),
        ] {
            let mut n = Namespace::default();
            n.metadata.labels = labels(ns);
            assert_eq!(maistra(&n), expected, "{ns}");
        }
    }
}
