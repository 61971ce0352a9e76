//! Each check over facts of a healthy cluster, and of one in which a single thing is broken.

mod agents;
mod healthy;
mod istio;
mod kubernetes;
mod leftovers;
mod pods;
mod profiles;
mod rendered;

use serde_json::json;

use self::healthy::{healthy, of};
use super::{
    checks::Check,
    cluster::{Trial, Unseen},
    facts::Facts,
    finding::{CheckOutcome, Finding},
    report::{exit, look},
};
use crate::terminal::Exit;

/// What is broken, the check that says so, how bad it is, and parts of what it says and of the remedy.
type Broken = (
    fn(&mut Facts),
    Check,
    CheckOutcome,
    &'static str,
    &'static str,
);

#[test]
fn a_healthy_cluster_has_nothing_to_say() {
    let checks = look(&healthy());
    assert_eq!(checks.len(), Check::ALL.len());
    for (check, looked) in &checks {
        assert_eq!(
            (&looked.findings, &looked.unseen),
            (&vec![], &vec![]),
            "{check}"
        );
    }
    assert_eq!(exit(&checks), Exit::Done);
}

/// Breaks each, and sees that this check alone says so.
fn each_is_named(broken: &[Broken]) {
    for (breaks, check, severity, message, remedy) in broken {
        let mut facts = healthy();
        breaks(&mut facts);
        let checks = look(&facts);
        let found = |(which, looked): &(Check, super::finding::Looked)| -> Vec<(Check, Finding)> {
            looked
                .findings
                .iter()
                .map(|f| (*which, f.clone()))
                .collect()
        };
        let findings: Vec<_> = checks.iter().flat_map(found).collect();
        let (others, of_check): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|(c, _)| c != check);
        assert!(others.is_empty(), "{check}: {message}: {others:?}");
        let [(_, finding)] = of_check.as_slice() else {
            panic!("{check}: {message}: {of_check:?}");
        };
        let said = format!("{}: {}", finding.object, finding.message);
        assert!(said.contains(message), "{said}");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
        assert_eq!(finding.severity, *severity, "{said}");
        let is_advice = *severity == CheckOutcome::Advice;
        let expected = if is_advice { Exit::Done } else { Exit::Found };
        assert_eq!(exit(&checks), expected, "{said}");
    }
}

fn daemon_set<'a>(facts: &'a mut Facts, name: &str) -> &'a mut super::objects::Workload {
    let all = facts.daemon_sets.as_mut().unwrap().as_mut().unwrap();
    all.iter_mut().find(|d| d.metadata.name == name).unwrap()
}

fn node(facts: &mut Facts) -> &mut super::objects::MeshNode {
    &mut facts.mesh_nodes.as_mut().unwrap().as_mut().unwrap()[0]
}

fn condition(facts: &mut Facts, kind: &str, status: &str, message: &str) {
    let conditions = &mut node(facts).status.conditions;
    let condition = conditions.iter_mut().find(|c| c.kind == kind).unwrap();
    (condition.status, condition.message) = (status.into(), message.into());
}

fn multus_config(facts: &mut Facts, config: &serde_json::Value) {
    facts.multus = Ok(Some(of(
        json!({"data": {"daemon-config.json": config.to_string()}}),
    )));
}

fn injector(facts: &mut Facts, cni: &serde_json::Value) {
    let values = json!({"pilot": {"cni": cni}}).to_string();
    first_injector(facts).config = Ok(Some(of(json!({"data": {"values": values}}))));
}

fn first_injector(facts: &mut Facts) -> &mut super::facts::Injector {
    &mut facts.injectors.as_mut().unwrap().as_mut().unwrap()[0]
}

fn pod(facts: &mut Facts) -> &mut crate::mesh::Pod {
    &mut facts.pods.as_mut().unwrap().as_mut().unwrap()[0]
}

/// A change of a fact to one that was not seen.
type Hide = fn(&mut Facts, Unseen);

