//! Which of our requests the API server's priority and fairness handles apart from others.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cluster,
    support::{cluster::SERVER, controller::until},
};

#[test]
fn look_ups_our_lists_and_all_other_requests_have_separate_priority_levels() {
    let uid_of = |name: &str| {
        let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/{name}");
        let schema = || cluster().request("GET", &path, &Value::Null).unwrap();
        until("its priority level is known", || {
            let condition = schema()["status"]["conditions"][0].clone();
            (&condition["type"], &condition["status"]) == (&"Dangling".into(), &"False".into())
        });
        schema()["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let ours: BTreeMap<_, _> = ["mesh-optin-look-ups", "mesh-optin"]
        .map(|name| (uid_of(name), name))
        .into();
    let token = |account: &str| cluster().token("mesh-optin", account);
    let tokens = BTreeMap::from(["agent", "node"].map(|account| (account, token(account))));
    let events = "/apis/events.k8s.io/v1/namespaces/team-a/events";
    for (account, verb, path, schema) in [
        (
            "agent",
            "GET",
            "/api/v1/namespaces/team-a",
            "mesh-optin-look-ups",
        ),
        (
            "agent",
            "GET",
            "/api/v1/namespaces/team-a?resourceVersion=0",
            "mesh-optin-look-ups",
        ),
        (
            "agent",
            "GET",
            "/api/v1/namespaces/team-a/pods/x",
            "mesh-optin-look-ups",
        ),
        (
            "agent",
            "GET",
            "/apis/node.k8s.io/v1/runtimeclasses/x",
            "mesh-optin-look-ups",
        ),
        (
            "node",
            "GET",
            "/api/v1/namespaces/team-a/pods/x",
            "mesh-optin-look-ups",
        ),
        (
            "agent",
            "GET",
            "/api/v1/pods?resourceVersion=0",
            "mesh-optin",
        ),
        (
            "agent",
            "GET",
            "/apis/meshoptin.dev/v1alpha1/meshprofiles?resourceVersion=0",
            "mesh-optin",
        ),
        ("agent", "POST", events, "mesh-optin"),
    ] {
        let authorization = format!("Authorization: Bearer {}", tokens[account]);
        let url = format!("{SERVER}{path}");
        let headers = cluster().enter(&[
            "curl",
            "-sS",
            "--cacert",
            "/mnt/ca.crt",
            "-o",
            "/dev/null",
            "-D",
            "-",
            "-X",
            verb,
            "-H",
            &authorization,
            &url,
        ]);
        let uid = headers.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("x-kubernetes-pf-flowschema-uid")
                .then(|| value.trim().to_owned())
        });
        let found = uid.as_ref().and_then(|uid| ours.get(uid));
        assert_eq!(found, Some(&schema), "{account} {verb} {path}: {headers}");
    }
}
