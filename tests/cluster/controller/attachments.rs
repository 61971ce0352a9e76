//! Attachments: made, recreated, left alone and removed.

use super::*;

const OURS: &str = r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"mesh-optin"}"#;

#[test]
fn the_shared_attachment_is_recreated_whoever_deletes_it() {
    let cluster = Cluster::start_with_crds();
    cluster.profile("default", &json!({}));
    let controller = Controller::start(&cluster, "a", 8101, &[]);
    let path = attachment_path("default", "istio-cni");
    let is_there = || cluster.attachment("default", "istio-cni").is_some();
    until("the shared attachment", is_there);
    let made = cluster.attachment("default", "istio-cni").unwrap();
    assert_eq!(made["spec"]["config"], OURS);
    assert_eq!(
        made["metadata"]["labels"],
        json!({"meshoptin.dev/shared": "true"})
    );
    assert_eq!(
        made["metadata"]["managedFields"][0]["manager"],
        "mesh-optin-controller"
    );
    assert!(
        made["metadata"]["ownerReferences"].is_null() && made["metadata"]["finalizers"].is_null()
    );
    cluster.request("DELETE", &path, &Value::Null).unwrap();
    until("it is recreated", is_there);
    // a foreign one takes its place and is deleted: Istio's chart, uninstalled
    let foreign = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": "istio-cni", "labels": {"app": "istio"}}});
    controller.signal(Signal::SIGSTOP);
    cluster.request("DELETE", &path, &Value::Null).unwrap();
    cluster.create(&attachment_path("default", ""), &foreign);
    controller.signal(Signal::SIGCONT);
    until("Istio's serves as well", || {
        controller.metric(r#"mesh_optin_attachments{state="satisfied"}"#) == Some(1.0)
    });
    assert_eq!(
        cluster.attachment("default", "istio-cni").unwrap()["metadata"]["labels"],
        json!({"app": "istio"})
    );
    cluster.request("DELETE", &path, &Value::Null).unwrap();
    until("ours takes its place", || {
        cluster
            .attachment("default", "istio-cni")
            .is_some_and(|a| a["spec"]["config"] == OURS)
    });
    // also where the profile cannot be read
    cluster.patch(
        &format!("{PROFILES}/default"),
        &json!({"spec": {"fromTheFuture": 1}}),
    );
    until("it cannot be read", || {
        cluster.condition("default", "Accepted").1 == "NodeConfigInvalid"
    });
    cluster.request("DELETE", &path, &Value::Null).unwrap();
    until("it is recreated all the same", is_there);
    // it stays when no profile is left
    cluster
        .request("DELETE", &format!("{PROFILES}/default"), &Value::Null)
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let kept = cluster.attachment("default", "istio-cni").unwrap();
    let annotations = kept["metadata"]["annotations"].to_string();
    assert!(
        is_there() && !annotations.contains("unused-since"),
        "it is to be removed: {annotations}"
    );
}

#[test]
fn foreign_attachments_are_not_touched_and_a_conflict_is_reported() {
    let cluster = Cluster::start_with_crds();
    let foreign = |namespace: &str, config: &str| {
        cluster.namespace(namespace, &json!({"team": "a"}));
        cluster.create(
            &attachment_path(namespace, ""),
            &json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "istio-cni"}, "spec": {"config": config}}),
        )
    };
    let other = foreign("other", r#"{"type":"macvlan"}"#);
    let same = foreign("same", r#"{"type": "mesh-optin", "cniVersion": "0.4.0"}"#);
    cluster.namespace("plain", &json!({"team": "a"}));
    cluster.profile("a", &of_team("a"));
    let _controller = Controller::start(&cluster, "a", 8102, &[]);
    until("a conflict", || {
        cluster.condition("a", "AttachmentsReady").1 == "ConflictingAttachment"
    });
    let (status, reason, message) = cluster.condition("a", "Ready");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "ConflictingAttachment")
    );
    assert!(message.contains(" in other;"), "{message}");
    let object = cluster
        .request("GET", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    assert_eq!(
        object["status"]["namespaces"],
        json!({"governed": 3, "attached": 2, "conflicting": 1})
    );
    for (namespace, before) in [("other", &other), ("same", &same)] {
        assert_eq!(
            cluster.attachment(namespace, "istio-cni").as_ref(),
            Some(before),
            "{namespace}"
        );
    }
    let events = || {
        let path = "/apis/events.k8s.io/v1/namespaces/other/events";
        let mut list = cluster.request("GET", path, &Value::Null).unwrap();
        list["items"].take()
    };
    until("an Event on the attachment in the way", || {
        events()[0]["reason"] == "ConflictingAttachment"
    });
    assert_eq!(events().as_array().unwrap().len(), 1);
    // ours that somebody edits is not taken back
    cluster.patch(
        &attachment_path("plain", "istio-cni"),
        &json!({"spec": {"config": "{}"}}),
    );
    until("the edited one is a conflict", || {
        cluster
            .condition("a", "AttachmentsReady")
            .2
            .contains("other, plain")
    });
    assert_eq!(
        cluster.attachment("plain", "istio-cni").unwrap()["spec"]["config"],
        "{}"
    );
    // and when what is in the way goes, the profile gets ready
    for namespace in ["other", "plain"] {
        cluster
            .request(
                "DELETE",
                &attachment_path(namespace, "istio-cni"),
                &Value::Null,
            )
            .unwrap();
    }
    cluster.wait_for_profile("a");
}

