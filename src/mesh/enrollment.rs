//! Whether a namespace is enrolled in the mesh, or a pod enrolls itself.

use super::{
    Namespace, Pod,
    pod::label::{ISTIO_ENV, ISTIO_INJECTION, MAISTRA_IGNORE, MAISTRA_MEMBER_OF, REVISION},
};
use crate::profile::{Enrollment, EnrollmentMode};

/// Namespaces that Istio never injects.
pub(super) const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Whether the namespace or the pod itself enrolls this pod, by the profile's rule. A pod without the label can enroll itself by the
/// annotation: Istio's webhook does not read it, but manual injection leaves it.
pub(super) fn is_enrolled(rule: &Enrollment, namespace: &Namespace, pod: &Pod) -> bool {
    let inject = pod.inject();
    if inject == Some("false") {
        return false;
    }
    match rule.mode {
        EnrollmentMode::Istio => istio(rule, namespace, pod, inject),
        EnrollmentMode::Maistra => maistra(namespace) || enrolls_itself(namespace, pod),
        EnrollmentMode::Either => istio(rule, namespace, pod, inject) || maistra(namespace),
        EnrollmentMode::Selector => {
            rule.namespace_selector.matches(&namespace.metadata.labels)
                || enrolls_itself(namespace, pod)
        }
    }
}

/// Whether the namespace is enrolled, whatever a pod in it says.
pub(crate) fn is_namespace_enrolled(rule: &Enrollment, namespace: &Namespace) -> bool {
    is_enrolled(rule, namespace, &Pod::default())
}

/// Whether the pod enrolls itself, and its namespace does not disable injection.
fn enrolls_itself(namespace: &Namespace, pod: &Pod) -> bool {
    pod.asks_for_sidecar() && !is_disabled(namespace)
}

fn is_disabled(namespace: &Namespace) -> bool {
    let labels = &namespace.metadata.labels;
    labels
        .get(ISTIO_INJECTION)
        .is_some_and(|injection| injection == "disabled")
}

/// The truth table of Istio's injection webhooks, for a pod with this value of `inject`.
pub(super) fn istio(
    rule: &Enrollment,
    namespace: &Namespace,
    pod: &Pod,
    inject: Option<&str>,
) -> bool {
    let labels = &namespace.metadata.labels;
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
        && !is_disabled(namespace)
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
    fn the_truth_table_of_istio() {
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
            let rule = Enrollment {
                mode: EnrollmentMode::Istio,
                namespaces_by_default: by_default,
                ..Enrollment::default()
            };
            let (mut n, mut p) = (Namespace::default(), Pod::default());
            n.metadata.labels = labels(ns);
            p.metadata.labels = labels(pod);
            assert_eq!(
                is_enrolled(&rule, &n, &p),
                expected,
                "namespace {ns:?} pod {pod:?} by default {by_default}"
            );
        }
    }

    #[test]
    fn a_workload_can_enroll_itself_in_every_mode_unless_its_namespace_is_disabled() {
        let plain = Namespace::default();
        let mut disabled = Namespace::default();
        disabled.metadata.labels = labels("istio-injection=disabled");
        let mut saying: Vec<Pod> = Vec::new();
        for label in ["sidecar.istio.io/inject=true", "istio.io/rev=canary"] {
            let mut pod = Pod::default();
            pod.metadata.labels = labels(label);
            saying.push(pod);
        }
        let mut annotated = Pod::default();
        annotated.metadata.annotations = labels("sidecar.istio.io/inject=true");
        saying.push(annotated.clone());
        for mode in EnrollmentMode::ALL {
            let rule = Enrollment {
                mode,
                namespace_selector: serde_json::from_str(r#"{"matchLabels":{"a":"b"}}"#).unwrap(),
                ..Enrollment::default()
            };
            assert!(!is_enrolled(&rule, &plain, &Pod::default()), "{mode}");
            for pod in &saying {
                assert!(is_enrolled(&rule, &plain, pod), "{mode} {pod:?}");
                assert!(!is_enrolled(&rule, &disabled, pod), "{mode} {pod:?}");
            }
            // the label wins
            annotated.metadata.labels = labels("sidecar.istio.io/inject=no");
            assert!(!is_enrolled(&rule, &plain, &annotated), "{mode}");
        }
    }

    #[test]
    fn the_selector_of_the_maistra_webhook() {
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