#[test]
fn what_was_not_seen_is_never_ok() {
    let lists: [(Hide, &str, &[Check]); 16] = [
        (
            |f, u| f.nodes = Err(u),
            "list nodes",
            &[Check::NodeKernel, Check::AgentsReady],
        ),
        (
            |f, u| f.namespaces = Err(u),
            "list namespaces",
            &[
                Check::AmbientInUse,
                Check::ProfilesAccepted,
                Check::Attachments,
                Check::InjectedWithoutAttachment,
                Check::OptOuts,
            ],
        ),
        (
            |f, u| f.pods = Err(u),
            "list pods",
            &[Check::InjectedWithoutAttachment, Check::OptOuts],
        ),
        (
            |f, u| f.daemon_sets = Err(u),
            "list daemonsets",
            &[
                Check::MultusInstalled,
                Check::MultusVersion,
                Check::MultusBinDir,
                Check::MultusConfDir,
                Check::MultusMemory,
                Check::NamespaceIsolation,
                Check::OtherCniInstalled,
                Check::AmbientInUse,
                Check::AgentsReady,
                Check::VersionSkew,
                Check::DefaultProfile,
                Check::Leftovers,
            ],
        ),
        (
            |f, u| f.attachments = Err(u),
            "list nads",
            &[
                Check::MultusInstalled,
                Check::Attachments,
                Check::InjectedWithoutAttachment,
                Check::OptOuts,
                Check::Leftovers,
            ],
        ),
        (
            |f, u| f.not_found = Err(u),
            "list events",
            &[Check::Attachments],
        ),
        (
            |f, u| f.profiles = Err(u),
            "list meshprofiles",
            &[
                Check::ProfilesAccepted,
                Check::DefaultProfile,
                Check::Attachments,
                Check::InjectedWithoutAttachment,
                Check::OptOuts,
                Check::Leftovers,
            ],
        ),
        (
            |f, u| f.mesh_nodes = Err(u),
            "list meshnodes",
            &[
                Check::NodeKernel,
                Check::MultusBinDir,
                Check::MultusConfDir,
                Check::AgentsReady,
                Check::VersionSkew,
                Check::HostCredential,
                Check::PodsRedirected,
            ],
        ),
        (
            |f, u| f.definitions = Err(u),
            "get customresourcedefinition",
            &[Check::VersionSkew],
        ),
        (
            |f, u| f.policies = Err(u),
            "list policies",
            &[Check::AdmissionInForce],
        ),
        (
            |f, u| f.bindings = Err(u),
            "list bindings",
            &[Check::AdmissionInForce],
        ),
        (
            |f, u| f.controllers = Err(u),
            "list deployments",
            &[Check::VersionSkew, Check::ProfilesAccepted],
        ),
        (
            |f, u| f.multus = Err(u),
            "get configmap",
            &[
                Check::MultusBinDir,
                Check::MultusConfDir,
                Check::NamespaceIsolation,
            ],
        ),
        (
            |f, u| f.multus_pods = Err(u),
            "list pods in kube-system",
            &[Check::MultusMemory],
        ),
        (
            |f, u| f.injectors = Err(u),
            "list webhooks",
            &[Check::InjectorProvider, Check::InjectorHealthy],
        ),
        (
            |f, u| f.istio_cnis = Err(u),
            "list istiocnis",
            &[Check::OtherCniInstalled],
        ),
    ];
    for (hide, right, blind) in lists {
        let mut facts = healthy();
        hide(&mut facts, Unseen::Right(right.into()));
        let checks = look(&facts);
        for (check, looked) in &checks {
            let is_blind = blind.contains(check) || *check == Check::Permissions;
            let expected = if is_blind {
                CheckOutcome::Skipped
            } else {
                CheckOutcome::Ok
            };
            assert_eq!(looked.outcome(), expected, "{check} without {right}");
        }
        assert_eq!(exit(&checks), Exit::Failed, "{right}");
    }
}

#[test]
fn what_was_found_counts_more_than_what_was_not_seen() {
    let mut facts = healthy();
    facts.nodes = Err(Unseen::Failed("no answer".into()));
    condition(&mut facts, "Ready", "False", "");
    let checks = look(&facts);
    assert_eq!(exit(&checks), Exit::Found);
    let of_agents = checks
        .iter()
        .find(|(c, _)| *c == Check::AgentsReady)
        .unwrap();
    assert_eq!(of_agents.1.unseen, [Unseen::Failed("no answer".into())]);
}

