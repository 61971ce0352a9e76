//! The cluster's MeshProfiles, with the agent and without it.

use super::*;

#[test]
fn profiles_of_the_cluster_govern_and_are_kept_while_the_agent_is_away() {
    let cluster = Cluster::start_with_team_a();
    cluster.create("/api/v1/nodes", &json!({"metadata": {"name": "profiles"}}));
    cluster.apply_crds();
    on_node_with_agent(|node| {
        let agent = Agent::start(
            node,
            &cluster,
            "profiles",
            &["--host-account", "mesh-optin/node"],
        )
        .ready();
        // all that crds/README.md documents, and nothing that it does not
        let readme = include_str!("../../../crds/README.md");
        let documented = readme
            .split("```yaml\n")
            .find(|block| block.contains("kind: MeshProfile\n"))
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        cluster.apply(documented);
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
        // the copy outlives the last profile, for pods that have run; by default the built-in one governs then
        cluster.request("DELETE", path, &Value::Null).unwrap();
        let broken = "/apis/meshoptin.dev/v1alpha1/meshprofiles/broken";
        cluster.request("DELETE", broken, &Value::Null).unwrap();
        let kind = node.path("var/lib/mesh-optin/profiles/.kind");
        until(
            || std::fs::read_to_string(&kind).is_ok_and(|kind| kind == "gone\n"),
            || agent.get("/readyz"),
        );
        assert!(
            snapshot.exists()
                || node
                    .path("var/lib/mesh-optin/profiles/broken.yaml")
                    .exists()
        );
        assert!(explain(node).contains("Redirected: "), "{}", explain(node));
        drop(agent);
    });
}

#[test]
fn after_the_last_profile_is_deleted_pods_that_have_run_are_redirected_and_new_ones_refused() {
    let cluster = Cluster::start_with_team_a();
    on_node_with_agent(|node| {
        // until the cluster has the kind, the built-in profile governs
        let args = ["--default-profile", "Auto", "--log-level", "debug"];
        let agent = Agent::start(node, &cluster, "last", &args).ready();
        let settings = node.path("var/lib/mesh-optin/node.yaml");
        assert_eq!(
            std::fs::read_to_string(settings).unwrap(),
            "{\"defaultProfile\":\"Auto\",\"logLevel\":\"debug\"}\n"
        );
        let (fresh, ran) = (
            cluster.create_pod_on("last", "defaults", "fresh"),
            cluster.create_pod_on("last", "defaults", "ran"),
        );
        cluster.patch(
            "/api/v1/namespaces/team-a/pods/ran/status",
            &json!({"status": {"containerStatuses": [{"name": "istio-proxy", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "containerID": "containerd://1"}]}}),
        );
        let lab = node.pod("a", V4);
        let reason = |pod: &Value| {
            let call = add(node, &cluster, &lab.netns, &cni_args(pod));
            std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).ok();
            call.logged_reason()
        };
        assert_eq!(reason(&fresh), "Redirected");
        std::thread::sleep(Duration::from_secs(5)); // what it was started with is read
        assert_eq!(
            std::fs::read_to_string(node.path("var/lib/mesh-optin/profiles/.kind")).unwrap(),
            "unserved\n"
        );
        assert_eq!(reason(&fresh), "AlreadyRedirected");
        cluster.apply_crds();
        agent.end(Signal::SIGTERM); // or it looks for the kind again after minutes
        let agent = Agent::start(node, &cluster, "last", &args);
        let is_refused = || reason(&fresh) == "UnknownProfile";
        until(is_refused, || agent.get("/readyz"));
        until(
            || {
                agent
                    .get("/readyz")
                    .contains("the cluster has no MeshProfile")
            },
            || agent.get("/readyz"),
        );
        let profiles = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
        cluster.create(profiles, &profile(&json!({})));
        let is_known = |pod: &Value| reason(pod) == "AlreadyRedirected";
        until(|| is_known(&fresh), || agent.get("/readyz"));
        let default = format!("{profiles}/default");
        cluster.request("DELETE", &default, &Value::Null).unwrap();
        until(is_refused, || agent.get("/readyz"));
        assert!(is_known(&ran));
        until(
            || {
                agent
                    .get("/readyz")
                    .contains("no longer has any MeshProfile")
            },
            || agent.get("/readyz"),
        );
        // the same from the copy, while the agent is away
        agent.end(Signal::SIGTERM);
        node.write(
            "etc/mesh-optin/node.yaml",
            "{deadline: 5s, sources: [manifests], manifests: /etc/manifests}",
        );
        cluster
            .request("GET", "/api/v1/namespaces/team-a", &Value::Null)
            .map(|mut namespace| {
                namespace["kind"] = json!("Namespace");
                namespace["apiVersion"] = json!("v1");
                node.write("etc/manifests/namespace.yaml", &namespace.to_string());
            })
            .unwrap();
        for (name, expected) in [("fresh", "UnknownProfile"), ("ran", "AlreadyRedirected")] {
            let path = format!("/api/v1/namespaces/team-a/pods/{name}");
            let mut pod = cluster.request("GET", &path, &Value::Null).unwrap();
            (pod["kind"], pod["apiVersion"]) = (json!("Pod"), json!("v1"));
            node.write("etc/manifests/pod.yaml", &pod.to_string());
            assert_eq!(reason(&pod), expected);
        }
    });
}

