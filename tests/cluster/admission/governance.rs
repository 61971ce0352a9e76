//! Which profile judges a namespace, also while the controller's list of selectors lags, and by which mode.

use serde_json::{Value, json};

use super::{PROFILES, bind, eventually, injected, pod_of, profile, request, start};
use crate::support::{cluster::Cluster, controller::Controller};
use nix::sys::signal::Signal;

/// The names of the profiles that refuse an unattached pod of a namespace.
fn judged(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let (result, _) = pod_of(cluster, namespace, &json!({}));
    let Err(refused) = result else {
        return vec![];
    };
    ["all", "a", "gold"]
        .into_iter()
        .filter(|name| refused.contains(&format!("MeshProfile {name},")))
        .map(Into::into)
        .collect()
}

fn set_others(cluster: &Cluster, selectors: &Value) {
    cluster.patch(
        &format!("{PROFILES}/all/status"),
        &json!({"status": {"otherSelectors": selectors}}),
    );
}

#[test]
fn a_profile_judges_the_namespaces_that_it_governs() {
    let cluster = start();
    let deny = |namespaces: Value| json!({"namespaces": namespaces, "admission": {"unattachedPods": "Deny"}});
    let all = json!({"admission": {"unattachedPods": "Deny"}, "excludedNamespaces": ["out", "openshift-*"]});
    cluster.create(PROFILES, &profile("all", &all));
    bind(&cluster);
    cluster.namespace("out", &json!({}));
    cluster.namespace("openshift-dns", &json!({}));
    cluster.namespace("outer", &json!({"tier": "gold"}));
    eventually(|| judged(&cluster, "team-a") == ["all"]);
    for (namespace, by) in [
        ("team-b", vec!["all"]),
        ("default", vec!["all"]),
        ("outer", vec!["all"]),
        ("out", vec![]),
        ("openshift-dns", vec![]),
        ("mesh-optin", vec![]),
    ] {
        assert_eq!(judged(&cluster, namespace), by, "{namespace}");
    }
    // a new one with a selector: until the controller has said so, both judge
    let selector = json!({"matchLabels": {"team": "a"}});
    cluster.create(PROFILES, &profile("a", &deny(selector.clone())));
    eventually(|| {
        !judged(&cluster, "team-a").is_empty() && {
            let refused = pod_of(&cluster, "team-a", &json!({})).0.unwrap_err();
            refused.contains("MeshProfile a,") || refused.contains("MeshProfile all,")
        }
    });
    set_others(&cluster, &json!([selector]));
    eventually(|| judged(&cluster, "team-a") == ["a"]);
    assert_eq!(judged(&cluster, "team-b"), ["all"]);
    // it is deleted: until the controller has said so, nobody judges
    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    eventually(|| judged(&cluster, "team-a").is_empty());
    assert_eq!(judged(&cluster, "team-b"), ["all"]);
    set_others(&cluster, &json!([]));
    eventually(|| judged(&cluster, "team-a") == ["all"]);
    // every operator of a selector
    for (expression, governs_a, governs_b) in [
        (
            json!({"key": "team", "operator": "In", "values": ["a", "c"]}),
            true,
            false,
        ),
        (
            json!({"key": "team", "operator": "NotIn", "values": ["a"]}),
            false,
            true,
        ),
        (json!({"key": "team", "operator": "Exists"}), true, false),
        (
            json!({"key": "team", "operator": "DoesNotExist"}),
            false,
            true,
        ),
    ] {
        set_others(&cluster, &json!([{"matchExpressions": [expression]}]));
        eventually(|| {
            judged(&cluster, "team-a").is_empty() == governs_a
                && judged(&cluster, "team-b").is_empty() == governs_b
        });
    }
    // two of whose selectors both match are ambiguous: both judge
    set_others(&cluster, &json!([{"matchLabels": {"tier": "gold"}}]));
    cluster.create(
        PROFILES,
        &profile(
            "gold",
            &deny(json!({"matchLabels": {"tier": "gold"}, "matchExpressions": []})),
        ),
    );
    eventually(|| judged(&cluster, "outer") == ["gold"]);
}

