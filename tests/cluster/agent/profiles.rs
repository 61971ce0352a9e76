//! The cluster's MeshProfiles, with the agent and without it.

use super::*;

#[test]
fn the_cluster_s_profiles_govern_and_are_kept_for_when_the_agent_is_away() {
    let cluster = Cluster::start_with_team_a();
    cluster.create("/api/v1/nodes", &json!({"metadata": {"name": "profiles"}}));
    cluster.apply(
        &std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/crds/meshoptin.dev_meshprofiles.yaml"
        ))
        .unwrap(),
    );
    on_agent_s_node(|node| {
        let agent = Agent::start(
            node,
            &cluster,
            "profiles",
            &["--host-account", "mesh-optin/node"],
        )
        .ready();
        // all that the README documents, and nothing that it does not
        let readme = include_str!("../../../README.md");
        let documented = readme
            .split("```yaml\n")
            .find(|block| block.contains("kind: MeshProfile\n"))
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        cluster.apply(documented);
        let unknown = profile(&json!({"enrolment": {}}));
        let strict = "/apis/meshoptin.dev/v1alpha1/meshprofiles?fieldValidation=Strict";
        assert!(
            cluster.request("POST", strict, &unknown).unwrap_err()["message"]
                .as_str()
                .unwrap()
                .contains("enrolment")
        );
        let pod = cluster.create_pod_on("profiles", "defaults", "governed");
        let snapshot = node.path("var/lib/mesh-optin/profiles/default.yaml");
        let says = |part: &str| {
            until(
                || std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains(part)),
                || agent.get("/metrics"),
            );
        };
        let path = "/apis/meshoptin.dev/v1alpha1/meshprofiles/default";
        cluster.patch(path, &json!({"spec": {"excludedNamespaces": ["team-a"]}}));
        says(r#""excludedNamespaces":["team-a"]"#);
        let lab = node.pod("a", V4);
        assert_eq!(
            add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(),
            "NamespaceExcluded"
        );
        // one that cannot be read refuses its own namespaces only
        let selector = json!({"namespaces": {"matchLabels": {"other": "yes"}}, "redirect": {"traffic": {"excludeOutboundPorts": "x"}}});
        cluster.create(
            "/apis/meshoptin.dev/v1alpha1/meshprofiles",
            &json!({
            "apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "broken"}, "spec": selector}),
        );
        cluster.namespace(
            "other",
            &json!({"istio-injection": "enabled", "other": "yes"}),
        );
        until(
            || {
                node.path("var/lib/mesh-optin/profiles/broken.yaml")
                    .exists()
            },
            || agent.get("/readyz"),
        );
        let of_other = cluster.create_changed_pod_in("other", "defaults", "other", |pod| {
            pod["spec"]["nodeName"] = json!("profiles")
        });
        let (message, _) = add(node, &cluster, &lab.netns, &cni_args(&of_other)).error();
        assert!(message.starts_with("NodeConfigInvalid: MeshProfile broken, which governs namespace other, cannot be read: "), "{message}");
        assert_eq!(
            add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(),
            "NamespaceExcluded"
        );
        let explain = |node: &Node| {
            let args = ["explain", "governed", "-n", "team-a"];
            let output = crate::support::lab::inside(&cluster.netns, || {
                node.program(&args).output().unwrap()
            });
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(
            explain(node).contains("NamespaceExcluded: profile default excludes namespace team-a"),
            "{}",
            explain(node)
        );
        agent.end(Signal::SIGTERM);
        assert_eq!(
            add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(),
            "NamespaceExcluded",
            "as it was kept"
        );
        assert!(
            add(node, &cluster, &lab.netns, &cni_args(&of_other))
                .error()
                .0
                .starts_with("NodeConfigInvalid: MeshProfile broken")
        );
        // what changed meanwhile counts from the first answer on
        cluster.patch(path, &json!({"spec": {"excludedNamespaces": []}}));
        let agent = Agent::start(node, &cluster, "profiles", &[]);
        assert_eq!(
            add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
        let agent = agent.ready();
        assert!(explain(node).contains("Redirected: "), "{}", explain(node));
        cluster.request("DELETE", path, &Value::Null).unwrap();
        until(|| !snapshot.exists(), String::new);
        drop(agent);
    });
}

#[test]
fn nothing_is_decided_before_the_cluster_s_profiles_are_known() {
    let cluster = Cluster::start_with_team_a();
    on_agent_s_node(|node| {
        let pod = cluster.create_pod_on("unknown", "defaults", "unknown");
        let lab = node.pod("a", V4);
        // the agent may not list them
        cluster.patch_rbac_away("meshprofiles");
        let agent = Agent::start(node, &cluster, "unknown", &["--install-period", "1"]);
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 1s}");
        let (message, _) = add(node, &cluster, &lab.netns, &cni_args(&pod)).error();
        assert!(
            message.starts_with(
                "AgentUnavailable: the agent does not know the cluster's MeshProfiles yet"
            ),
            "{message}"
        );
        assert!(
            agent.get("/readyz").contains("MeshProfiles"),
            "{}",
            agent.get("/readyz")
        );
        assert!(!node.path("etc/cni/multus/net.d/istio-cni.conf").exists());
        cluster.apply_rbac();
        let agent = agent.ready();
        assert_eq!(
            add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
        assert!(agent.get("/metrics").contains("mesh_optin_look_ups_total"));
    });
}
