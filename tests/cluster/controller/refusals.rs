//! What the API server refuses, and what others do to attachments of ours.

use super::*;

/// A controller and a profile of these namespaces.
fn start<'a>(cluster: &'a Cluster, port: u16, namespaces: &[&str]) -> Controller<'a> {
    for namespace in namespaces {
        cluster.namespace(namespace, &json!({"team": "a"}));
    }
    cluster.profile("a", &of_team("a"));
    Controller::start(cluster, "a", port, &[])
}

fn is_ready(cluster: &Cluster) -> bool {
    cluster.condition("a", "Ready").0 == "True"
}

#[test]
fn an_attachment_that_was_edited_and_then_deleted_is_recreated_at_once() {
    let cluster = Cluster::start_with_crds();
    let _controller = start(&cluster, 8141, &["a1"]);
    until("it is ready", || is_ready(&cluster));
    let shared = attachment_path("default", "istio-cni");
    cluster.patch(&shared, &json!({"spec": {"config": "{}"}}));
    until("a conflict", || {
        cluster.condition("a", "Ready").1 == "ConflictingAttachment"
    });
    cluster.request("DELETE", &shared, &Value::Null).unwrap();
    within(Duration::from_secs(12), "it is recreated", || {
        is_ready(&cluster)
    });
    // and where the edit is reverted, there is nothing to write
    let made = cluster.attachment("default", "istio-cni").unwrap();
    cluster.patch(&shared, &json!({"spec": {"config": "{}"}}));
    until("a conflict again", || !is_ready(&cluster));
    cluster.patch(&shared, &json!({"spec": made["spec"]}));
    within(Duration::from_secs(12), "it is as it was", || {
        is_ready(&cluster)
    });
}

#[test]
fn an_attachment_follows_the_profile_that_governs_its_namespace() {
    let cluster = Cluster::start_with_crds();
    let _controller = start(&cluster, 8142, &["a1"]);
    until("it is ready", || is_ready(&cluster));
    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    cluster.profile("b", &of_team("a"));
    until("it is b's", || {
        let attachment = cluster.attachment("a1", "istio-cni").unwrap();
        attachment["metadata"]["labels"]["meshoptin.dev/profile"] == "b"
    });
}

