//! Pods injected by a real Istio: the decision on each, and that its plan is what the pod's interfaces ask for.

use mesh_optin::{
    mesh::{Attachment, Decided, Decision, Namespace, Pod, explain},
    plan::{Plan, PodNetwork},
    profile::Profile,
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
    let on = |pod: &Pod| explain(pod, namespace, Ok(profile), &Attachment::default());
    let (of_all, of_reduced) = (on(pod), on(&pod.clone().reduce()));
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
        let network = PodNetwork::of_eth0(lab.v4, lab.v6);
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
pub(crate) fn after(
    change: impl FnOnce(&mut Pod, &mut Namespace, &mut Profile),
) -> (Decision, usize) {
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

#[test]
fn the_proxy_identity_comes_from_its_container_or_the_profile() {
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
