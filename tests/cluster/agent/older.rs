//! What a released version left on the node.

use super::*;

#[test]
fn a_record_of_0_1_0_is_read_verified_and_audited() {
    on_agent_s_node(|node| {
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
        agent.reaches(r#"mesh_optin_audited_pods{outcome="consistent"}"#, 1.0);
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
        agent.reaches(r#"mesh_optin_audited_pods{outcome="drifted"}"#, 1.0);
        assert_eq!(verify().status.code(), Some(5));
    });
}
