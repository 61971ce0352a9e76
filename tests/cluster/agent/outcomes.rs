//! Every ADD counts, whoever answered for the pod, and whether or not the agent was there.

use super::*;
use crate::support::agent::add_with;

/// The name of the counter of ADDs that ended so.
fn adds(outcome: &str, reason: &str, source: &str) -> String {
    format!(r#"mesh_optin_adds_total{{outcome="{outcome}",reason="{reason}",source="{source}"}}"#)
}

/// A NAD with a setting that does not exist.
const BROKEN: &str =
    r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin","meshOptin":{"profil":"x"}}"#;

#[test]
fn an_add_that_ends_before_the_look_up_is_counted_logged_and_gets_an_event() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "early", &[]).ready();
        let pod = cluster().create_pod_on("early", "defaults", "early");
        let lab = node.pod("a", V4);
        let counter = adds("refused", "InvalidAttachment", "none");
        let before = agent.get("/metrics");
        assert!(before.contains(&format!("{counter} 0\n")), "{before}");
        let call = add_with(node, cluster(), &lab.netns, &cni_args(&pod), BROKEN);
        assert!(
            call.error().0.starts_with("InvalidAttachment: "),
            "{call:?}"
        );
        agent.reaches(&counter, 1.0);
        // a configuration that cannot be read at all, and no network namespace
        let call = add_with(node, cluster(), &lab.netns, &cni_args(&pod), "{");
        assert_eq!(call.code, 1);
        add(node, cluster(), "/proc/1/cmdline", &cni_args(&pod)).error();
        agent.reaches(&adds("refused", "NetnsInvalid", "none"), 1.0);
        // another incarnation of the pod
        let other = cni_args(&pod).replace("K8S_POD_UID=", "K8S_POD_UID=0");
        let (message, _) = add(node, cluster(), &lab.netns, &other).error();
        assert!(message.starts_with("PodUidMismatch: "), "{message}");
        agent.reaches(&adds("refused", "PodUidMismatch", "none"), 1.0);
        // one that is skipped
        let out = cluster().create_pod_on("early", "opt-out", "early-out");
        add(node, cluster(), &lab.netns, &cni_args(&out));
        agent.reaches(&adds("skipped", "OptedOut", "agent"), 1.0);
        let told = ("InvalidAttachment".to_owned(), "Warning".to_owned());
        until(
            || cluster().events_of(&pod).contains(&told),
            || format!("{:?}", cluster().events_of(&pod)),
        );
        assert_eq!(agent.metric("mesh_optin_unreported_total"), 0.0);
        // what was decided is remembered, also where nothing was made
        let explain = |name: &str| {
            let args = ["explain", name, "-n", "team-a"];
            let output = crate::support::lab::inside(&cluster().netns, || {
                node.program(&args).output().unwrap()
            });
            String::from_utf8(output.stdout).unwrap()
        };
        for (name, how) in [
            ("early", "On this node: refused at "),
            ("early-out", "On this node: left alone at "),
        ] {
            assert!(explain(name).contains(how), "{}", explain(name));
        }
        let log = agent.end(Signal::SIGTERM);
        let line: Value = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .find(|line: &Value| line["reason"] == "OptedOut")
            .unwrap();
        let uid = &out["metadata"]["uid"];
        let expected = json!({"level": "INFO", "namespace": "team-a", "name": "early-out", "uid": uid, "outcome": "skipped",
            "reason": "OptedOut", "profile": "default", "source": "agent"});
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key}: {line}");
        }
        assert!(line["look_up_micros"].as_u64() > Some(0), "{line}");
    });
}

#[test]
fn adds_that_end_while_the_agent_is_away_are_counted_when_it_is_back() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "later", &[]).ready();
        let pod = cluster().create_pod_on("later", "defaults", "later");
        let lab = node.pod("a", V4);
        agent.end(Signal::SIGKILL);
        let broken = || {
            let call = add_with(node, cluster(), &lab.netns, &cni_args(&pod), BROKEN);
            assert!(
                call.error().0.starts_with("InvalidAttachment: "),
                "{call:?}"
            );
        };
        (0..3).for_each(|_| broken());
        node.write("etc/mesh-optin/node.yaml", "{deadline: 500ms}");
        let (message, _) = add(node, cluster(), &lab.netns, &cni_args(&pod)).error();
        assert!(message.starts_with("AgentUnavailable: "), "{message}");
        let kept = || {
            let kept = std::fs::read_dir(node.path("run/mesh-optin/outcomes"));
            kept.map_or(0, Iterator::count)
        };
        assert_eq!(kept(), 4);
        let agent = Agent::start(node, cluster(), "later", &[]).ready();
        agent.reaches(&adds("refused", "InvalidAttachment", "none"), 3.0);
        agent.reaches(&adds("refused", "AgentUnavailable", "none"), 1.0);
        assert_eq!(kept(), 0);
        let told = ("InvalidAttachment".to_owned(), "Warning".to_owned());
        until(
            || cluster().events_of(&pod).contains(&told),
            || format!("{:?}", cluster().events_of(&pod)),
        );
        // no more are kept than are bounded, but they are counted
        agent.end(Signal::SIGKILL);
        for n in 0..512 {
            node.write(&format!("run/mesh-optin/outcomes/{n}.json"), "{}");
        }
        broken();
        assert_eq!(kept(), 513, "512, and how many were not kept");
        let agent = Agent::start(node, cluster(), "later", &[]).ready();
        agent.reaches("mesh_optin_outcomes_dropped_total", 513.0);
        assert_eq!(kept(), 0);
    });
}

#[test]
fn an_add_that_the_api_server_answered_is_counted_for_source_api() {
    on_node_with_agent(|node| {
        node.write(
            "etc/mesh-optin/node.yaml",
            "{deadline: 15s, sources: [api]}",
        );
        let host = ["--host-account", "mesh-optin/node"];
        cluster().create("/api/v1/nodes", &json!({"metadata": {"name": "by-api"}}));
        let agent = Agent::start(node, cluster(), "by-api", &host).ready();
        let token = node.path("var/lib/mesh-optin/api/token");
        until(|| token.exists(), || agent.get("/readyz"));
        let pod = cluster().create_pod_on("by-api", "defaults", "by-api");
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        agent.reaches(&adds("redirected", "Redirected", "api"), 1.0);
    });
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    on_node_with_agent(|node| {
        let (agent, ..) = redirected_and_audited(node, "metrics");
        agent.reaches("mesh_optin_audits_total", 1.0);
        let check = format!(
            "curl -sf http://127.0.0.1:{}/metrics | promtool check metrics 2>&1 || true",
            agent.listen_port
        );
        let said = cluster().enter(&["sh", "-c", &check]);
        assert_eq!(said, "", "{}", agent.get("/metrics"));
        let text = agent.get("/metrics");
        for part in [
            r#"mesh_optin_build_info{version=""#,
            r#"mesh_optin_installed_info{version=""#,
            r#"mesh_optin_condition{type="Ready",status="True"} 1"#,
            r#"mesh_optin_condition{type="SelfTestPassed",status="True"} 1"#,
            r#"mesh_optin_condition{type="HostCredential",status="False"} 0"#,
            r#"mesh_optin_api_requests_total{verb="list",code="200"}"#,
            r#"mesh_optin_watch_last_heard_timestamp_seconds{watch="pods"} 1"#,
            "mesh_optin_last_audit_timestamp_seconds 1",
            "mesh_optin_bypassing_pods 0",
            "mesh_optin_unaudited_pods 0",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    });
}
