//! What the agent notices of pods that run.

use super::*;

#[test]
fn drift_is_reported_and_repaired_where_the_profile_says_so() {
    on_node_with_agent(|node| {
        let (agent, pod, lab) = redirected_and_audited(node, "drift");
        agent.reaches(r#"mesh_optin_audit_pods{state="consistent"}"#, 1.0);
        let nft = |script: &str| {
            crate::support::lab::inside(&lab.pod, || {
                crate::support::run("nft", &["-f", "-"], script)
            })
        };
        nft("flush chain inet mesh-optin output");
        assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "world:80");
        agent.reaches(r#"mesh_optin_audit_pods{state="drifted"}"#, 1.0);
        assert_eq!(
            lab.dial_out(APP, "10.96.0.10:80"),
            "world:80",
            "reported only"
        );
        node.write(
            "etc/mesh-optin/profiles/default.yaml",
            &profile(&json!({"drift": "Repair"})).to_string(),
        );
        agent.reaches(r#"mesh_optin_repairs_total{result="ok"}"#, 1.0);
        is_redirected(&lab);
        for change in [
            "delete table inet mesh-optin",
            "add table inet mesh-optin { flags dormant; }",
            "add chain inet mesh-optin other",
        ] {
            let before = agent.metric(r#"mesh_optin_repairs_total{result="ok"}"#);
            nft(change);
            agent.reaches(r#"mesh_optin_repairs_total{result="ok"}"#, before + 1.0);
            is_redirected(&lab);
        }
        let reasons: Vec<_> = cluster()
            .events_of(&pod)
            .into_iter()
            .filter(|(reason, _)| reason == "Drifted")
            .collect();
        assert!(
            !reasons.is_empty() && reasons.iter().all(|(_, kind)| kind == "Warning"),
            "{reasons:?}"
        );
    });
}

#[test]
fn a_running_pod_that_is_not_redirected_is_found_and_reported() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "bypass", &["--audit-period", "1"]).ready();
        let lab = node.pod("a", V4);
        let pod = cluster().create_pod_on("bypass", "defaults", "bypass");
        let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}]}});
        cluster().patch("/api/v1/namespaces/team-a/pods/bypass/status", &status);
        agent.reaches(r#"mesh_optin_audit_pods{state="bypassing"}"#, 1.0);
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        assert_eq!(
            cluster().events_of(&pod),
            [("Bypassing".to_owned(), "Warning".to_owned())]
        );
        let verify = |node: &Node| {
            let output = crate::support::lab::inside(&cluster().netns, || {
                node.program(&["verify", "--all"]).output().unwrap()
            });
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap(),
            )
        };
        let (code, text) = verify(node);
        assert!(
            code == Some(5) && text.contains("Pod team-a/bypass") && text.contains("Bypassing"),
            "{code:?} {text}"
        );
        assert_eq!(
            add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
        until(
            || agent.metric(r#"mesh_optin_audit_pods{state="bypassing"}"#) == 0.0,
            String::new,
        );
        assert_eq!(verify(node).0, Some(0));
    });
}

#[test]
fn rules_of_a_newer_version_are_outdated_unless_none_are_left() {
    on_node_with_agent(|node| {
        let (agent, _, lab) = redirected_and_audited(node, "older");
        let record = node.path("run/mesh-optin/attachments/c0ffee.json");
        let of_version = |format: u32| {
            let mut json: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
            (json["version"], json["format"]) = (json!("another"), json!(format));
            std::fs::write(&record, json.to_string()).unwrap();
        };
        let outcome = |node: &Node| {
            let output = crate::support::lab::inside(&cluster().netns, || {
                node.program(&["verify", "--all", "-o", "json"])
                    .output()
                    .unwrap()
            });
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            (
                told["pods"][0]["outcome"].as_str().unwrap().to_owned(),
                output.status.code(),
            )
        };
        let nft = |script: &str| {
            crate::support::lab::inside(&lab.pod, || {
                crate::support::run("nft", &["-f", "-"], script)
            })
        };
        of_version(1);
        nft("add rule inet mesh-optin output accept");
        assert_eq!(
            outcome(node),
            ("drifted".to_owned(), Some(5)),
            "an older program made the same rules"
        );
        of_version(99);
        assert_eq!(outcome(node), ("outdated".to_owned(), Some(0)));
        agent.reaches(r#"mesh_optin_audit_pods{state="outdated"}"#, 1.0);
        nft("flush chain inet mesh-optin output");
        assert_eq!(
            outcome(node),
            ("drifted".to_owned(), Some(5)),
            "that is nobody's version"
        );
        agent.reaches(r#"mesh_optin_audit_pods{state="drifted"}"#, 1.0);
    });
}
