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
            |f| {
                f.controllers = Ok(Some(vec![]));
                let profiles = f.profiles.as_mut().unwrap().as_mut().unwrap();
                profiles[0].breaks = Some("spec.ports: no two may be the same".into());
            },
            Check::ProfilesAccepted,
            CheckOutcome::Error,
            "it breaks a rule of its CRD: spec.ports: no two",
            "refuses changes of that part",
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

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// An Event of Multus on the pod, which names this attachment besides.
fn not_found(facts: &mut Facts, namespace: &str, name: &str, time: &str) {
    let event = json!({
        "involvedObject": {"uid": "u"}, "lastTimestamp": time,
        "message": format!("cannot find a network-attachment-definition ({name}) in namespace ({namespace}): not found"),
    });
    facts.not_found = Ok(Some(vec![healthy::of(event)]));
    let annotations = &mut pod(facts).metadata.annotations;
    let networks = format!("default/istio-cni,{namespace}/{name}");
    annotations.insert(NETWORKS.into(), networks);
}

#[test]
fn an_attachment_that_multus_does_not_find_is_named_with_its_pods() {
    each_is_named(&[(
        |f| not_found(f, "team-a", "db", "2026-01-01T11:45:00Z"),
        Check::Attachments,
        CheckOutcome::Error,
        "NetworkAttachmentDefinition team-a/db: Multus did not find it (Event NoNetworkFound): pods team-a/web do not start",
        "kubectl -n team-a get network-attachment-definitions",
    )]);
}

/// Why an Event counts no longer, and the change that makes it so.
type Passed = (&'static str, fn(&mut Facts));

#[test]
fn an_event_is_no_finding_where_something_is_otherwise_by_now() {
    let passed: [Passed; 6] = [
        ("it is old", |f| {
            not_found(f, "team-a", "db", "2026-01-01T11:44:59Z")
        }),
        ("the attachment is there", |f| {
            not_found(f, "default", "istio-cni", "2026-01-01T12:00:00Z");
        }),
        ("the pod names it no longer", |f| {
            let annotations = &mut pod(f).metadata.annotations;
            annotations.insert(NETWORKS.into(), "default/istio-cni".into());
        }),
        ("the pod is gone", |f| {
            pod(f).metadata.uid = "another".into()
        }),
        ("no profile governs it", |f| {
            let profile = &mut f.profiles.as_mut().unwrap().as_mut().unwrap()[0].profile;
            profile.spec.excluded_namespaces = vec![healthy::of(json!("team-a"))];
        }),
        ("its message is not Multus's", |f| {
            f.not_found = Ok(Some(vec![healthy::of(
                json!({"involvedObject": {"uid": "u"}, "lastTimestamp": "2026-01-01T12:00:00Z", "message": "\u{1b}[2J"}),
            )]));
        }),
    ];
    for (why, passes) in passed {
        let mut facts = healthy();
        not_found(&mut facts, "team-a", "db", "2026-01-01T12:00:00Z");
        passes(&mut facts);
        let looked = Check::Attachments.look(&facts);
        assert_eq!(looked.findings, [], "{why}");
    }
}

#[test]
fn what_multus_does_not_find_may_be_out_of_sight() {
    let mut facts = healthy();
    not_found(&mut facts, "team-b", "db", "2026-01-01T12:00:00Z");
    facts.scope = Some("team-a".into());
    let check = |facts: &Facts| Check::Attachments.look(facts).outcome();
    assert_eq!(check(&facts), CheckOutcome::Unknown);
    facts.scope = None;
    assert_eq!(check(&facts), CheckOutcome::Error);
    facts.pods = Err(Unseen::Right("list pods".into()));
    assert_eq!(check(&facts), CheckOutcome::Skipped);
    let mut facts = healthy();
    facts.not_found = Ok(Some(vec![Default::default(); 500]));
    assert_eq!(check(&facts), CheckOutcome::Unknown);
}

#[test]
fn a_profile_is_judged_by_the_rules_of_its_crd() {
    let breaks = |ports: serde_json::Value| {
        let spec = json!({"redirect": {"ports": ports}});
        healthy::profile(
            "other",
            &spec,
            &json!({"type": "Ready", "status": "True", "reason": "", "message": ""}),
        )
        .breaks
    };
    assert_eq!(breaks(json!({"outbound": 15001})), None);
    assert!(breaks(json!({"outbound": 15006})).is_some());
}
