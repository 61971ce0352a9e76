//! What tenants set, and whose traffic they exempt.

use super::*;

const SHARES: &str = "app";

#[test]
fn mesh_wide_values_of_istio_are_no_override() {
    let mesh_wide = || {
        Case::of("defaults").annotations(json!({
            "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
            "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.9.0.0/16",
            "traffic.sidecar.istio.io/excludeInboundPorts": "15030,9999",
        }))
    };
    let same = json!({"tenants": {"mayOverride": []}, "redirect": {
        "alwaysExcludedInboundPorts": [15020, 15021, 15090, 15030],
        "traffic": {"includeOutboundIPRanges": "10.0.0.0/8", "excludeOutboundIPRanges": "10.8.0.0/15", "excludeInboundPorts": "9999"}}});
    let other = json!({"redirect": {"traffic": {"includeOutboundIPRanges": "10.0.0.0/9"}}});
    check(vec![
        (
            "the profile says the same",
            mesh_wide().profile(same.clone()),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "another",
            mesh_wide().profile(same.clone()).profile(other.clone()),
            Refuse,
            OverrideNotAllowed,
            &[],
        ),
        (
            "another, ignored",
            mesh_wide()
                .profile(same.clone())
                .profile(other.clone())
                .profile(json!({"tenants": {"notAllowed": "Ignore"}})),
            Redirect,
            Redirected,
            &[OverrideNotAllowed],
        ),
        (
            "another, has run",
            mesh_wide().profile(same).profile(other).has_run(),
            Redirect,
            Redirected,
            &[OverrideNotAllowed],
        ),
    ]);
}

#[test]
fn a_container_with_the_user_or_group_of_the_sidecar_is_reported_or_refused() {
    let shares = |context: Value| {
        Case::of("defaults").container(SHARES, json!({"securityContext": context}))
    };
    let strict = json!({"tenants": {"mayShareProxyIdentity": false}});
    check(vec![
        (
            "the user",
            shares(json!({"runAsUser": 1337})),
            Redirect,
            Redirected,
            &[ProxyIdentityShared],
        ),
        (
            "the group",
            shares(json!({"runAsGroup": 1337})),
            Redirect,
            Redirected,
            &[ProxyIdentityShared],
        ),
        (
            "another",
            shares(json!({"runAsUser": 1338, "runAsGroup": 1})),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "refused",
            shares(json!({"runAsUser": 1337})).profile(strict.clone()),
            Refuse,
            ProxyIdentityShared,
            &[],
        ),
        (
            "refused, has run",
            shares(json!({"runAsUser": 1337}))
                .profile(strict.clone())
                .has_run(),
            Redirect,
            Redirected,
            &[ProxyIdentityShared],
        ),
        (
            "by the pod's user, which the sidecar has as well",
            Case::of("defaults")
                .pod(json!({"spec": {"securityContext": {"runAsUser": 2000}}}))
                .container(
                    "istio-proxy",
                    json!({"securityContext": {"runAsUser": null}}),
                ),
            Redirect,
            Redirected,
            &[ProxyIdentityShared],
        ),
        (
            "the tenant's own istio-proxy part",
            Case::of("defaults")
                .container(
                    "istio-proxy",
                    json!({"securityContext": {"runAsUser": 1000}}),
                )
                .container(SHARES, json!({"securityContext": {"runAsUser": 1000}}))
                .profile(strict.clone()),
            Refuse,
            ProxyIdentityShared,
            &[],
        ),
        (
            "istio-validation ends before any other starts",
            Case::of("defaults").profile(strict.clone()),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "a native sidecar",
            Case::of("native-sidecar").profile(strict.clone()),
            Redirect,
            Redirected,
            &[],
        ),
        (
            "TPROXY",
            Case::of("tproxy").profile(strict),
            Redirect,
            Redirected,
            &[],
        ),
    ]);
}
