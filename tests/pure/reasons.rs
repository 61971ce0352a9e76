//! One change to a pod that is redirected, and the reason that it gives.

use mesh_optin::{
    mesh::{Decision, Namespace, Pod},
    profile::Profile,
    reason::Reason,
};

use crate::decisions::after;

fn annotate(pod: &mut Pod, key: &str, value: &str) {
    pod.metadata.annotations.insert(key.into(), value.into());
}

fn proxy_env(pod: &mut Pod, name: &str, value: &str) {
    let proxy = pod
        .spec
        .containers
        .iter_mut()
        .find(|c| c.name == "istio-proxy")
        .unwrap();
    proxy.env.retain(|e| e.name != name);
    proxy.env.push(mesh_optin::mesh::EnvVar {
        name: name.into(),
        value: value.into(),
    });
}

fn istio_init(pod: &mut Pod, capabilities: &[&str]) {
    let mut init = mesh_optin::mesh::Container {
        name: "istio-init".into(),
        ..Default::default()
    };
    init.security_context.capabilities.add = capabilities.iter().map(|c| (*c).into()).collect();
    pod.spec.init_containers.push(init);
}

fn proxy_type(pod: &mut Pod, kind: &str) {
    for container in pod
        .spec
        .containers
        .iter_mut()
        .filter(|c| c.name == "istio-proxy")
    {
        container.args[1] = kind.into();
    }
}

fn without_proxy(pod: &mut Pod) {
    pod.spec.containers.retain(|c| c.name != "istio-proxy");
    pod.metadata.annotations.clear();
}

fn unenrolled(pod: &mut Pod, namespace: &mut Namespace) {
    pod.metadata.labels.clear();
    namespace.metadata.labels.clear();
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Redirect,
    Skip,
    Refuse,
}

