//! An example of everything that is persisted or spoken.

use std::collections::BTreeMap;

use mesh_optin::{
    cni::PodRef,
    mesh::{Namespace, Pod},
    node::{Installed, SourceKind, attachments::Record},
    plan::{FORMAT, Form, PodNetwork},
    profile::{
        Profile, ProfileOrigin,
        mesh_node::{MultusStatus, NodeCondition, NodeStatus, PodCounts, Problem, ProfileInUse},
    },
    reason::Reason,
    source::wire::{
        Answer, Ask, Bypassing, Governed, LookUp, Outcome, Owner, Question, Reply, Report, VERSION,
        WireExplanation, WireProfile,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::support::data::{data, injected, intent_of};

/// Something that is persisted or spoken.
pub(super) struct Shape {
    /// Its file in each version's folder.
    pub(super) file: &'static str,
    /// An example, as it is written now.
    pub(super) written: String,
    /// What is read from text, written again.
    pub(super) read: fn(&str) -> Result<Value, String>,
}

fn shape<T: Serialize + DeserializeOwned>(file: &'static str, example: &T) -> Shape {
    Shape {
        file,
        written: serde_json::to_string_pretty(example).unwrap() + "\n",
        read: |text| {
            let read: T = serde_json::from_str(text).map_err(|e| e.to_string())?;
            serde_json::to_value(read).map_err(|e| e.to_string())
        },
    }
}

fn record() -> Record {
    let annotations = [
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,fd00::/8",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "10.1.0.0/16",
        ),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
        ("istio.io/reroute-virtual-interfaces", "tap0"),
    ];
    let variables = [("ISTIO_DUAL_STACK", "true"), ("INVALID_DROP", "true")];
    Record {
        container_id: "c0ffee".into(),
        ifname: "net1".into(),
        interfaces: vec!["net1".into(), "net2".into()],
        made: "2026-11-24T08:00:00.5Z".parse().unwrap(),
        speaks: true,
        netns: "/run/netns/cni-1".into(),
        netns_cookie: 4711,
        namespace: "team-a".into(),
        pod: "web".into(),
        uid: "a4ef3b6e-6fc1-4f6b-8f0c-2a7e2a9c7a01".into(),
        intent: intent_of(&injected(&annotations, &variables), &Profile::built_in()),
        network: PodNetwork::of_eth0(true, true),
        backend: Form::Nftables,
        profile: "default".into(),
        profile_version: "4711".into(),
        version: "0.1.0".into(),
        format: FORMAT,
        done: true,
    }
}

fn installed() -> Installed {
    Installed {
        version: "0.1.0".into(),
        programs: BTreeMap::from([("/opt/cni/bin/mesh-optin".into(), "5d41402abc4b2a76".into())]),
        confs: ["/etc/cni/multus/net.d/istio-cni.conf".into()].into(),
        cache: "/var/lib/cni/multus".into(),
        uninstalled: false,
    }
}

fn refusal() -> WireExplanation {
    WireExplanation::from(
        &Reason::PodNotFound
            .because("there is no pod team-a/web")
            .remedy("create it"),
    )
}

fn answer(reply: Reply) -> Answer {
    Answer {
        version: VERSION,
        reply,
    }
}

/// All of a pod that decides, and some that does not: an agent keeps the former.
const DECIDES: &str = r#"{
    "nodeName": "node-1", "hostNetwork": true, "runtimeClassName": "kata", "dnsPolicy": "None",
    "securityContext": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 3},
    "initContainers": [
        {"name": "istio-init", "image": "i", "args": ["-p"], "env": [{"name": "A", "value": "b"}],
         "securityContext": {"privileged": true, "capabilities": {"add": ["NET_ADMIN", "CHOWN", "NET_RAW", "ALL"], "drop": ["ALL"]}}}],
    "containers": [
        {"name": "app", "command": ["x"], "securityContext": {"runAsUser": 1337, "runAsGroup": 1338, "runAsNonRoot": true}},
        {"name": "istio-proxy", "args": ["proxy", "sidecar", "--domain"], "securityContext": {"runAsUser": 2, "runAsGroup": 3},
         "env": [{"name": "DISABLE_ENVOY", "value": "1"}, {"name": "ISTIO_META_INTERCEPTION_MODE", "value": "TPROXY"},
                 {"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}, {"name": "ISTIO_DUAL_STACK", "value": "true"},
                 {"name": "INVALID_DROP", "value": "true"}, {"name": "ISTIO_META_CLUSTER_ID", "value": "x"}]}]}"#;
const HAS_RUN: &str = r#"{
    "phase": "Running", "podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}],
    "initContainerStatuses": [
        {"name": "istio-init", "containerID": "containerd://a", "state": {"terminated": {"startedAt": "2026-11-24T07:00:00Z", "exitCode": 0}}}],
    "containerStatuses": [
        {"name": "app", "state": {"waiting": {}}},
        {"name": "istio-proxy", "containerID": "containerd://b", "state": {"running": {"startedAt": "2026-11-24T08:00:00Z"}},
         "lastState": {"terminated": {"startedAt": "2026-11-24T07:30:00Z"}}}]}"#;

