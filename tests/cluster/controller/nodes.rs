//! MeshNodes whose agents are silent, or too old.

use super::*;

#[test]
fn silent_nodes_and_agents_that_are_too_old_are_reported() {
    let cluster = Cluster::start_with_crds();
    cluster.profile("default", &json!({}));
    // of n2 the clock is ahead: it is never silent here
    let args = ["--silent-after", "3"];
    let _controller = Controller::start(&cluster, "a", 8112, &args);
    cluster.wait_for_profile("default");
    let report = |name: &str, minutes: i64, profiles_known: &str, message: &str| {
        let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)).to_string();
        let condition = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "reason": "AsExpected", "message": message, "lastTransitionTime": at});
        cluster.patch(&format!("{NODES}/{name}/status"), &json!({"status": {"version": "0.2.0", "lastReport": at,
            "conditions": [condition("Ready", "True", ""), condition("ProfilesKnown", profiles_known, message)]}}));
    };
    for name in ["n1", "n2"] {
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": name}});
        cluster.create(NODES, &object);
    }
    report("n1", 20, "True", "");
    report("n2", -60, "True", "");
    let condition = |node: &str, kind: &str| {
        let object = cluster
            .request("GET", &format!("{NODES}/{node}"), &Value::Null)
            .unwrap();
        let all = object["status"]["conditions"].as_array().unwrap().clone();
        all.into_iter()
            .find(|c| c["type"] == kind)
            .map(|c| c["status"].as_str().unwrap().to_owned())
    };
    until("n1 is silent", || {
        condition("n1", "Reporting").as_deref() == Some("False")
    });
    assert_eq!(condition("n1", "Ready").as_deref(), Some("Unknown"));
    assert_eq!(
        (
            condition("n2", "Reporting"),
            condition("n2", "Ready").as_deref()
        ),
        (None, Some("True"))
    );
    // as an agent says it
    report(
        "n1",
        -60,
        "False",
        "NodeConfigInvalid: the last generation of MeshProfile default cannot be read: unknown field",
    );
    until("the profile says whose agents cannot read it", || {
        cluster.condition("default", "Ready").1 == "UnknownToAgents"
    });
    assert!(
        cluster
            .condition("default", "Ready")
            .2
            .contains("1 of 2 agents")
    );
    report("n1", -60, "True", "");
    cluster.wait_for_profile("default");
    cluster.patch(
        &format!("{PROFILES}/default"),
        &json!({"spec": {"requires": "0.2.1"}}),
    );
    until("both are too old", || {
        cluster
            .condition("default", "Ready")
            .2
            .contains("2 of 2 agents")
    });
}
