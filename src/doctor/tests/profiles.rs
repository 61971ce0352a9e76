use serde_json::json;

use super::{healthy, *};

#[test]
fn what_is_wrong_with_profiles_and_attachments_is_named_with_its_remedy() {
    fn profile(facts: &mut Facts, spec: &serde_json::Value, ready: &serde_json::Value) {
        let profiles = facts.profiles.as_mut().unwrap().as_mut().unwrap();
        profiles.push(healthy::profile("other", spec, ready));
    }
    fn team(label: &str) -> serde_json::Value {
        json!({"namespaces": {"matchLabels": {"istio-injection": label}}})
    }
    const READY: fn() -> serde_json::Value =
        || json!({"type": "Ready", "status": "True", "reason": "AsExpected", "message": ""});
    each_is_named(&[
        (
            |f| {
                profile(
                    f,
                    &json!({"namespaces": {"matchLabels": {"a": "b"}}, "frob": 1}),
                    &READY(),
                )
            },
            Check::ProfilesAccepted,
            CheckOutcome::Error,
            "MeshProfile other: it cannot be read",
            "correct it",
        ),
        (
            |f| {
                profile(
                    f,
                    &team("x"),
                    &json!({"type": "Ready", "status": "False", "reason": "WriteFailed", "message": "no"}),
                )
            },
            Check::ProfilesAccepted,
            CheckOutcome::Error,
            "WriteFailed: no",
            "kubectl get meshprofile other",
        ),
        (
            |f| {
                profile(
                    f,
                    &team("x"),
                    &json!({"type": "Ready", "status": "False", "reason": "Suspended", "message": ""}),
                )
            },
            Check::ProfilesAccepted,
            CheckOutcome::Warning,
            "Suspended",
            "spec.suspended",
        ),
        (
            |f| {
                profile(f, &team("enabled"), &READY());
                profile(f, &team("enabled"), &READY());
            },
            Check::ProfilesAccepted,
            CheckOutcome::Error,
            "namespaces team-a (other, other): several",
            "disjoint",
        ),
        (
            |f| {
                f.profiles.as_mut().unwrap().as_mut().unwrap().clear();
                profile(f, &team("x"), &READY());
            },
            Check::ProfilesAccepted,
            CheckOutcome::Error,
            "namespaces team-a: they are in the mesh, and no MeshProfile governs them",
            "without spec.namespaces",
        ),
        (
            |f| f.profiles.as_mut().unwrap().as_mut().unwrap()[0].generation = Some(2),
            Check::ProfilesAccepted,
            CheckOutcome::Warning,
            "the controller is away",
            "mesh-optin-controller",
        ),
        (
            |f| f.profiles = Ok(Some(vec![])),
            Check::DefaultProfile,
            CheckOutcome::Error,
            "--default-profile=Required: new pods of the mesh are refused",
            "crds/README.md",
        ),
        (
            |f| {
                daemon_set(f, "mesh-optin-agent")
                    .spec
                    .template
                    .spec
                    .containers[0]
                    .args
                    .clear()
            },
            Check::DefaultProfile,
            CheckOutcome::Advice,
            "deleted by mistake",
            "defaultProfile: Required",
        ),
        (
            |f| f.attachments.as_mut().unwrap().as_mut().unwrap().clear(),
            Check::Attachments,
            CheckOutcome::Error,
            "NetworkAttachmentDefinition default/istio-cni: it is not there",
            "attachment.create",
        ),
        (
            |f| {
                f.attachments.as_mut().unwrap().as_mut().unwrap()[0].config =
                    Some(r#"{"type":"mesh-optin","meshOptin":{"x":1}}"#.into())
            },
            Check::Attachments,
            CheckOutcome::Error,
            "pods that name it are refused",
            "kubectl -n default delete network-attachment-definition istio-cni",
        ),
        (
            |f| {
                profile(
                    f,
                    &json!({"namespaces": {"matchLabels": {"istio-injection": "enabled"}}, "attachment": {"placement": "PerNamespace"}}),
                    &READY(),
                )
            },
            Check::Attachments,
            CheckOutcome::Error,
            "NetworkAttachmentDefinition team-a/istio-cni: it is not there",
            "controller",
        ),
    ]);
}

#[test]
fn an_attachment_of_another_plugin_is_named_with_the_pods_that_name_it() {
    let mut facts = healthy::healthy();
    let attachments = facts.attachments.as_mut().unwrap().as_mut().unwrap();
    attachments[0].config = Some(r#"{"type":"macvlan"}"#.into());
    for (check, message) in [
        (Check::Attachments, "it calls another plugin"),
        (Check::InjectedWithoutAttachment, "it is not redirected"),
    ] {
        let looked = check.look(&facts);
        assert!(looked.findings[0].message.contains(message), "{looked:?}");
    }
}