#[test]
fn nothing_is_decided_before_the_profiles_of_the_cluster_are_known() {
    let cluster = Cluster::start_with_team_a();
    on_node_with_agent(|node| {
        let pod = cluster.create_pod_on("unknown", "defaults", "unknown");
        let lab = node.pod("a", V4);
        // the agent may not list them
        cluster.patch_rbac_away("meshprofiles");
        let agent = Agent::start(node, &cluster, "unknown", &["--install-period", "1"]);
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 10s}");
        let (message, _) = add(node, &cluster, &lab.netns, &cni_args(&pod)).error();
        assert!(
            message.starts_with(
                "AgentUnavailable: the agent does not know the cluster's MeshProfiles yet"
            ),
            "{message}"
        );
        until(
            || agent.get("/readyz").contains("MeshProfiles"),
            || agent.get("/readyz"),
        );
        assert!(!node.path("etc/cni/multus/net.d/istio-cni.conf").exists());
        cluster.apply_rbac();
        // after the pause that it is in, which has grown by then
        let is_ready = || agent.get("/readyz") == "ready\n";
        until_within(90, is_ready, || agent.get("/readyz"));
        assert_eq!(
            add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
        assert!(agent.get("/metrics").contains("mesh_optin_look_ups_total"));
    });
}

#[test]
fn an_unknown_field_changes_nothing_on_an_older_agent_unless_the_profile_requires_a_newer_one() {
    let cluster = Cluster::start_with_team_a();
    cluster.apply_crds();
    on_node_with_agent(|node| {
        let profiles = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
        cluster.create(
            profiles,
            &profile(&json!({"excludedNamespaces": ["team-a"]})),
        );
        let agent = Agent::start(node, &cluster, "older", &[]).ready();
        let pod = cluster.create_pod_on("older", "defaults", "governed");
        let lab = node.pod("a", V4);
        let reason = || add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason();
        assert_eq!(reason(), "NamespaceExcluded");
        // a newer version's policy would take it
        let default = format!("{profiles}/default");
        cluster.patch(
            &default,
            &json!({"spec": {"fromTheFuture": {"a": 1}, "excludedNamespaces": []}}),
        );
        let known = |status: &str| {
            agent.metric(&format!(
                r#"mesh_optin_condition{{type="ProfilesKnown",status="{status}"}}"#
            ))
        };
        until(|| known("False") == 1.0, || agent.get("/metrics"));
        assert_eq!(reason(), "NamespaceExcluded", "as it could be read last");
        assert_eq!(agent.get("/readyz"), "ready\n");
        // also after its own restart, and on the node alone
        agent.end(Signal::SIGKILL);
        let agent = Agent::start(node, &cluster, "older", &[]).ready();
        assert_eq!(reason(), "NamespaceExcluded");
        cluster.patch(&default, &json!({"spec": {"requires": "99.0.0"}}));
        until(|| reason() == "UnknownProfile", || agent.get("/readyz"));
        let (message, _) = add(node, &cluster, &lab.netns, &cni_args(&pod)).error();
        assert!(
            message.contains(r#"it needs mesh-optin "99.0.0""#),
            "{message}"
        );
        cluster.patch(
            &default,
            &json!({"spec": {"requires": null, "fromTheFuture": null}}),
        );
        until(|| reason() == "Redirected", || agent.get("/readyz"));
    });
}
