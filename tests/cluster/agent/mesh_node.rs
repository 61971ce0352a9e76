//! What an agent writes about its node, and what its account may not write.

use super::*;

/// In seconds: an agent reports what has changed every half a minute at most, and waits as long after a failure.
const REPORTS: u64 = 90;
const MESH_NODES: &str = "/apis/meshoptin.dev/v1alpha1/meshnodes";

/// A control plane with the CRDs, the policies and two Nodes.
fn cluster_with_policies() -> Cluster {
    let cluster = Cluster::start_with_team_a();
    cluster.apply_crds();
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/admission/agent.yaml");
    cluster.apply(&std::fs::read_to_string(policies).unwrap());
    for name in ["reports", "other"] {
        cluster.create("/api/v1/nodes", &json!({"metadata": {"name": name}}));
    }
    cluster
}

#[test]
fn a_node_reports_its_state_and_its_account_can_write_nothing_else() {
    let cluster = cluster_with_policies();
    on_node_with_agent(|node| {
        let args = ["--audit-period", "1", "--host-account", "mesh-optin/node"];
        let agent = Agent::start(node, &cluster, "reports", &args).ready();
        let path = format!("{MESH_NODES}/reports");
        let status = || {
            let object = cluster.request("GET", &path, &Value::Null);
            object.map_or(Value::Null, |mut object| object["status"].take())
        };
        let condition = |kind: &str| {
            let status = status();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let of_kind = conditions.into_iter().find(|c| c["type"] == kind);
            of_kind.map_or(Value::Null, |mut condition| condition["status"].take())
        };
        until_within(
            REPORTS,
            || condition("Ready") == "True",
            || status().to_string(),
        );
        assert_eq!(condition("SelfTestPassed"), "True");
        until_within(
            REPORTS,
            || condition("HostCredential") == "True",
            || status().to_string(),
        );
        let first = status();
        assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(first["programVersion"], env!("CARGO_PKG_VERSION"));
        assert_eq!(first["backend"], "Nftables");
        assert!(first["lastHeard"].is_string() && first["kernel"].is_string());
        // with its Node it goes
        let object = cluster.request("GET", &path, &Value::Null).unwrap();
        let of_node = cluster
            .request("GET", "/api/v1/nodes/reports", &Value::Null)
            .unwrap();
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&json!("Node"), &of_node["metadata"]["uid"])
        );
        // a pod that drifts
        let pod = cluster.create_pod_on("reports", "defaults", "reported");
        let lab = node.pod("a", V4);
        let call = add(node, &cluster, &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        crate::support::lab::inside(&lab.pod, || {
            crate::support::run("nft", &["delete", "table", "inet", "mesh-optin"], "")
        });
        let is_told = || {
            let status = status();
            let problem = &status["problems"][0];
            (&problem["namespace"], &problem["pod"], &problem["reason"])
                == (&json!("team-a"), &json!("reported"), &json!("Drifted"))
                && status["pods"]["drifted"] == 1
                && status["problemsTotal"] == 1
        };
        until_within(REPORTS, is_told, || status().to_string());
        let columns = cluster.enter(&["kubectl", "get", "meshnodes"]);
        let mut lines = columns
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        assert_eq!(
            lines.next().unwrap(),
            [
                "NAME",
                "READY",
                "VERSION",
                "REDIRECTED",
                "PROBLEMS",
                "LAST-REPORT"
            ]
        );
        let shown = lines.next().unwrap();
        assert_eq!(
            shown[..5],
            ["reports", "True", env!("CARGO_PKG_VERSION"), "0", "1"]
        );
        drop(agent);
        what_the_account_may_not(&cluster);
    });
}

