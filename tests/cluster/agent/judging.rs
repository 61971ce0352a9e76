//! What the agent makes of pods that run, by what they are and what policy says by now.

use super::*;

/// Makes kubelet's word of a pod that runs.
fn runs(name: &str, ip: &str) {
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "containerStatuses": [{"name": "app", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
            "containerID": "containerd://1", "state": {"running": {"startedAt": "2026-11-24T08:00:00Z"}}}]}});
    let path = format!("/api/v1/namespaces/team-a/pods/{name}/status");
    cluster().patch(&path, &status);
}

fn write_profile(node: &Node, spec: &Value) {
    node.write(
        "etc/mesh-optin/profiles/default.yaml",
        &profile(spec).to_string(),
    );
}

#[test]
fn pods_that_todays_profile_would_refuse_are_counted_and_reported_once() {
    on_node_with_agent(|node| {
        let (agent, pod, _lab) = redirected_and_audited(node, "judged");
        runs("judged", "10.244.0.5");
        let changed = r#"mesh_optin_policy_changed_pods"#;
        agent.reaches(r#"mesh_optin_audit_pods{state="consistent"}"#, 1.0);
        assert_eq!(agent.metric(changed), 0.0);
        write_profile(node, &json!({"revisions": ["next"]}));
        agent.reaches(changed, 1.0);
        let told = || {
            let events = cluster().events_of(&pod).into_iter();
            events
                .filter(|(reason, _)| reason == "PolicyChanged")
                .count()
        };
        until(|| told() > 0, || agent.get("/metrics"));
        let audits = agent.metric("mesh_optin_audits_total");
        agent.reaches("mesh_optin_audits_total", audits + 3.0);
        assert_eq!(told(), 1);
        // as after a reboot: the same pod in another sandbox
        let again = node.pod("b", V4);
        std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).unwrap();
        let call = add(node, cluster(), &again.netns, &cni_args(&pod));
        assert!(
            call.logged_reason() == "Redirected" && call.stderr.contains("RevisionMismatch"),
            "{call:?}"
        );
        is_redirected(&again);
        write_profile(node, &json!({}));
        until(|| agent.metric(changed) == 0.0, || agent.get("/metrics"));
    });
}

#[test]
fn injected_pods_that_stay_out_are_counted_and_bypass_where_they_may_not() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "staying", &["--audit-period", "1"]).ready();
        let pod = cluster().create_pod_on("staying", "none", "staying");
        let lab = node.pod("a", V4);
        assert_eq!(
            add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(),
            "InterceptionNone"
        );
        runs("staying", "10.244.0.5");
        let [out, bypassing] =
            ["opted-out", "bypassing"].map(|o| format!(r#"mesh_optin_audit_pods{{state="{o}"}}"#));
        agent.reaches(&out, 1.0);
        assert_eq!(agent.metric(&bypassing), 0.0);
        write_profile(
            node,
            &json!({"namespaces": {"matchLabels": {"istio-injection": "enabled"}}, "tenants": {"mayOptOut": false}}),
        );
        agent.reaches(&bypassing, 1.0);
        assert_eq!(agent.metric(&out), 0.0);
    });
}

#[test]
fn a_running_pod_without_a_sidecar_is_reported_though_it_references_no_attachment() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "missing", &["--audit-period", "1"]).ready();
        // the injector was down: nothing has named an attachment either
        let bare = |name: &str, labels: Value| {
            cluster().create_changed_pod("defaults", name, |pod| {
                (pod["spec"]["nodeName"], pod["metadata"]["annotations"]) =
                    (json!("missing"), json!({}));
                pod["metadata"]["labels"] = labels;
                let is_proxy = |c: &Value| c["name"] == "istio-proxy";
                for containers in ["containers", "initContainers"] {
                    if let Some(all) = pod["spec"][containers].as_array_mut() {
                        all.retain(|container| !is_proxy(container));
                    }
                }
            })
        };
        let pod = bare("missing", json!({}));
        let out = bare("missing-out", json!({"sidecar.istio.io/inject": "false"}));
        runs("missing", "10.244.0.7");
        runs("missing-out", "10.244.0.8");
        agent.reaches(r#"mesh_optin_audit_pods{state="sidecar-missing"}"#, 1.0);
        let told = ("SidecarMissing".to_owned(), "Warning".to_owned());
        until(
            || cluster().events_of(&pod) == [told.clone()],
            || format!("{:?}", cluster().events_of(&pod)),
        );
        std::thread::sleep(Duration::from_secs(3)); // further audits
        assert_eq!(cluster().events_of(&pod), [told]);
        assert_eq!(cluster().events_of(&out), []);
        assert_eq!(
            agent.metric(r#"mesh_optin_audit_pods{state="sidecar-missing"}"#),
            1.0
        );
    });
}

#[test]
fn a_running_pod_that_cannot_be_judged_is_counted_as_unaudited() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "unjudged", &["--audit-period", "1"]).ready();
        write_profile(
            node,
            &json!({"namespaces": {"matchLabels": {"other": "yes"}}}),
        );
        cluster().create_pod_on("unjudged", "defaults", "unjudged");
        runs("unjudged", "10.244.0.9");
        agent.reaches(r#"mesh_optin_audit_pods{state="unaudited"}"#, 1.0);
        agent.reaches("mesh_optin_unaudited_pods", 1.0);
    });
}

#[test]
fn a_gateway_starts_where_no_profile_governs_and_a_sidecar_does_not() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "ungoverned", &[]).ready();
        write_profile(
            node,
            &json!({"namespaces": {"matchLabels": {"other": "yes"}}}),
        );
        let lab = node.pod("a", V4);
        let gateway = cluster().create_pod_on("ungoverned", "gateway", "ungoverned-gateway");
        let sidecar = cluster().create_pod_on("ungoverned", "defaults", "ungoverned");
        until(
            || {
                let call = add(node, cluster(), &lab.netns, &cni_args(&sidecar));
                std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).ok();
                call.code == 1 && call.logged_reason() == "UnknownProfile"
            },
            || agent.get("/readyz"),
        );
        let call = add(node, cluster(), &lab.netns, &cni_args(&gateway));
        assert_eq!(
            (call.code, call.logged_reason().as_str()),
            (0, "NotASidecarProxy"),
            "{call:?}"
        );
    });
}
