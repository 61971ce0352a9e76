//! The roles for people, as somebody who has them.

use serde_json::{Value, json};

use super::{PROFILES, bind_role, eventually, guarded, profile, request};

#[test]
fn viewers_see_profiles_editors_change_them_and_nobody_gets_more() {
    let cluster = guarded();
    // what aggregates into view is put there by the controller manager, which does not run here: the label is what it looks at
    let view = cluster
        .request(
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/mesh-optin-view",
            &Value::Null,
        )
        .unwrap();
    assert_eq!(
        view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"],
        "true"
    );
    bind_role(cluster, "viewer", "mesh-optin-view");
    bind_role(cluster, "profile-editor", "mesh-optin-profile-editor");
    let can = |user: &str, method: &str, path: &str, body: &Value| match request(
        cluster,
        user,
        (method, path),
        "application/json",
        body,
    )
    .0
    {
        Ok(_) => true,
        Err(why) if why.contains("forbidden") => false,
        Err(why) => panic!("{user} {method} {path}: {why}"),
    };
    let nodes = "/apis/meshoptin.dev/v1alpha1/meshnodes";
    let new = profile(
        "new",
        &json!({"namespaces": {"matchLabels": {"team": "nobody"}}}),
    );
    let none = Value::Null;
    let dry = format!("{PROFILES}?dryRun=All");
    eventually(|| {
        can("viewer", "GET", PROFILES, &none) && can("profile-editor", "GET", PROFILES, &none)
    });
    for (user, method, path, body, may) in [
        ("viewer", "GET", PROFILES, &none, true),
        ("viewer", "GET", &format!("{PROFILES}/strict"), &none, true),
        ("viewer", "POST", &dry, &new, false),
        (
            "viewer",
            "DELETE",
            &format!("{PROFILES}/strict?dryRun=All"),
            &none,
            false,
        ),
        ("viewer", "GET", nodes, &none, false),
        ("profile-editor", "GET", PROFILES, &none, true),
        ("profile-editor", "POST", &dry, &new, true),
        (
            "profile-editor",
            "DELETE",
            &format!("{PROFILES}/strict?dryRun=All"),
            &none,
            true,
        ),
        ("profile-editor", "GET", nodes, &none, false),
        ("tenant", "GET", PROFILES, &none, false),
        ("tenant", "GET", nodes, &none, false),
    ] {
        assert_eq!(can(user, method, path, body), may, "{user} {method} {path}");
    }
    // and what a status says is the controller's
    let status = request(
        cluster,
        "profile-editor",
        ("PATCH", &format!("{PROFILES}/strict/status")),
        "application/merge-patch+json",
        &json!({"status": {}}),
    )
    .0;
    assert!(status.unwrap_err().contains("forbidden"));
}
