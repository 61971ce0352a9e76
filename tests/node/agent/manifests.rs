//! What manifests have installed is removed by them while pods run and nobody governs their namespaces any more.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    daemonset::{DAEMONSET, PROGRAM, daemonset, import_image_of, restored},
    footprint::Footprint,
    helm::{CRDS, ready, remove_everything},
    rollout::rolled_out,
};
use crate::{
    Scenario, THIN, alone, is_redirected, lands_at_the_sidecar,
    support::{controller::Controller, stack::Stack, stack_pod::Pod},
};

/// The image of the manifests as they are.
const IMAGE: &str = concat!(
    "registry.example.com/mesh-optin:",
    env!("CARGO_PKG_VERSION")
);
const PROFILE: &str = "own";
/// A namespace that is deleted while the agents are being removed, and one whose pods outlive them.
const GOES: &str = "goes";
const STAYS: &str = "stays";
const ATTACHMENT: &str = "istio-cni";

/// With one Multus alone: agent and manifests are the same with both.
pub(super) const SCENARIO: Scenario = alone(
    "manifests are deleted without the controller while pods run: nothing is stuck, and pods stay in the mesh",
    |s| {
        restored(s, || {
            remove_everything(s);
            let before = Footprint::once_settled(s);
            installed(s);
            let [goes, stays] = [GOES, STAYS].map(|of| Pod::new(of, "web", ATTACHMENT));
            is_redirected(s, &goes);
            is_redirected(s, &stays);
            let started = Instant::now();
            removed(s, &stays);
            s.note(format!(
                "{:.0} s after the first `kubectl delete` nothing was left of the manifests",
                started.elapsed().as_secs_f32()
            ));
            before.is_restored(s, &[]);
            s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
        });
    },
)
.only_with(THIN);

/// A controller gives two namespaces what their profile wants, and then it is gone.
fn installed(s: &Stack) {
    import_image_of(s, IMAGE, PROGRAM, &[]);
    s.cluster.apply_crds();
    let mut object = daemonset(s);
    object["spec"]["minReadySeconds"] = json!(2);
    s.cluster
        .create(DAEMONSET.rsplit_once('/').unwrap().0, &object);
    kubectl(s, "apply -f deploy/controller/rbac.yaml");
    kubectl(s, "apply -k deploy/admission/bindings");
    let controller = Controller::start(&s.cluster, "controller", 9647, &[]);
    let labels = json!({"tenancy": "own", "istio-injection": "enabled"});
    let placement = json!({"namespaces": {"matchLabels": {"tenancy": "own"}}, "attachment": {"placement": "PerNamespace"}});
    s.cluster.profile(PROFILE, &placement);
    for namespace in [GOES, STAYS] {
        s.cluster.namespace(namespace, &labels);
    }
    rolled_out(s);
    s.cluster.wait_for_profile(PROFILE);
    for namespace in [GOES, STAYS] {
        let made = || s.cluster.attachment(namespace, ATTACHMENT);
        assert!(s.wait_for(made).is_some(), "{namespace} has no attachment");
    }
    controller.end(Signal::SIGKILL);
}

/// The steps of deploy/README.md, but that pods still run.
fn removed(s: &Stack, stays: &Pod) {
    let allow = crd_is_refused(s, "meshprofiles");
    kubectl(s, "delete -k deploy/admission/bindings --ignore-not-found");
    kubectl(s, "delete -k deploy/controller --ignore-not-found");
    for label in ["profile", "shared"] {
        let nads = "delete network-attachment-definitions --all-namespaces --selector";
        kubectl(s, &format!("{nads} meshoptin.dev/{label}"));
    }
    kubectl(s, "-n mesh-optin delete daemonset mesh-optin-agent");
    kubectl(s, "apply -k deploy/uninstall");
    uninstall_waits(s);
    is_deleted(s, GOES);
    still_lands(s, stays);

    // too early: a pod still needs the program
    kubectl(s, "delete -k deploy/uninstall --timeout=180s");
    kubectl(
        s,
        "delete -k deploy/kubernetes --ignore-not-found --timeout=180s",
    );
    run(s, &allow);
    run(s, &allow.replace("meshprofiles", "meshnodes"));
    kubectl(
        s,
        "delete crd meshprofiles.meshoptin.dev meshnodes.meshoptin.dev --timeout=180s",
    );
    still_lands(s, stays);
    is_deleted(s, STAYS);

    // the way out is the same
    kubectl(s, "apply -k deploy/uninstall");
    ready(s, "mesh-optin-uninstall");
    kubectl(s, "delete -k deploy/uninstall --timeout=180s");
}

/// The command that the refusal names.
fn crd_is_refused(s: &Stack, kind: &str) -> String {
    let said = run(
        s,
        &format!("kubectl delete crd {kind}.meshoptin.dev 2>&1 || true"),
    );
    let command = said.split_once("then run: ").map(|(_, command)| command);
    let command = command.unwrap_or_else(|| panic!("the CRD is not refused: {said}"));
    command.trim().to_owned()
}

/// The uninstalling pod names what it waits for, and is not ready.
fn uninstall_waits(s: &Stack) {
    let path = "/api/v1/namespaces/mesh-optin/pods?labelSelector=app.kubernetes.io/name=mesh-optin-uninstall";
    let says = || {
        let list = s.cluster.request("GET", path, &Value::Null).ok()?;
        let name = list["items"][0]["metadata"]["name"].as_str()?.to_owned();
        let log = s.log(&Pod::new("mesh-optin", &name, ""), "uninstall");
        log.contains("the program stays").then_some(())
    };
    assert!(
        s.wait_for(says).is_some(),
        "it does not say what it waits for"
    );
}

/// A governed namespace is deleted, with its pod, whose DEL succeeds the first time.
fn is_deleted(s: &Stack, namespace: &str) {
    let failed_dels = || {
        let log = s.cluster.file("log/containerd");
        log.matches("failed to destroy network").count()
    };
    let failed = failed_dels();
    kubectl(s, &format!("delete namespace {namespace} --timeout=180s"));
    assert_eq!(failed_dels(), failed, "a DEL failed in {namespace}");
}

/// It has restarted no container, and all of its connections are redirected.
fn still_lands(s: &Stack, pod: &Pod) {
    lands_at_the_sidecar(s, pod);
    s.all_landed(pod, "15001 203.0.113.7:80 ");
}

fn kubectl(s: &Stack, command: &str) -> String {
    run(s, &format!("kubectl {command}"))
}

/// Runs a command of deploy/README.md.
fn run(s: &Stack, command: &str) -> String {
    let there = concat!("cd ", env!("CARGO_MANIFEST_DIR"));
    s.cluster
        .enter(&["sh", "-c", &format!("{there} && {command}")])
}
