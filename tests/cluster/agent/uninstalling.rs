//! What `agent uninstall` removes from the node, and what it waits for.

use std::path::PathBuf;

use super::*;

#[test]
fn uninstalling_refuses_adds_keeps_the_program_for_dels_and_then_removes_all() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "uninstall", &["--install-period", "1"]);
        let uninstall = |node: &Node| {
            let output = node
                .program(&["agent", "uninstall"])
                .env("KUBERNETES_SERVICE_HOST", "a.name")
                .output()
                .unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        // a sandbox that Istio's plugin made: its DEL is still to come
        let cache = node.path("var/lib/cni/multus/c0ffee");
        node.write(
            "var/lib/cni/multus/c0ffee",
            r#"[{"Conf":{"type":"istio-cni"}},{"Conf":{"type":"mesh-optin"}}]"#,
        );
        let agent = agent.ready();
        let old = node.path("opt/cni/bin/istio-cni");
        until(|| old.exists(), String::new);
        let pod = cluster().create_pod_on("uninstall", "defaults", "uninstall");
        let lab = node.pod("a", V4);
        let (code, said) = uninstall(node);
        assert!(
            code == Some(1) && said.contains("the agent of this node runs"),
            "{code:?} {said}"
        );
        agent.end(Signal::SIGTERM);
        let (code, said) = uninstall(node);
        let named = "Uninstalled: sandboxes of this node still name \
                     istio-cni (/var/lib/cni/multus/c0ffee), mesh-optin (/var/lib/cni/multus/c0ffee)";
        assert!(code == Some(1) && said.contains(named), "{code:?} {said}");
        let (message, _) = add(node, cluster(), &lab.netns, &cni_args(&pod)).error();
        assert!(message.starts_with("Uninstalled: "), "{message}");
        let del = crate::support::lab::inside(&cluster().netns, || {
            node.call("DEL", &lab.netns, "", "{}")
        });
        assert_eq!((del.code, del.stdout.as_str()), (0, ""));
        std::fs::write(&cache, "[{").unwrap();
        assert!(
            uninstall(node).1.contains("cannot be told"),
            "what cannot be read may name it"
        );
        std::fs::remove_file(cache).unwrap();
        assert_eq!(uninstall(node).0, Some(0));
        for path in ["opt/cni/bin", "etc/cni/multus/net.d"] {
            assert_eq!(
                std::fs::read_dir(node.path(path)).unwrap().count(),
                0,
                "{path}"
            );
        }
        assert!(!node.path("var/lib/mesh-optin").exists() && !node.path("run/mesh-optin").exists());
        assert_eq!(uninstall(node).0, Some(0), "again");
    });
}

/// The alias for a sandbox that Istio's plugin made, from an agent of this name that has ended.
fn alias_of_an_agent_that_ended(node: &Node, name: &str) -> PathBuf {
    let agent = Agent::start(node, cluster(), name, &["--install-period", "1"]);
    let cache = "var/lib/cni/multus/c0ffee";
    node.write(cache, r#"[{"Conf":{"type":"istio-cni"}}]"#);
    let agent = agent.ready();
    let alias = node.path("opt/cni/bin/istio-cni");
    until(|| alias.exists(), String::new);
    agent.end(Signal::SIGTERM);
    alias
}

#[test]
fn uninstalling_does_not_wait_for_pods_whose_own_plugin_is_back() {
    on_node_with_agent(|node| {
        let alias = alias_of_an_agent_that_ended(node, "plugin-back");
        let uninstall = || node.program(&["agent", "uninstall"]).output().unwrap();
        // Istio's plugin came after the last pass of the agent, and went: the pod's DEL needs one
        std::fs::remove_file(&alias).unwrap();
        assert_eq!(uninstall().status.code(), Some(1));
        assert!(alias.exists());
        // it came to stay
        node.write("opt/cni/bin/new", "Istio's own");
        std::fs::rename(node.path("opt/cni/bin/new"), &alias).unwrap();
        let output = uninstall();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(std::fs::read_to_string(&alias).unwrap(), "Istio's own");
        assert!(!node.path("opt/cni/bin/mesh-optin").exists());
    });
}

#[test]
fn uninstalling_removes_an_alias_that_a_killed_installer_left_and_reads_the_cache_it_is_told() {
    on_node_with_agent(|node| {
        let alias = alias_of_an_agent_that_ended(node, "alias-left");
        // killed before it recorded the new program's digest
        let installed = "var/lib/mesh-optin/installed.json";
        let text = std::fs::read_to_string(node.path(installed)).unwrap();
        let mut record: Value = serde_json::from_str(&text).unwrap();
        record["programs"]["/opt/cni/bin/istio-cni"] = "1-old".into();
        node.write(installed, &record.to_string());
        // Multus's cache is elsewhere
        let elsewhere = node.path("var/lib/cni/other");
        std::fs::rename(node.path("var/lib/cni/multus"), &elsewhere).unwrap();
        let uninstall = || {
            let args = [
                "agent",
                "uninstall",
                "--multus-cache-dir=/var/lib/cni/other",
            ];
            node.program(&args).output().unwrap()
        };
        let output = uninstall();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("istio-cni (/var/lib/cni/other/c0ffee)"),
            "{said}"
        );
        std::fs::remove_file(elsewhere.join("c0ffee")).unwrap();
        assert!(uninstall().status.success());
        assert!(!alias.exists());
    });
}
