use serde_json::json;

use super::{healthy::of, *};

#[test]
fn what_is_wrong_with_admission_and_pods_is_named_with_its_remedy() {
    fn unbind(facts: &mut Facts, policy: &str) {
        let bindings = facts.bindings.as_mut().unwrap().as_mut().unwrap();
        bindings.retain(|b| b.spec.policy_name != policy);
    }
    fn problem(facts: &mut Facts, reason: &str) {
        let status = &mut node(facts).status;
        status.problems_total = Some(1);
        status.problems.push(of(json!({"namespace": "team-a", "pod": "web", "reason": reason, "since": "2026-01-01T11:59:00Z"})));
    }
    each_is_named(&[
        (
            |f| unbind(f, "mesh-optin-agent-node"),
            Check::AdmissionInForce,
            CheckOutcome::Error,
            "policies mesh-optin-agent-node",
            "kubectl apply -k deploy/kubernetes",
        ),
        (
            |f| unbind(f, "mesh-optin-pods"),
            Check::AdmissionInForce,
            CheckOutcome::Warning,
            "policies mesh-optin-pods",
            "kubectl apply -k deploy/admission/bindings",
        ),
        (
            |f| f.forbidden = Ok(Trial::Admitted),
            Check::AdmissionInForce,
            CheckOutcome::Error,
            "lets a NetworkAttachmentDefinition with prevResult pass",
            "validationActions",
        ),
        (
            |f| {
                f.policies.as_mut().unwrap().as_mut().unwrap()[0].status = of(
                    json!({"typeChecking": {"expressionWarnings": [{"fieldRef": "x", "warning": "undefined field"}]}}),
                )
            },
            Check::AdmissionInForce,
            CheckOutcome::Warning,
            "doubts it: undefined field",
            "release",
        ),
        (
            |f| {
                f.pods.as_mut().unwrap().as_mut().unwrap()[0]
                    .metadata
                    .annotations
                    .remove("k8s.v1.cni.cncf.io/networks");
            },
            Check::InjectedWithoutAttachment,
            CheckOutcome::Error,
            "pod team-a/web: it has a sidecar and names no attachment",
            "name default/istio-cni",
        ),
        (
            |f| problem(f, "Drifted"),
            Check::PodsRedirected,
            CheckOutcome::Error,
            "pod team-a/web: Drifted on node n1",
            "delete the pod",
        ),
        (
            |f| problem(f, "PolicyChanged"),
            Check::PodsRedirected,
            CheckOutcome::Warning,
            "PolicyChanged",
            "correct the pod",
        ),
        (
            |f| problem(f, "Outdated"),
            Check::PodsRedirected,
            CheckOutcome::Advice,
            "Outdated",
            "when that suits",
        ),
        (
            |f| problem(f, "OfTheFuture"),
            Check::PodsRedirected,
            CheckOutcome::Error,
            "OfTheFuture",
            "Events",
        ),
        (
            |f| node(f).status.problems_total = Some(40),
            Check::PodsRedirected,
            CheckOutcome::Error,
            "40 more of its pods",
            "Events",
        ),
        (
            |f| node(f).status.pods.as_mut().unwrap().unaudited = 2,
            Check::PodsRedirected,
            CheckOutcome::Warning,
            "2 pods could not be audited",
            "log",
        ),
    ]);
}
