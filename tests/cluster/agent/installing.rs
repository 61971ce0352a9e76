//! What the agent puts onto the node, keeps there and removes.

use super::*;

#[test]
fn the_node_s_files_are_put_there_and_put_back() {
    on_agent_s_node(|node| {
        cluster().create("/api/v1/nodes", &json!({"metadata": {"name": "files"}}));
        let args = [
            "--host-account",
            "mesh-optin/node",
            "--install-period",
            "1",
            "--attachment",
            "v2-6-istio-cni",
        ];
        let agent = Agent::start(node, cluster(), "files", &args).ready();
        let (program, conf) = (
            node.path("opt/cni/bin/mesh-optin"),
            node.path("etc/cni/multus/net.d/istio-cni.conf"),
        );
        let token = node.path("var/lib/mesh-optin/api/token");
        let ours = std::fs::read(env!("CARGO_BIN_EXE_mesh-optin")).unwrap();
        let is_back = |what: &dyn Fn() -> bool| {
            until(what, || agent.get("/readyz"));
        };
        assert!(std::fs::read(&program).unwrap() == ours);
        let text = std::fs::read_to_string(&conf).unwrap();
        assert_eq!(
            text,
            "{\"cniVersion\":\"1.1.0\",\"name\":\"istio-cni\",\"type\":\"mesh-optin\"}\n"
        );
        assert!(
            node.path("etc/cni/multus/net.d/v2-6-istio-cni.conf")
                .exists()
        );
        // missing, cut off, overwritten
        std::fs::remove_file(&program).unwrap();
        is_back(&|| std::fs::read(&program).is_ok_and(|p| p == ours));
        std::fs::write(&program, "x").unwrap();
        is_back(&|| std::fs::read(&program).is_ok_and(|p| p == ours));
        std::fs::remove_file(&conf).unwrap();
        is_back(&|| std::fs::read_to_string(&conf).is_ok_and(|c| c == text));
        let first = std::fs::read_to_string(&token).unwrap();
        for broken in ["", "nonsense", "e30.eyJleHAiOjE3MDAwMDAwMDB9.e30"] {
            std::fs::write(&token, broken).unwrap();
            is_back(&|| std::fs::read_to_string(&token).is_ok_and(|t| t.len() > 500));
        }
        assert_ne!(std::fs::read_to_string(&token).unwrap(), first);
        // it is the narrow account's, and bound to the node: it outlives the agent's pod
        let claims = token_claims(&std::fs::read_to_string(&token).unwrap());
        assert_eq!(claims["sub"], "system:serviceaccount:mesh-optin:node");
        assert_eq!(claims["kubernetes.io"]["node"]["name"], "files");
        assert_eq!(agent.get("/readyz"), "ready\n");
        // a neighbour that Multus stumbles over is told, and forgotten when it is gone
        node.write("etc/cni/multus/net.d/00-broken.conf", "{");
        is_back(&|| {
            agent
                .get("/readyz")
                .contains("00-broken.conf keeps Multus from finding")
        });
        std::fs::remove_file(node.path("etc/cni/multus/net.d/00-broken.conf")).unwrap();
        is_back(&|| agent.get("/readyz") == "ready\n");
    });
}

/// What a token says of itself.
fn token_claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    let padded = format!("{claims}{}", "=".repeat((4 - claims.len() % 4) % 4))
        .replace('-', "+")
        .replace('_', "/");
    serde_json::from_str(&crate::support::run("base64", &["-d"], &padded)).unwrap()
}

#[test]
fn uninstalling_refuses_adds_keeps_the_program_for_dels_and_then_removes_all() {
    on_agent_s_node(|node| {
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
        let named = "Uninstalled: sandboxes of this node still name istio-cni, mesh-optin";
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

#[test]
fn a_newer_version_is_not_replaced_and_a_full_or_read_only_directory_is_told_and_tried_again() {
    on_agent_s_node(|node| {
        node.write(
            "var/lib/mesh-optin/installed.json",
            r#"{"version":"99.0.0"}"#,
        );
        let bin = node.path("opt/cni/bin");
        std::fs::create_dir_all(&bin).unwrap();
        crate::support::lab::mount_(
            "tmpfs",
            bin.to_str().unwrap(),
            "tmpfs",
            nix::mount::MsFlags::empty(),
        );
        let remount = |options: &str| {
            crate::support::run(
                "mount",
                &["-o", &format!("remount,{options}"), bin.to_str().unwrap()],
                "",
            )
        };
        let agent = Agent::start(node, cluster(), "versions", &["--install-period", "1"]);
        let says = |part: &str| {
            until(
                || agent.get("/readyz").contains(part),
                || format!("{part}: {}", agent.get("/readyz")),
            );
        };
        says("ready");
        assert_eq!(
            std::fs::read_dir(&bin).unwrap().count(),
            0,
            "the newer version stays as it is"
        );
        remount("ro");
        std::fs::remove_file(node.path("var/lib/mesh-optin/installed.json")).unwrap();
        says("the program cannot be put at /opt/cni/bin/mesh-optin: Read-only file system");
        remount("rw,size=64k");
        says("No space left on device");
        assert_eq!(
            std::fs::read_dir(&bin).unwrap().count(),
            0,
            "nothing of it is left"
        );
        remount("rw,size=500m");
        says("ready");
        assert!(
            bin.join("mesh-optin").exists()
                && agent.metric(r#"mesh_optin_installs_total{what="program",result="failed"}"#)
                    >= 2.0
        );
    });
}