/// Attacks the policies with the agent's own rights.
fn what_the_account_may_not(cluster: &Cluster) {
    let (own, unbound) = (
        cluster.token_of_agent("reports"),
        cluster.token("mesh-optin", "agent"),
    );
    let mesh_node = |name: &str| json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": name}});
    let uid = |name: &str| {
        let node = cluster
            .request("GET", &format!("/api/v1/nodes/{name}"), &Value::Null)
            .unwrap();
        node["metadata"]["uid"].clone()
    };
    let token = |bound: Value, seconds: u64, audiences: &[&str]| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound, "expirationSeconds": seconds, "audiences": audiences}})
    };
    let node =
        |name: &str| json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid(name)});
    let event = |kind: &str, instance: &str| {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "x-", "namespace": "team-a"},
            "eventTime": "2026-11-24T08:00:00.000000Z", "action": "Redirect", "reason": "Redirected", "note": "n", "type": "Normal",
            "regarding": {"apiVersion": "v1", "kind": kind, "namespace": "team-a", "name": "p"},
            "reportingController": "mesh-optin", "reportingInstance": instance})
    };
    let apply = "application/apply-patch+yaml";
    let json = "application/json";
    let of = |name: &str| format!("{MESH_NODES}/{name}?fieldManager=x&force=true");
    let status_of = |name: &str| format!("{MESH_NODES}/{name}/status?fieldManager=x&force=true");
    let tokens = "/api/v1/namespaces/mesh-optin/serviceaccounts/node/token";
    let events = "/apis/events.k8s.io/v1/namespaces/team-a/events";
    let no_audience: &[&str] = &[];
    let cases = [
        (
            &own,
            apply,
            "PATCH",
            of("reports"),
            mesh_node("reports"),
            None,
        ),
        (
            &own,
            apply,
            "PATCH",
            status_of("reports"),
            mesh_node("reports"),
            None,
        ),
        (
            &own,
            apply,
            "PATCH",
            of("other"),
            mesh_node("other"),
            Some("its own node, reports"),
        ),
        (
            &own,
            json,
            "POST",
            MESH_NODES.to_owned(),
            mesh_node("other"),
            Some("its own node, reports"),
        ),
        (
            &unbound,
            apply,
            "PATCH",
            of("reports"),
            mesh_node("reports"),
            Some("does not name"),
        ),
        (
            &own,
            json,
            "DELETE",
            of("reports"),
            Value::Null,
            Some("cannot delete"),
        ),
        (
            &own,
            json,
            "POST",
            tokens.to_owned(),
            token(node("reports"), 86_400, no_audience),
            None,
        ),
        (
            &own,
            json,
            "POST",
            tokens.to_owned(),
            token(node("reports"), 86_401, no_audience),
            Some("24 hours"),
        ),
        (
            &own,
            json,
            "POST",
            tokens.to_owned(),
            token(node("reports"), 86_400, &["a", "b"]),
            Some("one audience"),
        ),
        (
            &own,
            json,
            "POST",
            tokens.to_owned(),
            token(node("other"), 3600, no_audience),
            Some("its own Node"),
        ),
        (
            &own,
            json,
            "POST",
            tokens.to_owned(),
            token(Value::Null, 3600, no_audience),
            Some("its own Node"),
        ),
        (
            &unbound,
            json,
            "POST",
            tokens.to_owned(),
            token(node("reports"), 3600, no_audience),
            Some("its own Node"),
        ),
        (
            &own,
            json,
            "POST",
            events.to_owned(),
            event("Pod", "reports"),
            None,
        ),
        (
            &own,
            json,
            "POST",
            events.to_owned(),
            event("Node", "reports"),
            Some("Events about pods"),
        ),
        (
            &own,
            json,
            "POST",
            events.to_owned(),
            event("Pod", "other"),
            Some("its own node"),
        ),
        (
            &unbound,
            json,
            "POST",
            events.to_owned(),
            event("Pod", "reports"),
            Some("its own node"),
        ),
    ];
    for (token, content, verb, path, body, refused) in cases {
        let answer = cluster.request_with(token, content, verb, &path, &body);
        let told = match &answer {
            Ok(_) => None,
            Err(failure) => failure["message"].as_str(),
        };
        match refused {
            None => assert_eq!(told, None, "{verb} {path} {body}"),
            Some(part) => assert!(
                told.is_some_and(|told| told.contains(part)),
                "{verb} {path} {body}: {answer:?}"
            ),
        }
    }
}
