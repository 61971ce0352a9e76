//! What a released version left on the node.

use super::*;

#[test]
fn a_record_of_0_1_0_is_read_verified_and_audited() {
    on_node_with_agent(|node| {
        let pod = cluster().create_pod_on("of-0-1-0", "defaults", "of-0-1-0");
        let namespace = cluster()
            .request("GET", "/api/v1/namespaces/team-a", &Value::Null)
            .unwrap();
        node.manifests(&[pod.clone(), namespace]);
        let lab = node.pod("a", V4);
        let by_older = node.with_version("0.1.0", || {
            node.write(
                "etc/mesh-optin/node.yaml",
                "{sources: [manifests], manifests: /manifests}",
            );
            let version = node.program(&["--version"]).output().unwrap();
            assert_eq!(version.stdout, b"mesh-optin 0.1.0\n");
            add(node, cluster(), &lab.netns, &cni_args(&pod))
        });
        assert_eq!(by_older.logged_reason(), "Redirected", "{by_older:?}");
        is_redirected(&lab);
        let state = lab.state();
        node.write("etc/mesh-optin/node.yaml", "{deadline: 15s}");
        let agent = Agent::start(node, cluster(), "of-0-1-0", &["--audit-period", "1"]).ready();
        agent.reaches(r#"mesh_optin_audit_pods{state="consistent"}"#, 1.0);
        let verify = || {
            crate::support::lab::inside(&cluster().netns, || {
                node.program(&["verify", "--all"]).output().unwrap()
            })
        };
        assert_eq!(verify().status.code(), Some(0), "{:?}", verify());
        let repeated = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(
            repeated.logged_reason(),
            "AlreadyRedirected",
            "{repeated:?}"
        );
        assert_eq!(lab.state(), state);
        // it is compared with what that record says
        crate::support::lab::inside(&lab.pod, || {
            crate::support::run(
                "nft",
                &["flush", "chain", "inet", "mesh-optin", "output"],
                "",
            )
        });
        agent.reaches(r#"mesh_optin_audit_pods{state="drifted"}"#, 1.0);
        assert_eq!(verify().status.code(), Some(5));
    });
}

#[test]
fn an_agent_of_0_1_0_does_not_tell_all_that_decides_so_the_plugin_waits_for_its_upgrade() {
    on_node_with_agent(|node| {
        let pod = cluster().create_pod_on("skewed", "defaults", "skewed");
        let (lab, refused) = (node.pod("a", V4), node.pod("b", V4));
        let older = node.with_version("0.1.0", || {
            Agent::start(node, cluster(), "skewed", &[]).ready()
        });
        node.write("etc/mesh-optin/node.yaml", "{deadline: 2s}");
        // what it says is what the last attempt met, which may have begun too late to hear that
        until(
            || {
                let (message, code) = add(node, cluster(), &refused.netns, &cni_args(&pod)).error();
                assert_eq!(code, 11, "{message}");
                message.contains("it is of an older version (it speaks 1, we speak 2)")
            },
            || "it does not say why it waits".into(),
        );
        assert!(
            !refused.state().contains("mesh-optin"),
            "nothing was decided"
        );
        node.write("etc/mesh-optin/node.yaml", "{deadline: 30s}");
        std::thread::scope(|scope| {
            let call = scope.spawn(|| add(node, cluster(), &lab.netns, &cni_args(&pod)));
            std::thread::sleep(Duration::from_secs(1));
            assert!(!call.is_finished(), "it waits");
            older.end(Signal::SIGTERM);
            let _upgraded = Agent::start(node, cluster(), "skewed", &[]).ready();
            let call = call.join().unwrap();
            assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        });
        is_redirected(&lab);
    });
}

#[test]
fn where_another_source_knows_the_whole_pod_an_older_agent_is_passed_over() {
    on_node_with_agent(|node| {
        let pod = cluster().create_pod_on("passed", "defaults", "passed");
        let lab = node.pod("a", V4);
        let _older = node.with_version("0.1.0", || {
            Agent::start(node, cluster(), "passed", &[]).ready()
        });
        node.write(
            "etc/mesh-optin/node.yaml",
            "{deadline: 15s, sources: [agent, api]}",
        );
        node.credential(
            crate::support::cluster::SERVER,
            &cluster().file("ca.crt"),
            &cluster().token("mesh-optin", "node"),
        );
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        is_redirected(&lab);
    });
}

#[test]
fn a_plugin_of_0_1_0_is_answered_in_its_version() {
    on_node_with_agent(|node| {
        let pod = cluster().create_pod_on("rolled-back", "defaults", "rolled-back");
        let lab = node.pod("a", V4);
        let agent = Agent::start(node, cluster(), "rolled-back", &[]).ready();
        let call = node.with_version("0.1.0", || {
            add(node, cluster(), &lab.netns, &cni_args(&pod))
        });
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        is_redirected(&lab);
        agent.reaches(
            r#"mesh_optin_adds_total{outcome="redirected",reason="Redirected",source="agent"}"#,
            1.0,
        );
    });
}