#[test]
fn what_the_cluster_does_not_say_is_unknown_and_no_failure() {
    let mut facts = healthy();
    daemon_set(&mut facts, "kube-multus-ds")
        .spec
        .template
        .spec
        .containers[0]
        .image = "x/multus-cni:snapshot-thick".into();
    facts.forbidden = Ok(Trial::Admitted);
    facts.bypasses = Ok(true);
    node(&mut facts).status.pods = None;
    let checks = look(&facts);
    let unknown = checks
        .iter()
        .filter(|(_, looked)| looked.outcome() == CheckOutcome::Unknown);
    let unknown: Vec<_> = unknown.map(|(check, _)| *check).collect();
    assert_eq!(
        unknown,
        [
            Check::MultusVersion,
            Check::AdmissionInForce,
            Check::PodsRedirected
        ]
    );
    assert_eq!(exit(&checks), Exit::Done);
}

#[test]
fn what_is_just_within_its_bound_is_ok() {
    let mut facts = healthy();
    facts.version = "v1.31.0".into();
    facts.here = facts.now() + jiff::SignedDuration::from_secs(60);
    let status = &mut node(&mut facts).status;
    status.last_report = Some("2026-01-01T11:45:00Z".into());
    status.last_audit = status.last_report.clone();
    for (check, looked) in look(&facts) {
        assert_eq!(looked.outcome(), CheckOutcome::Ok, "{check}");
    }
}

/// What is not known, and the check that says so.
type Unknown = (fn(&mut Facts), Check);

#[test]
fn what_cannot_be_told_is_not_ok() {
    let unknown: [Unknown; 9] = [
        (|f| f.date = None, Check::ClockSkew),
        (
            |f| f.forbidden = Ok(Trial::Refused("ValidatingAdmissionPolicy 'theirs'".into())),
            Check::AdmissionInForce,
        ),
        (
            |f| first_injector(f).services[0].ready = Ok(None),
            Check::InjectorHealthy,
        ),
        (|f| f.injectors = Ok(Some(vec![])), Check::InjectorHealthy),
        (
            |f| node(f).status.last_audit = Some("2026-01-01T11:44:59Z".into()),
            Check::PodsRedirected,
        ),
        (
            |f| condition(f, "SelfTestPassed", "Unknown", ""),
            Check::AgentsReady,
        ),
        (
            |f| condition(f, "HostCredential", "Unknown", ""),
            Check::HostCredential,
        ),
        (
            |f| {
                let controllers = f.controllers.as_mut().unwrap().as_mut().unwrap();
                controllers[0].spec.template.spec.containers[0].image = "x@sha256:1".into();
            },
            Check::VersionSkew,
        ),
        (
            |f| {
                first_injector(f).config = Err(Unseen::NotSaid("only 16 are looked at".into()));
            },
            Check::InjectorProvider,
        ),
    ];
    for (hides, check) in unknown {
        let mut facts = healthy();
        hides(&mut facts);
        assert_eq!(
            check.look(&facts).outcome(),
            CheckOutcome::Unknown,
            "{check}"
        );
    }
}

#[test]
fn before_an_installation_nothing_of_it_is_missed() {
    let mut facts = healthy();
    facts.is_before = true;
    facts
        .daemon_sets
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap()
        .retain(|d| d.metadata.name == "kube-multus-ds");
    (facts.profiles, facts.mesh_nodes) = (Ok(None), Ok(None));
    (facts.policies, facts.bindings, facts.controllers) =
        (Ok(Some(vec![])), Ok(Some(vec![])), Ok(Some(vec![])));
    let checks = look(&facts);
    assert_eq!(checks.len(), 14);
    assert_eq!(exit(&checks), Exit::Done);
    multus_config(
        &mut facts,
        &json!({"namespaceIsolation": true, "globalNamespaces": "x"}),
    );
    assert_eq!(exit(&look(&facts)), Exit::Found);
}