#[test]
fn each_reason_applies_in_its_order() {
    use mesh_optin::profile::{EnrollmentMode, MissingSidecar, UnenrolledSidecar};
    use {Outcome::*, Reason::*};
    type Change = fn(&mut Pod, &mut Namespace, &mut Profile);
    let cases: &[(&str, Change, Outcome, Reason, usize)] = &[
        (
            "excluded",
            |_, _, pr| pr.spec.excluded_namespaces = vec!["*".into()],
            Skip,
            NamespaceExcluded,
            0,
        ),
        (
            "host network",
            |p, _, _| p.spec.host_network = true,
            Skip,
            HostNetwork,
            0,
        ),
        (
            "istio-init that may redirect",
            |p, _, _| istio_init(p, &["NET_RAW", "NET_ADMIN"]),
            Skip,
            InitContainerRedirects,
            0,
        ),
        (
            "istio-init that may not",
            |p, _, _| istio_init(p, &["NET_RAW"]),
            Redirect,
            Redirected,
            0,
        ),
        (
            "label false, added after injection",
            |p, _, _| {
                drop(
                    p.metadata
                        .labels
                        .insert("sidecar.istio.io/inject".into(), "false".into()),
                )
            },
            Refuse,
            OptOutAfterInjection,
            0,
        ),
        (
            "label false, without a sidecar",
            |p, _, _| {
                without_proxy(p);
                p.metadata
                    .labels
                    .insert("sidecar.istio.io/inject".into(), "false".into());
            },
            Skip,
            OptedOut,
            0,
        ),
        (
            "annotation false, and a proxy that was not built to redirect",
            |p, _, _| {
                annotate(p, "sidecar.istio.io/inject", "false");
                proxy_env(p, "ISTIO_META_INTERCEPTION_MODE", "");
            },
            Skip,
            OptedOut,
            0,
        ),
        (
            "the label wins",
            |p, _, _| {
                annotate(p, "sidecar.istio.io/inject", "false");
                p.metadata
                    .labels
                    .insert("sidecar.istio.io/inject".into(), "true".into());
            },
            Redirect,
            Redirected,
            0,
        ),
        (
            "an empty label wins too",
            |p, _, _| {
                annotate(p, "sidecar.istio.io/inject", "false");
                p.metadata
                    .labels
                    .insert("sidecar.istio.io/inject".into(), String::new());
            },
            Redirect,
            Redirected,
            0,
        ),
        (
            "False is not false",
            |p, _, _| annotate(p, "sidecar.istio.io/inject", "False"),
            Redirect,
            Redirected,
            0,
        ),
        (
            "no envoy",
            |p, _, _| proxy_env(p, "DISABLE_ENVOY", "T"),
            Skip,
            ProxyDisabled,
            0,
        ),
        (
            "grpc without a proxy",
            |p, _, _| {
                without_proxy(p);
                annotate(p, "sidecar.istio.io/status", "");
            },
            Skip,
            NoSidecar,
            0,
        ),
        (
            "not enrolled",
            |p, n, _| {
                without_proxy(p);
                unenrolled(p, n);
            },
            Skip,
            NotEnrolled,
            0,
        ),
        (
            "enrolled by namespace, no sidecar",
            |p, _, _| without_proxy(p),
            Skip,
            SidecarMissing,
            1,
        ),
        (
            "asks, no sidecar",
            |p, _, _| {
                without_proxy(p);
                p.metadata
                    .labels
                    .insert("sidecar.istio.io/inject".into(), "true".into());
            },
            Refuse,
            SidecarMissing,
            0,
        ),
        (
            "asks by revision, no sidecar",
            |p, _, _| {
                without_proxy(p);
                p.metadata.labels.insert("istio.io/rev".into(), "x".into());
            },
            Refuse,
            SidecarMissing,
            0,
        ),
        (
            "asks, no sidecar, tolerated",
            |p, _, pr| {
                without_proxy(p);
                p.metadata.labels.insert("istio.io/rev".into(), "x".into());
                pr.spec.enrollment.missing_sidecar = MissingSidecar::Warn;
            },
            Skip,
            SidecarMissing,
            1,
        ),
        (
            "router",
            |p, _, _| proxy_type(p, "router"),
            Skip,
            NotASidecarProxy,
            0,
        ),
        (
            "a flag in the place of a type",
            |p, _, _| proxy_type(p, "--domain"),
            Redirect,
            Redirected,
            0,
        ),
        (
            "waypoint",
            |p, _, _| proxy_type(p, "waypoint"),
            Skip,
            NotASidecarProxy,
            0,
        ),
        (
            "hand-made proxy",
            |p, _, _| {
                p.metadata.annotations.remove("sidecar.istio.io/status");
                proxy_env(p, "ISTIO_META_INTERCEPTION_MODE", "");
            },
            Skip,
            NotInjected,
            1,
        ),
        (
            "the injector's annotation was removed",
            |p, _, _| drop(p.metadata.annotations.remove("sidecar.istio.io/status")),
            Refuse,
            OptOutAfterInjection,
            0,
        ),
        (
            "unenrolled",
            |p, n, _| unenrolled(p, n),
            Refuse,
            UnenrolledSidecar,
            0,
        ),
        (
            "unenrolled, tolerated",
            |p, n, pr| {
                unenrolled(p, n);
                pr.spec.enrollment.unenrolled_sidecar = UnenrolledSidecar::Redirect;
            },
            Redirect,
            Redirected,
            1,
        ),
        (
            "unenrolled, has run before",
            |p, n, _| {
                unenrolled(p, n);
                p.status
                    .container_statuses
                    .push(mesh_optin::mesh::ContainerStatus {
                        container_id: "x".into(),
                        ..Default::default()
                    });
            },
            Redirect,
            Redirected,
            1,
        ),
        (
            "maistra member",
            |p, n, _| {
                unenrolled(p, n);
                n.metadata
                    .labels
                    .insert("maistra.io/member-of".into(), "m".into());
            },
            Redirect,
            Redirected,
            0,
        ),
        (
            "maistra only",
            |_, _, pr| pr.spec.enrollment.mode = EnrollmentMode::Maistra,
            Refuse,
            UnenrolledSidecar,
            0,
        ),
        (
            "revision",
            |_, _, pr| pr.spec.revisions = vec!["prod".into()],
            Refuse,
            RevisionMismatch,
            0,
        ),
        (
            "revision allowed",
            |_, _, pr| pr.spec.revisions = vec!["default".into()],
            Redirect,
            Redirected,
            0,
        ),
        (
            "NONE on a sidecar built to redirect",
            |p, _, _| annotate(p, "sidecar.istio.io/interceptionMode", "NONE"),
            Refuse,
            InvalidAnnotation,
            0,
        ),
        (
            "mode removed from a TPROXY sidecar",
            |p, _, _| {
                p.metadata
                    .annotations
                    .remove("sidecar.istio.io/interceptionMode");
                proxy_env(p, "ISTIO_META_INTERCEPTION_MODE", "TPROXY");
            },
            Refuse,
            InvalidAnnotation,
            0,
        ),
        (
            "mode in lower case",
            |p, _, _| {
                annotate(p, "sidecar.istio.io/interceptionMode", "redirect");
                proxy_env(p, "ISTIO_META_INTERCEPTION_MODE", "");
            },
            Refuse,
            InvalidAnnotation,
            0,
        ),
        (
            "bad ports",
            |p, _, _| annotate(p, "traffic.sidecar.istio.io/includeOutboundPorts", "*"),
            Refuse,
            InvalidAnnotation,
            0,
        ),
        (
            "uid out of range",
            |p, _, _| {
                p.spec
                    .containers
                    .iter_mut()
                    .for_each(|c| c.security_context.run_as_user = Some(-1))
            },
            Refuse,
            InvalidAnnotation,
            0,
        ),
    ];
    for (name, change, outcome, reason, warnings) in cases {
        let (decision, warned) = after(change);
        let found = match &decision {
            Decision::Redirect(_) => Redirect,
            Decision::Skip(_) => Skip,
            Decision::Refuse(_) => Refuse,
        };
        assert_eq!(
            (&found, decision.reason(), warned),
            (outcome, *reason, *warnings),
            "{name}: {decision:?}"
        );
    }
}
