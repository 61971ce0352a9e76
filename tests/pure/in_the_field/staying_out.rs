//! Pods that stay out of the mesh by their own word, where they may and where they may not.

use super::*;

#[test]
fn where_no_pod_may_opt_out_each_way_out_is_refused_and_gateways_are_not() {
    let enrolled = json!({"istio-injection": "enabled"});
    let strict = json!({"namespaces": {"matchLabels": {"istio-injection": "enabled"}}, "tenants": {"mayOptOut": false}});
    let init = json!({"spec": {"initContainers": [
        {"name": "istio-init", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}]}});
    let disable_envoy = json!({"env": [{"name": "DISABLE_ENVOY", "value": "true"}]});
    let waypoint = json!({"spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "waypoint", "--domain"]}]},
        "metadata": {"labels": {"sidecar.istio.io/inject": "false"}, "annotations": {"sidecar.istio.io/status": null}}});
    let ways: Vec<(&str, Case, Reason, Option<Reason>)> = vec![
        ("label", Case::of("opt-out"), OptedOut, Some(OptOutNotAllowed)),
        ("host network", Case::of("defaults").pod(json!({"spec": {"hostNetwork": true}})), HostNetwork, Some(OptOutNotAllowed)),
        ("istio-init", Case::of("defaults").pod(init), InitContainerRedirects, Some(OptOutNotAllowed)),
        ("NONE", Case::of("none"), InterceptionNone, Some(OptOutNotAllowed)),
        ("DISABLE_ENVOY", Case::of("defaults").container("istio-proxy", disable_envoy), ProxyDisabled, Some(OptOutNotAllowed)),
        (
            "router beside the application",
            Case::of("defaults").container("istio-proxy", json!({"args": ["proxy", "router"]})),
            NotASidecarProxy,
            Some(OptOutNotAllowed),
        ),
        (
            "Istio's gateway",
            Case::of("gateway").pod(json!({"spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "router"],
                "env": [{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "REDIRECT"}], "securityContext": {"runAsUser": 1337}}]}})),
            NotASidecarProxy,
            None,
        ),
        ("Istio's waypoint", Case::of("defaults").pod(waypoint), NotASidecarProxy, None),
    ];
    for (name, case, reason, refusal) in ways {
        let mut case = case.namespace(enrolled.clone());
        assert_eq!(
            case.decided(),
            (Skip, reason, vec![]),
            "{name}, mayOptOut: true"
        );
        case = case.profile(strict.clone());
        let refused = refusal.map_or((Skip, reason, vec![]), |refusal| (Refuse, refusal, vec![]));
        assert_eq!(case.decided(), refused, "{name}, mayOptOut: false");
        case = case.has_run();
        let warnings = refusal.into_iter().collect();
        assert_eq!(case.decided(), (Skip, reason, warnings), "{name}, has run");
        case = case.profile(json!({"suspended": true}));
        assert_eq!(case.decided().0, Skip, "{name}, suspended");
        let mut elsewhere = case
            .namespace(json!({}))
            .profile(json!({"suspended": false}));
        elsewhere.pod["status"] = json!({});
        assert_ne!(
            elsewhere.decided().1,
            OptOutNotAllowed,
            "{name}, the namespace is not enrolled"
        );
    }
}

#[test]
fn pods_of_istio_templates_are_decided_alike_whether_or_not_pods_may_opt_out() {
    let enrolled = json!({"istio-injection": "enabled"});
    for (template, reason, strictly) in [
        ("sidecar", Redirected, Redirected),
        ("grpc-agent", ProxyDisabled, OptOutNotAllowed),
        ("grpc-simple", NoSidecar, NoSidecar),
        ("gateway", NotASidecarProxy, OptOutNotAllowed), // beside an application; alone it is Istio's gateway
    ] {
        for (may_opt_out, expected) in [(true, reason), (false, strictly)] {
            let mut case = Case::of("defaults")
                .not_injected()
                .namespace(enrolled.clone())
                .annotations(json!({"inject.istio.io/templates": template}))
                .profile(json!({"namespaces": {"matchLabels": enrolled}, "tenants": {"mayOptOut": may_opt_out}}));
            case.pod["metadata"]["uid"] = json!("");
            let pod: Pod = serde_json::from_value(case.pod.clone()).unwrap();
            let namespace: Namespace = serde_json::from_value(case.namespace.clone()).unwrap();
            case.pod = json!(assume_injected(&pod, &namespace, &Profile::built_in()).unwrap());
            assert_eq!(
                case.decided().1,
                expected,
                "{template}, mayOptOut: {may_opt_out}"
            );
        }
    }
}
