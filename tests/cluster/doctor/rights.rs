use serde_json::{Value, json};

use super::*;
use crate::support::{
    kubectl::{check, doctor, doctor_says, finds, mesh_optin},
    proxy::Proxy,
};

/// A service account with these rights over the cluster, and its kubeconfig.
fn account(cluster: &Cluster, name: &str, rules: &Value) -> PathBuf {
    cluster.service_account("default", name);
    let group = "/apis/rbac.authorization.k8s.io/v1";
    cluster.create(
        &format!("{group}/clusterroles"),
        &json!({"metadata": {"name": name}, "rules": rules}),
    );
    let binding = json!({
        "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    });
    cluster.create(&format!("{group}/clusterrolebindings"), &binding);
    cluster.kubeconfig(name, &json!({"token": cluster.token("default", name)}))
}

/// The rules that deploy/README.md gives whoever runs `doctor`.
fn documented() -> Value {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md")).unwrap();
    let (_, role) = page
        .split_once("metadata: {name: mesh-optin-doctor}\n")
        .unwrap();
    let role: Value = serde_yaml::from_str(role.split("```").next().unwrap()).unwrap();
    role["rules"].clone()
}

#[test]
fn what_may_not_be_seen_is_skipped_and_what_is_asked_for_suffices() {
    let guard = healthy();
    let (cluster, admin) = &*guard;
    let (code, json) = doctor(cluster, admin, &["-n", "nowhere"]);
    let text = json.to_string();
    assert!(
        code == 1 && text.contains("there is no namespace nowhere"),
        "{json:#}"
    );
    let nobody = account(cluster, "nobody", &json!([]));
    let (code, json) = doctor(cluster, &nobody, &[]);
    assert_eq!(code, 1, "{json:#}");
    assert_eq!(json["healthy"], false);
    for one in json["checks"].as_array().unwrap() {
        let needs_no_right = ["ApiReachable", "KubernetesVersion", "ClockSkew"]
            .contains(&one["check"].as_str().unwrap());
        let expected = if needs_no_right { "ok" } else { "skipped" };
        assert_eq!(one["result"], expected, "{one:#}");
    }
    let (_, out, _) = mesh_optin(cluster, &nobody, &["doctor", "-o", "short"]);
    assert!(
        out.contains("skipped: needs list nodes")
            && out.contains("Nothing was found in what could be seen."),
        "{out}"
    );
    let (code, _, error) = mesh_optin(cluster, &nobody, &["status"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("the right to list meshnodes is missing"),
        "{error}"
    );
    let (code, _, error) = mesh_optin(cluster, &nobody, &["explain", "web", "-n", "team-a"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("the right to get pods in team-a is missing"),
        "{error}"
    );

    // with what the documentation asks for all is seen, and nothing is written
    let viewer = account(cluster, "viewer", &documented());
    doctor_says((cluster, &viewer, &[]), "all is seen", |code, json| {
        code == 0 && check(json, "Permissions")["result"] == "ok"
    });
    let requests = cluster.requests_of("system:serviceaccount:default:viewer");
    let reads = |request: &&String| request.starts_with("list ") || request.starts_with("get ");
    let others: Vec<_> = requests.iter().filter(|r| !reads(r)).collect();
    let is_known = |r: &&String| r.contains("selfsubjectaccessreviews") || r.contains("dryRun=All");
    assert!(others.iter().all(is_known), "{others:?}");
    let lists: Vec<_> = requests.iter().filter(|r| r.starts_with("list ")).collect();
    assert!(
        lists.iter().all(|r| r.contains("resourceVersion=0")),
        "from the API server's memory: {lists:?}"
    );

    // whoever may create attachments, and does not bypass the policies, sees that they refuse
    let tenant = json!([{"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"], "verbs": ["create"]}]);
    let mut rules = documented();
    rules
        .as_array_mut()
        .unwrap()
        .extend(tenant.as_array().unwrap().clone());
    let author = account(cluster, "author", &rules);
    doctor_says(
        (cluster, &author, &[]),
        "what is forbidden is refused",
        |code, json| code == 0 && check(json, "AdmissionInForce")["result"] == "ok",
    );
    assert!(
        cluster.attachment("default", "mesh-optin-doctor").is_none(),
        "it was only tried"
    );

    // of one namespace, with rights there alone: what is the cluster's is skipped
    let binding = json!({
        "metadata": {"name": "of-nobody"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": "default"}],
    });
    cluster.create(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings",
        &binding,
    );
    let in_team_a = (cluster, nobody.as_path(), &["-n", "team-a"][..]);
    doctor_says(
        in_team_a,
        "the pods of one namespace are seen",
        |_, json| {
            let skipped = check(json, "InjectedWithoutAttachment")["skipped"].to_string();
            !skipped.contains("list pods") && skipped.contains("list meshprofiles")
        },
    );
}

#[test]
fn an_old_api_server_and_one_with_another_clock_are_found() {
    const PORT: &str = "7491";
    let cluster = crate::cluster();
    let mut proxy = Proxy::start(cluster, "faults", &[PORT]);
    let config = cluster.kubeconfig("aged", &json!({"token": "admin"}));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(":6443", &format!(":{PORT}"))).unwrap();
    let aged = (cluster, config.as_path(), &["--pre"][..]);
    let is_ok = |json: &Value, name: &str| check(json, name)["result"] == "ok";
    doctor_says(aged, "as it is, both are well", |_, json| {
        is_ok(json, "KubernetesVersion") && is_ok(json, "ClockSkew")
    });
    proxy.tell("version v1.30.14");
    proxy.tell("clock -3600");
    doctor_says(aged, "it is old, and an hour behind", |code, json| {
        let (version, clock) = ("KubernetesVersion", "ClockSkew");
        code == 5
            && finds(
                json,
                version,
                "v1.30.14, which is older than 1.31",
                "upgrade Kubernetes",
            )
            && finds(json, clock, "s ahead of the API server's", "by NTP")
    });
    proxy.tell("clock 3600");
    doctor_says(aged, "it is an hour ahead", |_, json| {
        finds(json, "ClockSkew", "s behind the API server's", "by NTP")
    });
}

#[test]
fn a_cluster_that_does_not_answer_is_not_reported_as_healthy() {
    let cluster = crate::cluster();
    let config = cluster.kubeconfig("elsewhere", &json!({"token": "admin"}));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(":6443", ":1")).unwrap();
    for command in ["doctor", "status"] {
        let (code, out, error) = mesh_optin(cluster, &config, &[command]);
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        assert!(error.contains("refused"), "{error}");
    }
    let wrong = cluster.kubeconfig("wrong", &json!({"token": "nobody's"}));
    let (code, _, error) = mesh_optin(cluster, &wrong, &["doctor"]);
    assert_eq!(code, 1);
    assert!(error.contains("401"), "{error}");
}
