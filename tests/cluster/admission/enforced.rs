//! Ways out of the mesh, where the profile says that there are none.

use serde_json::{Value, json};

use super::{NETWORKS, annotated, attached, guarded, injected, judge, merge, plain, proxy};

pub(super) const STAYS: &str = "which governs namespace team-a, says tenants.mayOptOut: false: ";
pub(super) const IDENTITY: &str = "says tenants.mayShareProxyIdentity: false: ";

pub(super) fn labeled(value: &str) -> Value {
    plain(&json!({"metadata": {"labels": {"sidecar.istio.io/inject": value}}}))
}

fn with_init(container: Value) -> Value {
    attached(&json!({"spec": {"initContainers": [container, proxy()]}}))
}

fn with_app(changes: &Value) -> Value {
    let mut app = json!({"name": "app", "image": "x"});
    merge(&mut app, changes);
    attached(&json!({"spec": {"containers": [app]}}))
}

/// The sidecar changed.
fn with_proxy(changes: &Value) -> Value {
    let mut sidecar = proxy();
    merge(&mut sidecar, changes);
    attached(&json!({"spec": {"initContainers": [sidecar]}}))
}

fn gateway(kind: &str, init: Value) -> Value {
    let mut only = proxy();
    merge(
        &mut only,
        &json!({"args": ["proxy", kind], "restartPolicy": null, "env": null}),
    );
    plain(&json!({"spec": {"containers": [only], "initContainers": init}}))
}

