//! What MeshProfiles and MeshNodes say of themselves.

use super::*;

#[test]
fn the_status_of_a_profile_describes_it() {
    let cluster = Cluster::start_with_crds();
    cluster.namespace("a1", &json!({"team": "a"}));
    cluster.profile("rest", &json!({}));
    cluster.profile("a", &of_team("a"));
    let controller = Controller::start(&cluster, "a", 8111, &[]);
    for profile in ["rest", "a"] {
        cluster.wait_for_profile(profile);
    }
    let wide = cluster.enter(&["kubectl", "get", "mp", "a", "-o", "wide"]);
    let columns: Vec<Vec<_>> = wide
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        columns[0],
        [
            "NAME",
            "READY",
            "GOVERNED",
            "ATTACHED",
            "ENROLLMENT",
            "AGE",
            "REASON",
            "DRIFT",
            "BACKEND"
        ]
    );
    assert_eq!(columns[1][..4], ["a", "True", "1", "1"]);
    assert!(
        cluster
            .enter(&["kubectl", "--cache-dir=/mnt/kubectl", "get", "mesh-optin"])
            .contains("rest")
    );
    let status = |name: &str| {
        cluster
            .request("GET", &format!("{PROFILES}/{name}"), &Value::Null)
            .unwrap()["status"]
            .take()
    };
    assert_eq!(
        status("rest")["otherSelectors"],
        json!([{"matchLabels": {"team": "a"}, "matchExpressions": []}])
    );
    assert_eq!(status("rest")["observedGeneration"], 1);
    assert!(status("a")["otherSelectors"].is_null());
    // one that governs nothing
    cluster.profile("nobody", &of_team("nobody"));
    until("it says so", || {
        cluster.condition("nobody", "Ready")
            == (
                "True".into(),
                "GovernsNothing".into(),
                "no namespace is governed by this profile".into(),
            )
    });
    // overlapping selectors
    cluster.profile(
        "gold",
        &json!({"namespaces": {"matchLabels": {"tier": "gold"}}}),
    );
    cluster.patch(
        "/api/v1/namespaces/a1",
        &json!({"metadata": {"labels": {"tier": "gold"}}}),
    );
    for (profile, other) in [("a", "gold"), ("gold", "a")] {
        until("both say so", || {
            cluster.condition(profile, "Accepted").1 == "AmbiguousProfile"
        });
        let (status, _, message) = cluster.condition(profile, "Accepted");
        assert_eq!(status, "False");
        assert!(
            message.contains(&format!("MeshProfile {other} ")) && message.contains("a1"),
            "{message}"
        );
    }
    assert!(
        cluster.attachment("a1", "istio-cni").is_some(),
        "nothing is taken away"
    );
    cluster.patch(
        "/api/v1/namespaces/a1",
        &json!({"metadata": {"labels": {"tier": null}}}),
    );
    cluster.wait_for_profile("a");
    // the break-glass switch
    cluster.patch(
        &format!("{PROFILES}/a"),
        &json!({"spec": {"suspended": true}}),
    );
    until("it is suspended", || {
        cluster.condition("a", "Suspended").0 == "True"
    });
    assert_eq!(cluster.condition("a", "Ready").1, "Suspended");
    until("it is counted", || {
        controller.metric("mesh_optin_controller_suspended_profiles") == Some(1.0)
    });
    let reasons = || -> Vec<String> {
        let path = "/apis/events.k8s.io/v1/namespaces/default/events";
        let events = cluster.request("GET", path, &Value::Null).unwrap();
        let of_a = |event: &&Value| event["regarding"]["name"] == "a";
        let events = events["items"].as_array().unwrap().iter().filter(of_a);
        events
            .map(|e| e["reason"].as_str().unwrap().to_owned())
            .collect()
    };
    // each transition once; an Event is sent after the status
    until("the last transition has its Event", || {
        reasons().iter().any(|reason| reason == "Suspended")
    });
    cluster.wait_for_last_write();
    let reasons = reasons();
    for reason in ["Ready", "AmbiguousProfile", "Suspended"] {
        assert_eq!(
            reasons.iter().filter(|r| *r == reason).count(),
            1,
            "{reasons:?}"
        );
    }
}

#[test]
fn a_name_cannot_change_and_what_the_rules_refuse_is_refused_by_the_api_server() {
    let cluster = Cluster::start_with_crds();
    cluster.profile("a", &of_team("a"));
    let path = format!("{PROFILES}/a");
    let mut object = cluster.request("GET", &path, &Value::Null).unwrap();
    object["spec"]["attachment"]["name"] = json!("mesh");
    let refused = cluster.request("PUT", &path, &object).unwrap_err();
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("attachment.name cannot be changed"),
        "{refused}"
    );
    for (spec, part) in [
        (
            json!({"attachment": {"placement": "PerNamespace"}}),
            "PerNamespace needs namespaces",
        ),
        (
            json!({"tenants": {"mayOptOut": false}}),
            "mayOptOut: false needs namespaces",
        ),
        (
            json!({"redirect": {"ports": {"inbound": 15001}}}),
            "ports must differ",
        ),
    ] {
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "b"}, "spec": spec});
        let refused = cluster.request("POST", PROFILES, &object).unwrap_err();
        assert!(
            refused["message"].as_str().unwrap().contains(part),
            "{refused}"
        );
    }
}