#[test]
fn the_mode_of_each_profile_says_whether_it_refuses_or_warns() {
    let cluster = start();
    let spec =
        json!({"namespaces": {"matchLabels": {"team": "a"}}, "tenants": {"mayOptOut": false}});
    cluster.create(PROFILES, &profile("a", &spec));
    bind(&cluster);
    let host = || pod_of(&cluster, "team-a", &json!({"spec": {"hostNetwork": true}}));
    let set = |change: Value| cluster.patch(&format!("{PROFILES}/a"), &json!({"spec": change}));
    // the defaults: unattachedPods Warn, enforced Deny
    eventually(|| host().0.is_err());
    let (result, warnings) = pod_of(&cluster, "team-a", &json!({}));
    assert!(
        result.is_ok() && warnings.contains("MeshProfile a, which governs namespace team-a"),
        "{result:?} {warnings}"
    );
    set(json!({"admission": {"unattachedPods": "Allow", "enforced": "Warn"}}));
    eventually(|| host().0.is_ok());
    assert!(host().1.contains("mayOptOut"), "{:?}", host());
    let (result, warnings) = pod_of(&cluster, "team-a", &json!({}));
    assert!(
        result.is_ok() && warnings.is_empty(),
        "{result:?} {warnings}"
    );
    set(json!({"admission": {"unattachedPods": "Deny", "enforced": "Deny"}}));
    eventually(|| host().0.is_err() && pod_of(&cluster, "team-a", &json!({})).0.is_err());
    // whoever may bypass, and nobody by another right
    let unattached = injected(&json!({}));
    let by = |user: &str| {
        request(
            &cluster,
            user,
            ("POST", "/api/v1/namespaces/team-a/pods?dryRun=All"),
            "application/json",
            &unattached,
        )
        .0
    };
    super::grant(
        &cluster,
        "operator",
        &json!([{"apiGroups": ["meshoptin.dev"], "resources": ["meshprofiles"], "verbs": ["bypass"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]),
    );
    super::bind_role(&cluster, "editor", "mesh-optin-profile-editor");
    super::grant(
        &cluster,
        "editor",
        &json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]),
    );
    // a right that was just given is known within moments
    eventually(|| by("operator").is_ok());
    let is_denied = |user: &str| by(user).is_err_and(|why| why.contains("MeshProfile a"));
    eventually(|| is_denied("editor"));
    // a workload's pods are its controller's, whose account nobody exempts
    super::grant(
        &cluster,
        "system:serviceaccount:kube-system:replicaset-controller",
        &json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]),
    );
    eventually(|| is_denied("system:serviceaccount:kube-system:replicaset-controller"));
    // other names and placements
    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    let mut spec = spec;
    spec["attachment"] = json!({"name": "mesh"});
    spec["admission"] = json!({"unattachedPods": "Deny", "enforced": "Deny"});
    cluster.create(PROFILES, &profile("a", &spec));
    let named = |name: &str| pod_of(&cluster, "team-a", &super::annotated(super::NETWORKS, name)).0;
    eventually(|| {
        let other = named("istio-cni").err().unwrap_or_default();
        named("mesh").is_ok() && other.contains("add default/mesh to it")
    });
    set(json!({"attachment": {"placement": "None"}}));
    eventually(|| named("istio-cni").is_ok());
    // enrolled by each mode
    set(json!({"enrollment": {"mode": "Maistra"}}));
    eventually(|| host().0.is_ok());
    set(
        json!({"enrollment": {"mode": "Selector", "namespaceSelector": {"matchLabels": {"team": "a"}}}}),
    );
    eventually(|| host().0.is_err());
    // break-glass
    set(json!({"suspended": true}));
    eventually(|| host().0.is_ok());
}

/// The names of the profiles that warn of an unattached pod of a namespace.
fn warned(cluster: &Cluster, namespace: &str) -> Vec<&'static str> {
    let (result, warnings) = pod_of(cluster, namespace, &json!({}));
    assert!(result.is_ok(), "{result:?}");
    let names = ["a", "all"].into_iter();
    names
        .filter(|name| {
            warnings.contains(&format!(
                "MeshProfile {name}, which governs namespace {namespace}, asks"
            ))
        })
        .collect()
}

#[test]
fn without_the_controller_two_judge_for_a_new_profile_and_nobody_for_a_deleted_one_until_it_is_back()
 {
    let cluster = start();
    let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/controller/rbac.yaml");
    cluster.apply(&std::fs::read_to_string(rights).unwrap());
    cluster.create(PROFILES, &profile("all", &json!({})));
    bind(&cluster);
    let start = || Controller::start(&cluster, "a", 8161, &[]);
    let controller = start();
    cluster.wait_for_profile("all");
    eventually(|| warned(&cluster, "team-a") == ["all"]);
    controller.end(Signal::SIGKILL);

    let spec =
        json!({"namespaces": {"matchLabels": {"team": "a"}}, "tenants": {"mayOptOut": false}});
    cluster.create(PROFILES, &profile("a", &spec));
    eventually(|| warned(&cluster, "team-a") == ["a", "all"]);
    assert_eq!(warned(&cluster, "team-b"), ["all"]);
    // what a profile enforces it enforces at once, and alone: that takes a selector of its own
    let host = || pod_of(&cluster, "team-a", &json!({"spec": {"hostNetwork": true}})).0;
    let refused = host().unwrap_err();
    assert!(
        refused.contains("MeshProfile a, which governs namespace team-a, says"),
        "{refused}"
    );
    let controller = start();
    eventually(|| warned(&cluster, "team-a") == ["a"]);
    controller.end(Signal::SIGKILL);

    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    eventually(|| warned(&cluster, "team-a").is_empty() && host().is_ok());
    assert_eq!(warned(&cluster, "team-b"), ["all"]);
    let _controller = start();
    eventually(|| warned(&cluster, "team-a") == ["all"]);
}
