//! Pods injected by a real Istio: the decision on each, and that its plan is what the pod's interfaces ask for.

use mesh_optin::{
    mesh::{Attachment, Decided, Decision, IfName, Namespace, Pod, Profile, decide},
    plan::{Plan, PodNetwork},
    reason::Reason,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Data {
    pod: Pod,
    namespace: Namespace,
    lab: Lab,
}

#[derive(Deserialize)]
struct Lab {
    v4: bool,
    v6: bool,
}

fn data(name: &str) -> Data {
    let text = std::fs::read_to_string(format!(
        "{}/tests/data/pods/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What is decided, the same on all of the pod as on what an agent keeps of it.
fn decided(pod: &Pod, namespace: &Namespace, profile: &Profile) -> Decided {
    let on = |pod: &Pod| decide(pod, namespace, profile, &Attachment::default());
    let (of_all, of_reduced) = (on(pod), on(&pod.clone().reduced()));
    assert_eq!(format!("{of_all:?}"), format!("{of_reduced:?}"));
    of_all
}

const EXPECTED: [(&str, Reason, Option<bool>); 13] = [
    // name, reason, whether IPv6 is captured (None: it is not redirected)
    ("defaults", Reason::Redirected, Some(false)),
    ("dual-stack", Reason::Redirected, Some(true)),
    ("ipv6-only", Reason::Redirected, Some(true)),
    ("tproxy", Reason::Redirected, Some(false)),
    ("none", Reason::InterceptionNone, None),
    ("dns-capture", Reason::Redirected, Some(false)),
    ("exclude-ports", Reason::Redirected, Some(false)),
    ("include-ranges", Reason::Redirected, Some(false)),
    ("opt-out", Reason::OptedOut, None),
    ("opt-in-by-workload", Reason::Redirected, Some(false)),
    ("native-sidecar", Reason::Redirected, Some(false)),
    ("gateway", Reason::NotASidecarProxy, None),
    ("multus-second-nic", Reason::Redirected, Some(false)),
];

#[test]
fn every_pod_of_a_real_istio_is_decided_as_documented() {
    for (name, reason, captures_ipv6) in EXPECTED {
        let Data {
            pod,
            namespace,
            lab,
        } = data(name);
        let decided = decided(&pod, &namespace, &Profile::built_in());
        assert_eq!(decided.decision.reason(), reason, "{name}: {decided:?}");
        assert!(
            decided.warnings.is_empty(),
            "{name}: {:?}",
            decided.warnings
        );
        let Decision::Redirect(intent) = decided.decision else {
            continue;
        };
        let network = PodNetwork {
            ipv4: lab.v4,
            ipv6: lab.v6,
            primary: [IfName::eth0()].into(),
        };
        assert_eq!(
            Some(Plan::new(&intent, &network).unwrap().families.ipv6),
            captures_ipv6,
            "{name}"
        );
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pods"))
        .unwrap()
        .count();
    assert_eq!(files, EXPECTED.len(), "a pod is not in the table");
}

/// One change to a good pod or its surroundings, and what is decided then.
fn after(change: impl FnOnce(&mut Pod, &mut Namespace, &mut Profile)) -> (Decision, usize) {
    let Data {
        mut pod,
        mut namespace,
        ..
    } = data("defaults");
    let mut profile = Profile::built_in();
    change(&mut pod, &mut namespace, &mut profile);
    let decided = decided(&pod, &namespace, &profile);
    (decided.decision, decided.warnings.len())
}

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
    use mesh_optin::mesh::{EnrolmentMode, MissingSidecar, UnenrolledSidecar};
    use {Outcome::*, Reason::*};
    type Change = fn(&mut Pod, &mut Namespace, &mut Profile);
    let cases: &[(&str, Change, Outcome, Reason, usize)] = &[
        (
            "excluded beats all",
            |p, n, pr| {
                pr.spec.excluded_namespaces.push(n.metadata.name.clone());
                p.spec.host_network = true;
            },
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
            "istio-init",
            |p, _, _| {
                p.spec.init_containers.push(mesh_optin::mesh::Container {
                    name: "istio-init".into(),
                    ..Default::default()
                })
            },
            Skip,
            InitContainerRedirects,
            0,
        ),
        (
            "label false",
            |p, _, _| {
                drop(
                    p.metadata
                        .labels
                        .insert("sidecar.istio.io/inject".into(), "false".into()),
                )
            },
            Skip,
            OptedOut,
            0,
        ),
        (
            "annotation false",
            |p, _, _| annotate(p, "sidecar.istio.io/inject", "false"),
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
                pr.spec.enrolment.missing_sidecar = MissingSidecar::Warn;
            },
            Skip,
            SidecarMissing,
            1,
        ),
        (
            "router",
            |p, _, _| {
                p.spec.containers.iter_mut().for_each(|c| {
                    if c.name == "istio-proxy" {
                        c.args[1] = "router".into()
                    }
                })
            },
            Skip,
            NotASidecarProxy,
            0,
        ),
        (
            "hand-made proxy",
            |p, _, _| drop(p.metadata.annotations.remove("sidecar.istio.io/status")),
            Skip,
            NotInjected,
            1,
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
                pr.spec.enrolment.unenrolled_sidecar = UnenrolledSidecar::Redirect;
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
            |_, _, pr| pr.spec.enrolment.mode = EnrolmentMode::Maistra,
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

#[test]
fn the_proxy_s_identity_is_its_container_s_or_the_profile_s() {
    let identity = |user, group| {
        let (decision, _) = after(|p, _, pr| {
            pr.spec.redirect.proxy_gid = 4321;
            for c in p
                .spec
                .containers
                .iter_mut()
                .filter(|c| c.name == "istio-proxy")
            {
                (
                    c.security_context.run_as_user,
                    c.security_context.run_as_group,
                ) = (user, group);
            }
        });
        let Decision::Redirect(intent) = decision else {
            panic!("{decision:?}")
        };
        (intent.proxy.uid, intent.proxy.gid)
    };
    assert_eq!(
        identity(Some(1_000_670_000), Some(1_000_670_001)),
        (1_000_670_000, 1_000_670_001)
    );
    assert_eq!(
        identity(Some(0), None),
        (1337, 4321),
        "uid 0 is never exempt"
    );
}
