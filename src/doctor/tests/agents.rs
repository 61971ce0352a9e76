use serde_json::json;

use super::{
    healthy::{self, of},
    *,
};

#[test]
fn what_is_wrong_with_agents_is_named_with_its_remedy() {
    each_is_named(&[
        (
            |f| {
                f.nodes.as_mut().unwrap().as_mut().unwrap()[0]
                    .status
                    .node_info
                    .kernel_version = "5.13.19".into()
            },
            Check::NodeKernel,
            CheckOutcome::Error,
            "node n1: the kernel is 5.13.19",
            "upgrade the node",
        ),
        (
            |f| node(f).status.backend = "Iptables".into(),
            Check::NodeKernel,
            CheckOutcome::Advice,
            "nodes n1: they have no nf_tables",
            "nf_tables",
        ),
        (
            |f| daemon_set(f, "mesh-optin-agent").status.number_ready = 0,
            Check::AgentsReady,
            CheckOutcome::Error,
            "ready on 0 of 1",
            "describe daemonset mesh-optin-agent",
        ),
        (
            |f| condition(f, "Ready", "False", "no list is complete"),
            Check::AgentsReady,
            CheckOutcome::Error,
            "node n1: the agent is not ready: no list",
            "kubectl get meshnode n1",
        ),
        (
            |f| condition(f, "Ready", "Unknown", "silent"),
            Check::AgentsReady,
            CheckOutcome::Error,
            "is not known: silent",
            "kubectl get meshnode n1",
        ),
        (
            |f| condition(f, "SelfTestPassed", "False", "no nf_tables"),
            Check::AgentsReady,
            CheckOutcome::Error,
            "SelfTestPassed is False",
            "kubectl get meshnode n1",
        ),
        (
            |f| node(f).status.last_report = Some("2026-01-01T11:44:59Z".into()),
            Check::AgentsReady,
            CheckOutcome::Warning,
            "not reported since 2026-01-01T11",
            "kubectl get meshnode n1",
        ),
        (
            |f| {
                f.nodes.as_mut().unwrap().as_mut().unwrap().push(of(json!({"metadata": {"name": "n2"}, "status": {"nodeInfo": {"kernelVersion": "6.1.0"}}})))
            },
            Check::AgentsReady,
            CheckOutcome::Error,
            "nodes n2: no agent has reported",
            "tolerations",
        ),
        (
            |f| condition(f, "HostCredential", "False", "it expires"),
            Check::HostCredential,
            CheckOutcome::Error,
            "node n1: it expires",
            "log",
        ),
        (
            |f| node(f).status.program_version = "0.2.0".into(),
            Check::VersionSkew,
            CheckOutcome::Error,
            r#"the program that Multus calls is "0.2.0""#,
            "ProgramInstalled",
        ),
        (
            |f| {
                daemon_set(f, "mesh-optin-agent")
                    .status
                    .updated_number_scheduled = 0
            },
            Check::VersionSkew,
            CheckOutcome::Warning,
            "0 of 1 agents",
            "kubectl -n mesh-optin rollout status daemonset/mesh-optin-agent",
        ),
        (
            |f| {
                let mut other = node(f).clone();
                let next = format!("{}-rc.1", healthy::OURS);
                (other.status.version, other.status.program_version) = (next.clone(), next);
                f.mesh_nodes.as_mut().unwrap().as_mut().unwrap().push(other);
            },
            Check::VersionSkew,
            CheckOutcome::Warning,
            "their versions differ: ",
            "rollout status",
        ),
        (
            |f| {
                f.controllers.as_mut().unwrap().as_mut().unwrap()[0]
                    .spec
                    .template
                    .spec
                    .containers[0]
                    .image = "x/mesh-optin:0.1.0".into()
            },
            Check::VersionSkew,
            CheckOutcome::Warning,
            "the controller is 0.1.0",
            "one release",
        ),
    ]);
}

#[test]
fn windows_nodes_need_no_agent() {
    let mut facts = healthy();
    let windows = json!({"metadata": {"name": "w", "labels": {"kubernetes.io/os": "windows"}}});
    facts
        .nodes
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap()
        .push(of(windows));
    assert_eq!(exit(&look(&facts)), Exit::Done);
}
