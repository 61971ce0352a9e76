//! Who is in the mesh, and what a policy that changed means for pods that run.

use super::*;

#[test]
fn the_annotation_opts_in_as_the_label_does() {
    let by = |how: &str| {
        Case::of("defaults")
            .namespace(json!({}))
            .pod(json!({"metadata": {how: {"sidecar.istio.io/inject": "true"}}}))
    };
    let without = |how: &str| {
        let case = Case::of("defaults").not_injected().namespace(json!({}));
        case.pod(json!({"metadata": {how: {"sidecar.istio.io/inject": "true"}}}))
    };
    let member = json!({"maistra.io/member-of": "mesh"});
    check(vec![
        ("the label", by("labels"), Redirect, Redirected, &[]),
        (
            "the annotation",
            by("annotations"),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "the annotation, in a disabled namespace",
            by("annotations").namespace(json!({"istio-injection": "disabled"})),
            Refuse,
            UnenrolledSidecar,
            &[],
        ),
        (
            "neither",
            Case::of("defaults").namespace(json!({})),
            Refuse,
            UnenrolledSidecar,
            &[],
        ),
        (
            "no sidecar",
            without("annotations"),
            Refuse,
            SidecarMissing,
            &[],
        ),
        (
            "no sidecar, in a member of OpenShift Service Mesh 2",
            without("annotations").namespace(member),
            Refuse,
            SidecarMissing,
            &[],
        ),
        (
            "no sidecar, has run",
            without("labels").has_run(),
            Skip,
            SidecarMissing,
            &[SidecarMissing],
        ),
    ]);
}

#[test]
fn a_pod_that_has_run_is_redirected_whatever_policy_says_now() {
    let cases: Vec<(&str, Case, Reason)> = vec![
        (
            "revisions",
            Case::of("defaults").profile(json!({"revisions": ["next"]})),
            RevisionMismatch,
        ),
        (
            "enrollment",
            Case::of("defaults").namespace(json!({})),
            UnenrolledSidecar,
        ),
        (
            "inject=false",
            Case::of("defaults").labels(json!({"sidecar.istio.io/inject": "false"})),
            OptOutAfterInjection,
        ),
        (
            "runtime class",
            Case::of("defaults").pod(json!({"spec": {"runtimeClassName": "kata-qemu"}})),
            NotSupported,
        ),
        (
            "handler of the runtime class",
            Case::of("defaults")
                .pod(json!({"spec": {"runtimeClassName": "isolated", "runtimeHandler": "runsc"}})),
            NotSupported,
        ),
        (
            "mayOverride",
            Case::of("defaults")
                .annotations(json!({"traffic.sidecar.istio.io/excludeOutboundPorts": "22"}))
                .profile(json!({"tenants": {"mayOverride": []}})),
            OverrideNotAllowed,
        ),
    ];
    for (name, case, reason) in cases {
        assert_eq!(case.decided(), (Refuse, reason, vec![]), "{name}");
        // a runtime may forget its containers at a reboot
        let forgotten =
            json!([{"lastState": {"terminated": {"reason": "ContainerStatusUnknown"}}}]);
        let again = case
            .clone()
            .pod(json!({"status": {"containerStatuses": forgotten}}));
        assert_eq!(
            again.decided(),
            (Redirect, Redirected, vec![reason]),
            "{name}, forgotten"
        );
        assert_eq!(
            case.has_run().decided(),
            (Redirect, Redirected, vec![reason]),
            "{name}, has run"
        );
    }
}

#[test]
fn revisions_may_name_the_tag_by_which_a_pod_was_enrolled() {
    let tagged = |revisions: Value| {
        Case::of("defaults")
            .namespace(json!({"istio.io/rev": "prod-stable"}))
            .annotations(json!({"istio.io/rev": "1-24-3"}))
            .profile(json!({"revisions": revisions}))
    };
    check(vec![
        (
            "the tag",
            tagged(json!(["prod-stable"])),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "the revision",
            tagged(json!(["1-24-3"])),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "neither",
            tagged(json!(["1-25-0"])),
            Refuse,
            RevisionMismatch,
            &[],
        ),
        (
            "a pod's label does not enroll where the namespace's does",
            tagged(json!(["lax"])).labels(json!({"istio.io/rev": "lax"})),
            Refuse,
            RevisionMismatch,
            &[],
        ),
        (
            "the default tag",
            tagged(json!(["default"])).namespace(json!({"istio-injection": "enabled"})),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "istio-injection means the default revision",
            tagged(json!(["prod-stable"]))
                .namespace(json!({"istio.io/rev": "prod-stable", "istio-injection": "enabled"})),
            Refuse,
            RevisionMismatch,
            &[],
        ),
    ]);
}

#[test]
fn a_suspended_profile_leaves_new_pods_alone_with_a_warning() {
    let suspended = json!({"suspended": true});
    check(vec![
        (
            "injected",
            Case::of("defaults").profile(suspended.clone()),
            Skip,
            Suspended,
            &[Suspended],
        ),
        (
            "has run, and was redirected",
            Case::of("defaults").profile(suspended.clone()).has_run(),
            Redirect,
            Redirected,
            &[Suspended],
        ),
        (
            "one that would be refused",
            Case::of("defaults")
                .namespace(json!({}))
                .profile(suspended.clone()),
            Skip,
            Suspended,
            &[Suspended],
        ),
        (
            "not enrolled",
            Case::of("defaults")
                .not_injected()
                .namespace(json!({}))
                .profile(suspended),
            Skip,
            NotEnrolled,
            &[],
        ),
    ]);
}

#[test]
fn a_missing_profile_stops_only_pods_that_need_one() {
    for (name, case, reason) in [
        ("gateway", Case::of("gateway"), NotASidecarProxy),
        ("opted out", Case::of("opt-out"), OptedOut),
        (
            "not enrolled",
            Case::of("defaults").not_injected().namespace(json!({})),
            NotEnrolled,
        ),
        ("injected", Case::of("defaults"), UnknownProfile),
        (
            "enrolled, no sidecar",
            Case::of("defaults").not_injected(),
            UnknownProfile,
        ),
    ] {
        let pod: Pod = serde_json::from_value(case.pod).unwrap();
        let namespace: Namespace = serde_json::from_value(case.namespace).unwrap();
        let none = UnknownProfile.because("no MeshProfile governs namespace team-a");
        let decided = decide(&pod, &namespace, Err(&none), &Attachment::default());
        assert_eq!(decided.decision.reason(), reason, "{name}");
    }
}