#[test]
fn a_foreign_mark_costs_nothing_at_rest() {
    let cluster = Cluster::start_with_crds();
    let _controller = start(&cluster, 8143, &["a1"]);
    until("it is ready", || is_ready(&cluster));
    let pod = json!({"metadata": {"name": "p", "annotations": {"k8s.v1.cni.cncf.io/networks": "istio-cni"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create("/api/v1/namespaces/a1/pods", &pod);
    let path = attachment_path("a1", "istio-cni");
    let old = json!({"metadata": {"annotations": {"meshoptin.dev/unused-since": "2026-01-01T00:00:00Z"}}});
    cluster.patch(&path, &old);
    cluster
        .request("DELETE", &format!("{PROFILES}/a"), &Value::Null)
        .unwrap();
    let requests = || {
        let all = cluster
            .requests_of(crate::support::controller::USER)
            .into_iter();
        all.filter(|r| r.contains("/pods") || r.contains("network-attachment"))
            .filter(|r| !r.starts_with("watch "))
            .count()
    };
    // it marks the attachment, looks for pods, and removes the mark
    std::thread::sleep(Duration::from_secs(8));
    until("it is at rest", || {
        let before = requests();
        std::thread::sleep(Duration::from_secs(3));
        requests() == before
    });
    let before = requests();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(requests(), before);
    assert!(cluster.attachment("a1", "istio-cni").is_some());
}

#[test]
fn a_webhook_that_fails_for_one_namespace_does_not_hold_up_the_others() {
    let cluster = Cluster::start_with_crds();
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "away"}, "webhooks": [{
        "name": "away.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:9/"},
        "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a1", "trial"]}]},
        "rules": [{"apiGroups": ["k8s.cni.cncf.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["network-attachment-definitions"]}]}]});
    cluster.apply(&webhook.to_string());
    cluster.namespace("trial", &json!({}));
    let attachment = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": "a"}, "spec": {}});
    let path =
        "/apis/k8s.cni.cncf.io/v1/namespaces/trial/network-attachment-definitions?dryRun=All";
    until("the API server asks it", || {
        let refused = cluster.request("POST", path, &attachment);
        refused.is_err_and(|why| why.to_string().contains("failed calling webhook"))
    });
    let _controller = start(&cluster, 8144, &["a1", "a2"]);
    until("the other is there", || {
        cluster.attachment("a2", "istio-cni").is_some()
    });
    until("the profile says so", || {
        let message = cluster.condition("a", "Ready").2;
        message.contains("a1/istio-cni") && message.contains("failed calling webhook")
    });
    assert!(cluster.attachment("a1", "istio-cni").is_none());
}

#[test]
fn a_status_that_is_refused_is_not_tried_again_with_each_change_of_others() {
    let cluster = Cluster::start_with_crds();
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no"}, "spec": {
        "failurePolicy": "Fail", "validations": [{"expression": "object.metadata.name != 'broken'", "message": "not this one"}],
        "matchConstraints": {"resourceRules": [{"apiGroups": ["meshoptin.dev"], "apiVersions": ["v1alpha1"], "operations": ["UPDATE"], "resources": ["meshprofiles/status"]}]}}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no"},
        "spec": {"policyName": "no", "validationActions": ["Deny"]}});
    cluster.apply(&format!("{policy}\n---\n{binding}"));
    cluster.profile("broken", &of_team("b"));
    let is_refused = || {
        let path = format!("{PROFILES}/broken/status?dryRun=All");
        let (kind, status) = (
            "application/merge-patch+json",
            json!({"status": {"observedGeneration": 0}}),
        );
        let answer = cluster.request_with("admin", kind, "PATCH", &path, &status);
        answer.is_err_and(|e| e["message"].as_str().unwrap().contains("not this one"))
    };
    until("the policy holds", is_refused);
    let _controller = start(&cluster, 8145, &["a1"]);
    until("the other is ready", || is_ready(&cluster));
    for n in 2..12 {
        cluster.namespace(&format!("a{n}"), &json!({"team": "a"}));
        until("it is looked at", || {
            cluster.attachment(&format!("a{n}"), "istio-cni").is_some()
        });
    }
    let writes = cluster.writes().into_iter();
    let tried = writes.filter(|w| w.contains("/broken/status")).count();
    assert!((1..=2).contains(&tried), "{tried} times");
    // and soon where it may be another
    let binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/no";
    cluster.request("DELETE", binding, &Value::Null).unwrap();
    until("the policy no longer holds", || !is_refused());
    let spec = json!({"spec": {"drift": "Repair"}});
    cluster.patch(&format!("{PROFILES}/broken"), &spec);
    until("its status is there", || {
        cluster.condition("broken", "Accepted").0 == "True"
    });
}

#[test]
fn attachments_are_made_once_multus_has_brought_their_kind() {
    let cluster = Cluster::start_with_crds();
    let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
    cluster.enter(&["kubectl", "delete", crd]);
    let _controller = start(&cluster, 8146, &["a1"]);
    until("the profile says what is missing", || {
        cluster.condition("a", "Ready").1 == "NoNetworkAttachmentDefinitions"
    });
    cluster.apply_attachments_crd();
    within(Duration::from_secs(90), "it is ready", || {
        is_ready(&cluster)
    });
    let tried = cluster.writes().into_iter();
    let tried = tried.filter(|w| w.contains("network-attachment")).count();
    assert_eq!(tried, 2, "nothing was tried in vain");
}

#[test]
fn a_kind_that_is_removed_and_comes_back_while_the_controller_runs_is_noticed_soon() {
    let cluster = Cluster::start_with_crds();
    let controller = start(&cluster, 8147, &["a1"]);
    until("it is ready", || is_ready(&cluster));
    let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
    cluster.enter(&["kubectl", "delete", crd]);
    within(Duration::from_secs(20), "the profile says so", || {
        cluster.condition("a", "Ready").1 == "NoNetworkAttachmentDefinitions"
    });
    until("none is left", || {
        controller.metric(r#"mesh_optin_attachments{state="attached"}"#) == Some(0.0)
    });
    cluster.apply_attachments_crd();
    within(Duration::from_secs(15), "they are created again", || {
        is_ready(&cluster) && cluster.attachments().len() == 2
    });
}
