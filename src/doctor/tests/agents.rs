use serde_json::json;

use super::{
    healthy::{self, of},
    *,
};
use crate::{doctor::objects::ProfileObject, profile::BackendPolicy};

fn kernel(facts: &mut Facts, kernel: &str) {
    let nodes = facts.nodes.as_mut().unwrap().as_mut().unwrap();
    nodes[0].status.node_info.kernel_version = kernel.into();
}

fn profile(facts: &mut Facts) -> &mut ProfileObject {
    &mut facts.profiles.as_mut().unwrap().as_mut().unwrap()[0]
}

/// The properties of `spec` in the CRD of MeshProfiles.
fn spec_of_profiles(facts: &mut Facts) -> &mut serde_json::Map<String, serde_json::Value> {
    let crd = &mut facts.definitions.as_mut().unwrap().as_mut().unwrap()[0];
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let spec = &mut schema["properties"]["spec"]["properties"];
    spec.as_object_mut().unwrap()
}

#[test]
fn crds_are_compared_with_agents_of_this_version_alone() {
    let mut facts = healthy();
    let status = &mut node(&mut facts).status;
    (status.version, status.program_version) = ("0.3.99".into(), "0.3.99".into());
    let looked = Check::VersionSkew.look(&facts);
    assert_eq!(looked.outcome(), CheckOutcome::Unknown, "{looked:?}");
    let mut facts = healthy();
    let crds = facts.definitions.as_mut().unwrap().as_mut().unwrap();
    crds[1]["spec"]["versions"][0]["name"] = json!("v1");
    let looked = Check::VersionSkew.look(&facts);
    assert_eq!(looked.outcome(), CheckOutcome::Unknown, "{looked:?}");
}

#[test]
fn what_is_wrong_with_agents_is_named_with_its_remedy() {
    each_is_named(&[
        (
            |f| kernel(f, "5.13.19"),
            Check::NodeKernel,
            CheckOutcome::Error,
            "node n1: the kernel is 5.13.19",
            "upgrade the node",
        ),
        (
            |f| kernel(f, "4.18.0-553.16.1.el8_10.x86_64"),
            Check::NodeKernel,
            CheckOutcome::Error,
            "that of RHEL 8: it is older than 5.14",
            "RHEL 9 or later",
        ),
        (
            |f| {
                kernel(f, "6.12.0-124.13.1.el10_1.x86_64");
                profile(f).profile.spec.redirect.backend = BackendPolicy::Iptables;
            },
            Check::NodeKernel,
            CheckOutcome::Advice,
            "MeshProfile default: redirect.backend is Iptables: on nodes n1, of RHEL 10, that needs the package kernel-modules-extra",
            "set redirect.backend to Auto",
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
        (
            |f| {
                let spec = spec_of_profiles(f);
                spec.remove("drift");
                spec["redirect"]["properties"]["backend"]["enum"] = json!(["Auto", "Nftables"]);
            },
            Check::VersionSkew,
            CheckOutcome::Warning,
            "it lacks spec.drift, spec.redirect.backend: Iptables",
            "kubectl apply -f crds/meshoptin.dev_meshprofiles.yaml -f crds/meshoptin.dev_meshnodes.yaml",
        ),
        (
            |f| drop(spec_of_profiles(f).insert("frob".into(), json!({"properties": {"x": {}}}))),
            Check::VersionSkew,
            CheckOutcome::Warning,
            "which do not know spec.frob",
            "upgrade the agents to its release",
        ),
        (
            |f| {
                let spec = spec_of_profiles(f);
                let drift = spec.remove("drift").unwrap();
                spec.insert("repair".into(), drift);
            },
            Check::VersionSkew,
            CheckOutcome::Warning,
            "it lacks spec.drift, and has spec.repair",
            "install those of the agents' release",
        ),
    ]);
}

#[test]
fn nodes_of_rhel_10_need_no_iptables_unless_a_profile_asks_for_it() {
    let mut facts = healthy();
    kernel(&mut facts, "6.12.0-124.13.1.el10_1.x86_64");
    assert_eq!(exit(&look(&facts)), Exit::Done);
    let asked = |facts: &mut Facts| {
        profile(facts).profile.spec.redirect.backend = BackendPolicy::Iptables;
        Check::NodeKernel.look(facts)
    };
    kernel(&mut facts, "5.14.0-570.el9");
    assert_eq!(asked(&mut facts).outcome(), CheckOutcome::Ok);
    kernel(&mut facts, "6.12.0-124.el10");
    facts.profiles = Err(Unseen::Right("list meshprofiles".into()));
    let looked = Check::NodeKernel.look(&facts);
    assert_eq!(looked.outcome(), CheckOutcome::Skipped);
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