fn found() -> Governed {
    let (mut pod, namespace) = data("tproxy");
    pod["spec"] = serde_json::from_str(DECIDES).unwrap();
    pod["status"] = serde_json::from_str(HAS_RUN).unwrap();
    let object = r#"{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{"name":"default"},"spec":{"drift":"Repair"}}"#;
    Governed {
        pod: serde_json::from_value::<Pod>(pod).unwrap().reduce(),
        namespace: serde_json::from_value::<Namespace>(namespace).unwrap(),
        profile: Some(WireProfile {
            origin: ProfileOrigin::File("/var/lib/mesh-optin/profiles/default.yaml".into()),
            object: Some(RawValue::from_string(object.into()).unwrap()),
        }),
        trouble: Some(WireExplanation::from(
            &Reason::ProfileNotAllowed.because("the attachment names another"),
        )),
    }
}

/// What an agent writes into its MeshNode.
fn node_status() -> NodeStatus {
    let at = || Some("2026-11-24T08:00:00Z".to_owned());
    NodeStatus {
        version: "0.2.0".into(),
        program_version: "0.2.0".into(),
        kernel: "6.1.0".into(),
        backend: "Nftables".into(),
        multus: MultusStatus {
            mode: "thin".into(),
            version: String::new(),
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: "/etc/cni/multus/net.d".into(),
        },
        conditions: vec![NodeCondition {
            kind: "Ready".into(),
            status: "True".into(),
            reason: "AsItShouldBe".into(),
            message: String::new(),
            last_transition_time: "2026-11-24T07:00:00Z".into(),
        }],
        pods: Some(PodCounts {
            redirected: 3,
            drifted: 1,
            ..PodCounts::default()
        }),
        last_audit: at(),
        last_heard: at(),
        last_report: at(),
        profiles: vec![ProfileInUse {
            name: "default".into(),
            resource_version: "4711".into(),
        }],
        problems: vec![Problem {
            namespace: "team-a".into(),
            pod: "web".into(),
            reason: "Drifted".into(),
            since: "2026-11-24T07:59:00Z".into(),
        }],
        problems_total: Some(1),
    }
}

pub(super) fn shapes() -> Vec<Shape> {
    let PodRef {
        namespace,
        name,
        uid,
    } = PodRef {
        namespace: "team-a".into(),
        name: "web".into(),
        uid: Some(record().uid),
    };
    let profile = Some("default".to_owned());
    let look_up = LookUp {
        namespace,
        name,
        uid,
        profile,
        millis: 15_000,
    };
    let bypassing = Bypassing {
        namespace: "team-a".into(),
        name: "web".into(),
        netns: "/run/netns/cni-1".into(),
    };
    let owner = Owner {
        version: "0.2.0".into(),
        is_ready: true,
    };
    let report = Report {
        outcome: WireExplanation::from(&Reason::Redirected.into()),
        refused: false,
        warnings: vec![WireExplanation::from(
            // with a text of its own: the reason's may change
            &Reason::FamilyNotCaptured
                .because("eth0 has IPv6")
                .remedy("set ISTIO_DUAL_STACK on the proxy, or ipFamilies: All in the profile"),
        )],
        profile: "default".into(),
        look_up: std::time::Duration::from_micros(700),
        apply: std::time::Duration::from_micros(900),
    };
    let outcome = || Outcome {
        at: "2026-11-24T08:00:00.5Z".parse().unwrap(),
        namespace: "team-a".into(),
        name: "web".into(),
        uid: Some(record().uid),
        source: Some(SourceKind::Api),
        report: report.clone(),
    };
    vec![
        shape("record.json", &record()),
        shape("installed.json", &installed()),
        shape("question.json", &Question::new(Ask::LookUp(look_up))),
        shape("question-bypassing.json", &Question::new(Ask::Bypassing {})),
        shape("question-owner.json", &Question::new(Ask::Owner {})),
        shape(
            "question-report.json",
            &Question::new(Ask::Report(Box::new(outcome()))),
        ),
        shape("answer-heard.json", &answer(Reply::Heard {})),
        shape(
            "question-decided.json",
            &Question::new(Ask::Decided { uid: record().uid }),
        ),
        shape(
            "answer-decided.json",
            &answer(Reply::Decided(vec![outcome()])),
        ),
        shape("answer.json", &answer(Reply::Found(Box::new(found())))),
        shape("answer-refused.json", &answer(Reply::Refused(refusal()))),
        shape(
            "answer-bypassing.json",
            &answer(Reply::Bypassing(vec![bypassing])),
        ),
        shape("answer-owner.json", &answer(Reply::Owner(owner))),
        shape("report.json", &report),
        shape("mesh-node.json", &node_status()),
    ]
}
