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
    // stopped, not ended, amid its writes: it does not give its Lease back
    let many = (0..100).map(|n| {
        let labels = json!({"team": "b"});
        let object = json!({"metadata": {"name": format!("n{n}"), "labels": labels}});
        ("POST", "/api/v1/namespaces".to_owned(), object)
    });
    cluster.batch(None, &many.collect::<Vec<_>>());
    cluster.profile("b", &of_team("b"));
    until("the first is at it", || cluster.attachments().len() > 10);
    first.signal(Signal::SIGSTOP);
    within(Duration::from_secs(30), "the second takes over", || {
        second.leads()
    });
    until("the second writes", || cluster.attachments().len() == 102);
    let written = first.writes();
    assert!(written.len() < 100, "it was stopped too late");
    first.signal(Signal::SIGCONT);
    until("the first follows", || {
        first
            .get("/metrics")
            .contains("mesh_optin_controller_leader 0")
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(first.writes(), written, "it writes nothing that it began");
    assert!(second.leads());
    // ended by its Deployment it gives the Lease back
    second.end(Signal::SIGTERM);
    assert_ne!(lease(&cluster)["holderIdentity"], "second");
    until("the first leads again", || first.leads());
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
    let args = ["--silent-after", "10"];
    let controller = Controller::start(&cluster, "a", 8123, &args);
    cluster.wait_for_profile("a");
    // a node whose next report is due while the API server is away
    let node = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": "n"}});
    cluster.create(NODES, &node);
    let next = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    let status =
        json!({"status": {"version": "0.3.0", "lastReport": next.to_string(), "conditions": []}});
    cluster.patch(&format!("{NODES}/n/status"), &status);
    cluster.wait_for_last_write();
    let written = cluster.writes();
    cluster.restart(Duration::from_secs(60));
    let back = jiff::Timestamp::now();
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
    let reporting = || {
        let node = cluster.request("GET", &format!("{NODES}/n"), &Value::Null);
        node.unwrap()["status"]["conditions"][0].clone()
    };
    until("the node is silent", || reporting()["status"] == "False");
    let since = reporting()["lastTransitionTime"].as_str().unwrap().parse();
    let since: jiff::SignedDuration = back.duration_until(since.unwrap());
    assert!(since.as_secs() >= 10, "it had no time to report: {since:?}");
    let now = cluster.writes();
    let others: Vec<_> = now[written.len()..]
        .iter()
        .filter(|write| !write.contains("/meshnodes/n/status"))
        .collect();
    assert!(others.is_empty(), "nothing else has changed: {others:?}");
    cluster.namespace("a2", &json!({"team": "a"}));
    within(Duration::from_secs(90), "it writes again", || {
        cluster.attachment("a2", "istio-cni").is_some()
    });
}

#[test]
fn what_was_deleted_while_nobody_watched_is_forgotten() {
    let cluster = Cluster::start_with_crds();
    cluster.namespace("a1", &json!({"team": "a"}));
    cluster.profile("a", &of_team("a"));
    cluster.profile(
        "gone",
        &json!({"namespaces": {"matchLabels": {"team": "b"}}, "suspended": true}),
    );
    let controller = Controller::start(&cluster, "a", 8124, &[]);
    until("all are there", || cluster.attachments().len() == 2);
    let suspended = || controller.metric("mesh_optin_controller_suspended_profiles");
    until("it is counted", || suspended() == Some(1.0));
    controller.signal(Signal::SIGSTOP);
    for path in [
        format!("{PROFILES}/gone"),
        attachment_path("a1", "istio-cni"),
    ] {
        cluster.request("DELETE", &path, &Value::Null).unwrap();
    }
    cluster.restart(Duration::ZERO);
    controller.signal(Signal::SIGCONT);
    until("the API server is back", || {
        cluster.request_or_nothing("/readyz").is_some()
    });
    within(Duration::from_secs(90), "one is recreated", || {
        cluster.attachment("a1", "istio-cni").is_some()
    });
    within(Duration::from_secs(90), "the profile is forgotten", || {
        suspended() == Some(0.0)
    });
}