#[test]
fn an_attachment_that_no_profile_wants_is_removed_after_a_day_in_which_no_pod_named_it() {
    let cluster = Cluster::start_with_crds();
    for namespace in ["idle", "used", "abroad"] {
        cluster.namespace(namespace, &json!({"team": "a"}));
    }
    cluster.namespace("other", &json!({}));
    cluster.profile("a", &of_team("a"));
    let _controller = Controller::start(&cluster, "a", 8103, &[]);
    cluster.wait_for_profile("a");
    let pod = json!({"metadata": {"name": "p", "annotations": {"k8s.v1.cni.cncf.io/networks": "istio-cni"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create("/api/v1/namespaces/used/pods", &pod);
    let mut abroad = pod;
    abroad["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] =
        json!(r#"[{"name": "istio-cni", "namespace": "abroad"}]"#);
    cluster.create("/api/v1/namespaces/other/pods", &abroad);
    let since = |namespace: &str| {
        let attachment = cluster.attachment(namespace, "istio-cni")?;
        attachment["metadata"]["annotations"]["meshoptin.dev/unused-since"]
            .as_str()
            .map(str::to_owned)
    };
    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    until("it says since when it is unused", || {
        since("idle").is_some()
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(since("used"), None, "a pod names it");
    assert_eq!(since("abroad"), None, "a pod of another namespace names it");
    // a profile governs again: nothing is left of that
    cluster.profile("a", &of_team("a"));
    until("it is used again", || since("idle").is_none());
    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    until("it is unused again", || since("idle").is_some());
    let a_day_ago = |seconds: i64| {
        (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(86_400 - seconds)).to_string()
    };
    let mark = |namespace: &str, since: String| {
        let annotations =
            json!({"metadata": {"annotations": {"meshoptin.dev/unused-since": since}}});
        cluster.patch(&attachment_path(namespace, "istio-cni"), &annotations);
    };
    mark("idle", a_day_ago(20));
    mark("used", a_day_ago(0));
    mark("abroad", a_day_ago(0));
    std::thread::sleep(Duration::from_secs(4));
    assert!(
        cluster.attachment("idle", "istio-cni").is_some(),
        "not yet a day"
    );
    until("it is removed", || {
        cluster.attachment("idle", "istio-cni").is_none()
    });
    for named in ["used", "abroad"] {
        assert!(cluster.attachment(named, "istio-cni").is_some(), "{named}");
    }
    assert!(cluster.attachment("default", "istio-cni").is_some());
}
