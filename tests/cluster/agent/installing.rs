//! What the agent puts onto the node, and keeps there.

use super::*;

#[test]
fn the_files_of_the_node_are_installed_and_restored() {
    on_node_with_agent(|node| {
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
        // another file that makes Multus fail is reported, until it is gone
        node.write("etc/cni/multus/net.d/00-broken.conf", "{");
        is_back(&|| {
            agent
                .get("/readyz")
                .contains("00-broken.conf keeps Multus from finding")
        });
        std::fs::remove_file(node.path("etc/cni/multus/net.d/00-broken.conf")).unwrap();
        is_back(&|| agent.get("/readyz") == "ready\n");
        // an agent that is asked for no credential removes it; one that an admin put there stays
        agent.end(Signal::SIGTERM);
        let agent = Agent::start(node, cluster(), "files", &[]).ready();
        until(|| !token.exists(), || agent.get("/readyz"));
        agent.end(Signal::SIGTERM);
        node.credential(
            crate::support::cluster::SERVER,
            &cluster().file("ca.crt"),
            &cluster().token("mesh-optin", "node"),
        );
        let _agent = Agent::start(node, cluster(), "files", &[]).ready();
        std::thread::sleep(Duration::from_secs(2));
        assert!(token.exists());
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
fn a_full_or_read_only_directory_is_reported_and_retried() {
    on_node_with_agent(|node| {
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
        let remove = || std::fs::remove_file(bin.join("mesh-optin")).unwrap();
        let agent = Agent::start(node, cluster(), "versions", &["--install-period", "1"]);
        let says = |part: &str| {
            until(
                || agent.get("/readyz").contains(part),
                || format!("{part}: {}", agent.get("/readyz")),
            );
        };
        says("ready");
        // not between the two
        agent.signal(Signal::SIGSTOP);
        remove();
        remount("ro");
        agent.signal(Signal::SIGCONT);
        says("the program cannot be put at /opt/cni/bin/mesh-optin: Read-only file system");
        remount("rw,size=64k");
        says("No space left on device");
        // nothing of it is left, but while it is tried again
        until(
            || std::fs::read_dir(&bin).unwrap().count() == 0,
            || agent.get("/readyz"),
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

#[test]
fn the_expiry_of_the_host_token_is_known_while_it_cannot_be_renewed() {
    let cluster = Cluster::start_with_team_a();
    cluster.create("/api/v1/nodes", &json!({"metadata": {"name": "expiry"}}));
    on_node_with_agent(|node| {
        let args = ["--install-period", "1", "--host-account", "mesh-optin/node"];
        let agent = Agent::start(node, &cluster, "expiry", &args).ready();
        let token = node.path("var/lib/mesh-optin/api/token");
        let metric = r#"mesh_optin_token_expiry_timestamp_seconds{which="host"}"#;
        let is_of_file = || {
            let text = std::fs::read_to_string(&token).unwrap_or_default();
            let expiry = (!text.is_empty())
                .then(|| token_claims(&text)["exp"].as_f64())
                .flatten();
            expiry == Some(agent.metric(metric))
        };
        until(is_of_file, || agent.get("/metrics"));
        let role =
            "/apis/rbac.authorization.k8s.io/v1/namespaces/mesh-optin/roles/mesh-optin-token";
        let may_renew = || {
            let ask = "kubectl auth can-i create serviceaccounts/node --subresource=token \
                 --namespace=mesh-optin --as=system:serviceaccount:mesh-optin:agent || true";
            cluster.enter(&["sh", "-c", ask]).trim().to_owned()
        };
        assert_eq!(may_renew(), "yes");
        cluster.request("DELETE", role, &Value::Null).unwrap();
        until(|| may_renew().starts_with("no"), may_renew);
        // more than half of its life is over, and it cannot be renewed
        let now = jiff::Timestamp::now().as_second();
        let expiry = now + 5_000;
        let claims = format!(r#"{{"iat":{},"exp":{expiry}}}"#, now - 10_000);
        let encoded = crate::support::run("base64", &["-w0"], &claims);
        let encoded = encoded
            .trim()
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        std::fs::write(&token, format!("e30.{encoded}.e30")).unwrap();
        let is_known = || agent.metric(metric) == expiry as f64;
        until(is_known, || agent.get("/metrics"));
        let failed = r#"mesh_optin_installs_total{what="token",result="failed"}"#;
        agent.reaches(failed, 1.0);
        std::fs::remove_file(&token).unwrap();
        // a minute after the renewal that failed
        let is_gone = || !agent.get("/metrics").contains(metric);
        until_within(90, is_gone, || agent.get("/metrics"));
    });
}

#[test]
fn a_foreign_configuration_is_left_or_taken_over_and_restored_on_uninstall() {
    on_node_with_agent(|node| {
        let theirs = "{\"cniVersion\":\"0.3.1\",\"name\":\"istio-cni\",\"type\":\"istio-cni\"}";
        let conf = "etc/cni/multus/net.d/istio-cni.conf";
        let there = || std::fs::read_to_string(node.path(conf)).unwrap();
        node.write(conf, theirs);
        let agent = Agent::start(node, cluster(), "beside", &["--install-period", "1"]);
        until(
            || agent.get("/readyz").contains("--take-over=istio-cni"),
            || agent.get("/readyz"),
        );
        assert_eq!(there(), theirs);
        assert!(
            node.path("opt/cni/bin/mesh-optin").exists(),
            "the rest is done"
        );
        agent.end(Signal::SIGTERM);
        let args = ["--take-over", "istio-cni"];
        let agent = Agent::start(node, cluster(), "beside", &args).ready();
        assert!(there().contains("mesh-optin"));
        agent.end(Signal::SIGTERM);
        let output = node.program(&["agent", "uninstall"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(there(), theirs);
        assert!(!node.path("var/lib/mesh-optin").exists());
    });
}

#[test]
fn a_directory_that_multus_does_not_use_is_reported() {
    on_node_with_agent(|node| {
        let multus = |bin: &str| {
            let conf = json!({"name": "multus-cni-network", "type": "multus", "binDir": bin});
            node.write("etc/cni/net.d/00-multus.conf", &conf.to_string());
        };
        multus("/var/lib/rancher/k3s/data/cni");
        let agent = Agent::start(node, cluster(), "elsewhere", &["--install-period", "1"]);
        let remedy = "start the agent with --cni-bin-dir=/var/lib/rancher/k3s/data/cni";
        until(
            || agent.get("/readyz").contains(remedy),
            || agent.get("/readyz"),
        );
        let condition = |status: &str| {
            agent.metric(&format!(
                r#"mesh_optin_condition{{type="PathsVerified",status="{status}"}}"#
            ))
        };
        assert_eq!(condition("False"), 1.0);
        multus("/opt/cni/bin");
        let agent = agent.ready();
        until(
            || agent.metric(r#"mesh_optin_condition{type="PathsVerified",status="True"}"#) == 1.0,
            || agent.get("/metrics"),
        );
        // a daemon's directories are known by what it calls
        node.write(
            "etc/cni/net.d/00-multus.conf",
            r#"{"name":"m","type":"multus-shim"}"#,
        );
        until(
            || {
                agent.metric(r#"mesh_optin_condition{type="PathsVerified",status="Unknown"}"#)
                    == 1.0
            },
            || agent.get("/metrics"),
        );
        let pod = cluster().create_pod_on("elsewhere", "opt-out", "elsewhere");
        let lab = node.pod("a", V4);
        add(node, cluster(), &lab.netns, &cni_args(&pod));
        until(
            || agent.metric(r#"mesh_optin_condition{type="PathsVerified",status="True"}"#) == 1.0,
            || agent.get("/metrics"),
        );
        // a cache that is not there is no proof that nothing needs the program
        agent.end(Signal::SIGTERM);
        let output = node.program(&["agent", "uninstall"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && said.contains("--multus-cache-dir"),
            "{said}"
        );
    });
}

#[test]
fn an_agent_on_a_node_that_cannot_redirect_is_not_ready_and_does_not_take_over() {
    on_node_with_agent(|node| {
        let older = Agent::start(node, cluster(), "unable", &[]).ready();
        let port = ["--probe-port", "19646"];
        let unable = Agent::start_without_net_admin(node, cluster(), "unable", &port);
        until(
            || unable.get("/readyz").contains("KernelRefused"),
            || unable.get("/readyz"),
        );
        std::thread::sleep(Duration::from_secs(3));
        assert_ne!(unable.get("/readyz"), "ready\n");
        assert_eq!(older.get("/readyz"), "ready\n");
        let pod = cluster().create_pod_on("unable", "defaults", "unable");
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        older.reaches("mesh_optin_cached_pods", 1.0);
    });
}
