//! Two replicas, and an API server that goes away.

use super::*;

#[test]
fn one_replica_writes_and_the_other_takes_over() {
    let cluster = Cluster::start_with_crds();
    let first = Controller::start(&cluster, "first", 8121, &[]);
    until("the first leads", || first.leads());
    let second = Controller::start(&cluster, "second", 8122, &[]);
    until("the second is ready", || second.get("/readyz") == "ready\n");
    cluster.namespace("a1", &json!({"team": "a"}));
    cluster.profile("a", &of_team("a"));
    cluster.wait_for_profile("a");
    assert!(!second.leads());
    let writes = cluster.writes().into_iter();
    let of_attachments: Vec<_> = writes
        .filter(|write| write.contains("network-attachment-definitions"))
        .collect();
    assert_eq!(
        of_attachments.len(),
        2,
        "each is written by one replica: {of_attachments:?}"
    );
    // stopped, not ended: it does not give its Lease back
    first.signal(Signal::SIGSTOP);
    cluster
        .request("DELETE", &attachment_path("a1", "istio-cni"), &Value::Null)
        .unwrap();
    within(Duration::from_secs(30), "the second takes over", || {
        second.leads()
    });
    until("the second writes", || {
        cluster.attachment("a1", "istio-cni").is_some()
    });
    first.signal(Signal::SIGCONT);
    until("the first follows", || {
        first
            .get("/metrics")
            .contains("mesh_optin_controller_leader 0")
    });
    assert!(second.leads());
    // ended by its Deployment it gives the Lease back
    second.end(Signal::SIGTERM);
    within(Duration::from_secs(20), "the first leads again", || {
        first.leads()
    });
    cluster
        .request("DELETE", &attachment_path("a1", "istio-cni"), &Value::Null)
        .unwrap();
    until("the first writes", || {
        cluster.attachment("a1", "istio-cni").is_some()
    });
}

#[test]
fn the_controller_survives_an_outage_of_the_api_server() {
    let cluster = Cluster::start_with_crds();
    cluster.namespace("a1", &json!({"team": "a"}));
    cluster.profile("a", &of_team("a"));
    let controller = Controller::start(&cluster, "a", 8123, &[]);
    cluster.wait_for_profile("a");
    cluster.restart(Duration::from_secs(60));
    assert!(controller.is_running());
    assert_eq!(controller.get("/healthz"), "ok\n");
    assert_eq!(
        controller.get("/readyz"),
        "ready\n",
        "what was known is not forgotten"
    );
    assert_eq!(
        controller.metric(r#"mesh_optin_attachments{state="attached"}"#),
        Some(2.0)
    );
    until("the API server is back", || {
        cluster.request_or_nothing("/readyz").is_some()
    });
    within(Duration::from_secs(90), "it leads again", || {
        controller.leads()
    });
    cluster.namespace("a2", &json!({"team": "a"}));
    within(Duration::from_secs(90), "it writes again", || {
        cluster.attachment("a2", "istio-cni").is_some()
    });
}