/// With what Istio's templates write on it, so that nothing injects it.
fn of_gateway_api(kind: &str) -> Value {
    let mut pod = gateway(kind, json!([]));
    merge(
        &mut pod,
        &json!({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": {"hostNetwork": true}}),
    );
    pod
}

fn env(name: &str, value: &str) -> Value {
    json!({"env": [{"name": name, "value": value}]})
}

fn runs_as(user: i64) -> Value {
    json!({"securityContext": {"runAsUser": user}})
}

#[test]
fn pods_of_an_enrolled_namespace_stay_in_the_mesh() {
    let stays = Some(STAYS);
    let inject = |value| plain(&annotated("sidecar.istio.io/inject", value));
    let cases = [
        ("in the mesh", attached(&json!({})), None),
        ("not injected, without a word", plain(&json!({})), None),
        ("asks to be in", labeled("true"), None),
        ("annotated to be in", inject("true"), None),
        ("a gateway", gateway("router", json!([])), None),
        ("a waypoint", gateway("waypoint", json!([])), None),
        (
            "a gateway as Istio's controller for the Gateway API makes it",
            of_gateway_api("router"),
            None,
        ),
        (
            "a waypoint as Istio's controller makes it",
            of_gateway_api("waypoint"),
            None,
        ),
        (
            "a gateway with an init container",
            gateway("router", json!([{"name": "i", "image": "x"}])),
            None,
        ),
        (
            "an application named istio-proxy-2",
            with_app(&json!({"name": "istio-proxy-2"})),
            None,
        ),
        (
            "mode TPROXY",
            attached(&annotated("sidecar.istio.io/interceptionMode", "TPROXY")),
            None,
        ),
        (
            "DISABLE_ENVOY on the application",
            with_app(&env("DISABLE_ENVOY", "true")),
            None,
        ),
        (
            "DISABLE_ENVOY false",
            with_proxy(&env("DISABLE_ENVOY", "false")),
            None,
        ),
        (
            "a revision's label on a pod that it injected",
            attached(&json!({"metadata": {"labels": {"istio.io/rev": "x"}}})),
            None,
        ),
        (
            "a revision's label on a pod that nobody injected",
            plain(&json!({"metadata": {"labels": {"istio.io/rev": "no-such"}}})),
            Some("the label istio.io/rev: no-such asks for a sidecar"),
        ),
        ("label false", labeled("false"), stays),
        (
            "label that the injector takes for false",
            labeled("no"),
            stays,
        ),
        ("label False", labeled("False"), stays),
        ("empty label", labeled(""), stays),
        ("annotation false", inject("false"), stays),
        (
            "annotation false on an injected pod",
            attached(&annotated("sidecar.istio.io/inject", "false")),
            stays,
        ),
        (
            "host network",
            plain(&json!({"spec": {"hostNetwork": true}})),
            stays,
        ),
        (
            "host network of an injected pod",
            injected(&json!({"spec": {"hostNetwork": true}})),
            stays,
        ),
        (
            "istio-init among init containers",
            with_init(
                json!({"name": "istio-init", "image": "x", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}),
            ),
            stays,
        ),
        (
            "istio-init without capabilities",
            with_init(json!({"name": "istio-init", "image": "x"})),
            stays,
        ),
        (
            "istio-init as an application",
            with_app(&json!({"name": "istio-init"})),
            stays,
        ),
        (
            "mode NONE",
            attached(&annotated("sidecar.istio.io/interceptionMode", "NONE")),
            stays,
        ),
        (
            "a sidecar built for mode NONE",
            with_proxy(&env("ISTIO_META_INTERCEPTION_MODE", "NONE")),
            stays,
        ),
        (
            "DISABLE_ENVOY",
            with_proxy(&env("DISABLE_ENVOY", "true")),
            stays,
        ),
        (
            "DISABLE_ENVOY as Go reads it",
            with_proxy(&env("DISABLE_ENVOY", "T")),
            stays,
        ),
        (
            "DISABLE_ENVOY twice",
            with_proxy(
                &json!({"env": [{"name": "DISABLE_ENVOY", "value": "1"}, {"name": "DISABLE_ENVOY", "value": "0"}]}),
            ),
            stays,
        ),
        (
            "a router beside an application",
            with_proxy(&json!({"args": ["proxy", "router"]})),
            stays,
        ),
        (
            "a waypoint beside an application",
            with_proxy(&json!({"args": ["proxy", "waypoint", "x"]})),
            stays,
        ),
        ("a ztunnel", gateway("ztunnel", json!([])), stays),
        (
            "an application as native sidecar of a gateway",
            gateway(
                "router",
                json!([{"name": "app", "image": "x", "restartPolicy": "Always"}]),
            ),
            stays,
        ),
        (
            "status without a sidecar",
            plain(&annotated("sidecar.istio.io/status", "{}")),
            stays,
        ),
    ];
    judge(guarded(), "team-a", &cases);
    // governed by nobody, or not enrolled: nothing is enforced
    for namespace in ["team-b", "plain"] {
        let free: Vec<_> = cases
            .iter()
            .map(|(what, pod, _)| (*what, with_networks(pod), None))
            .collect();
        judge(guarded(), namespace, &free);
    }
}

/// The question there is whether anything is enforced, not whether it is attached.
fn with_networks(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["annotations"][NETWORKS] = json!("default/istio-cni");
    pod
}

#[test]
fn nobody_runs_as_the_sidecar() {
    let shares = Some(IDENTITY);
    let pod = |context: Value| json!({"spec": {"securityContext": context}});
    let own = |user: i64| json!({"securityContext": {"runAsUser": user, "runAsGroup": user}});
    let mut built = attached(&json!({}));
    built["spec"]["initContainers"][0]["securityContext"] =
        json!({"runAsUser": 2000, "runAsGroup": 2000});
    let mut built_and_shared = built.clone();
    built_and_shared["spec"]["containers"][0]["securityContext"] = json!({"runAsGroup": 2000});
    let mut unsaid = attached(&json!({}));
    unsaid["spec"]["initContainers"][0]["securityContext"] = json!({"runAsUser": 0});
    unsaid["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1337});
    let mut of_another = with_app(&own(1337));
    of_another["spec"]["initContainers"][0]["securityContext"] =
        json!({"runAsUser": 2000, "runAsGroup": 2000});
    let cases = [
        ("another user", with_app(&own(1000)), None),
        ("root", with_app(&runs_as(0)), None),
        (
            "as istio-validation, which ends",
            with_init(
                json!({"name": "istio-validation", "image": "x", "securityContext": {"runAsUser": 1337}}),
            ),
            None,
        ),
        ("a sidecar of another user", built, None),
        (
            "the default user where the sidecar has another",
            of_another,
            None,
        ),
        (
            "the pod's user is another",
            attached(&pod(json!({"runAsUser": 1000, "fsGroup": 1000}))),
            None,
        ),
        ("as the user", with_app(&runs_as(1337)), shares),
        (
            "as the group",
            with_app(&json!({"securityContext": {"runAsGroup": 1337}})),
            shares,
        ),
        (
            "an init container",
            with_init(json!({"name": "i", "image": "x", "securityContext": {"runAsUser": 1337}})),
            shares,
        ),
        (
            "istio-validation that stays",
            with_init(
                json!({"name": "istio-validation", "image": "x", "restartPolicy": "Always", "securityContext": {"runAsUser": 1337}}),
            ),
            shares,
        ),
        (
            "istio-validation as an application",
            with_app(&json!({"name": "istio-validation", "securityContext": {"runAsUser": 1337}})),
            shares,
        ),
        (
            "by the pod's user",
            attached(&pod(json!({"runAsUser": 1337}))),
            shares,
        ),
        (
            "by the pod's group",
            attached(&pod(json!({"runAsGroup": 1337}))),
            shares,
        ),
        ("as a sidecar of another group", built_and_shared, shares),
        (
            "as the profile's, where the sidecar is root",
            unsaid,
            shares,
        ),
        (
            "the group beside its own",
            attached(&pod(json!({"supplementalGroups": [5, 1337]}))),
            shares,
        ),
        (
            "the group of its volumes",
            attached(&pod(json!({"fsGroup": 1337}))),
            shares,
        ),
    ];
    judge(guarded(), "team-a", &cases);
}
