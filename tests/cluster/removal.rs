//! The way out of deploy/README.md, with the cluster's own controllers, where the controller is gone already.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    cluster::Cluster,
    controller::{ALL_ATTACHMENTS, Controller, attachment_path, until},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The commands of the section on uninstalling by manifests, as they are shown.
fn shown() -> Vec<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/deploy/README.md")).unwrap();
    let (_, section) = text.split_once("With manifests:\n\n```console\n").unwrap();
    let (block, _) = section.split_once("```").unwrap();
    let commands = block.lines().map(|line| line.strip_prefix("$ ").unwrap());
    commands.map(str::to_owned).collect()
}

/// Runs a command of a page as somebody who is in this repository.
fn sh(cluster: &Cluster, command: &str) -> Result<String, String> {
    cluster.try_enter(&["sh", "-c", &format!("cd {ROOT} && {command}")])
}

/// An API server denies for a second or two what a deleted policy denied.
#[test]
fn the_crds_can_be_deleted_in_the_same_second_as_their_policy() {
    let cluster = Cluster::start();
    for command in [
        "kubectl apply -f crds",
        "kubectl wait --for=condition=Established crd --all",
        "kubectl apply -k deploy/admission",
        "kubectl apply -k deploy/admission/bindings",
    ] {
        sh(&cluster, command).unwrap_or_else(|e| panic!("{command}: {e}"));
    }
    let try_it = "kubectl delete crd meshnodes.meshoptin.dev --dry-run=server";
    until("it is denied", || {
        sh(&cluster, try_it).is_err_and(|why| why.contains("all its objects are deleted"))
    });
    let unbind = "kubectl delete validatingadmissionpolicybinding mesh-optin-crds";
    let of_crds = shown().into_iter().filter(|c| c.contains(" crd "));
    for command in std::iter::once(unbind.to_owned()).chain(of_crds) {
        sh(&cluster, &command).unwrap_or_else(|e| panic!("{command}: {e}"));
    }
    let left = sh(&cluster, "kubectl get crd -o name | grep meshoptin || true");
    assert_eq!(left.unwrap(), "");
}

#[test]
fn nothing_is_stuck_where_the_controller_is_gone_and_nothing_of_ours_is_left() {
    let cluster = Cluster::start();
    cluster.controllers();
    for command in [
        "kubectl apply -f crds",
        "kubectl wait --for=condition=Established crd --all",
        "kubectl apply -k deploy/kubernetes",
        "kubectl apply -k deploy/controller",
        "kubectl apply -k deploy/admission/bindings",
    ] {
        sh(&cluster, command).unwrap_or_else(|e| panic!("{command}: {e}"));
    }
    for namespace in ["governed", "kept"] {
        cluster.namespace(namespace, &json!({"team": "a"}));
    }
    let profile = json!({"namespaces": {"matchLabels": {"team": "a"}}, "attachment": {"placement": "PerNamespace"}});
    cluster.profile("a", &profile);
    let controller = Controller::start(&cluster, "a", 8151, &[]);
    cluster.wait_for_profile("a");
    controller.end(Signal::SIGKILL);

    // a namespace that a profile governs, with its attachment
    let delete = "kubectl delete namespace governed --timeout=60s";
    sh(&cluster, delete).unwrap();
    assert!(cluster.attachment("kept", "istio-cni").is_some());
    // a CRD goes only after the command that the refusal holds
    let crd = "kubectl delete crd meshprofiles.meshoptin.dev --timeout=60s";
    let allow = "kubectl annotate crd meshprofiles.meshoptin.dev meshoptin.dev/allow-delete=true";
    until("it is refused", || {
        sh(&cluster, &format!("{crd} --dry-run=server")).is_err()
    });
    let refused = sh(&cluster, crd).unwrap_err();
    assert!(refused.contains(allow), "{refused}");

    let commands = shown();
    for command in &commands {
        // without a kubelet no pod of a DaemonSet is ever ready
        let never_ends = command.contains(" rollout status ");
        // kubectl knows no name of a kind that is not served
        let is_unknown = command.contains("admission/networks") && !cluster.has_mutating_policies();
        if !never_ends && !is_unknown {
            sh(&cluster, command).unwrap_or_else(|e| panic!("{command}: {e}"));
        }
    }
    let left = sh(&cluster, "kubectl get crds,clusterroles,clusterrolebindings,flowschemas,prioritylevelconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces -o name | grep mesh || true").unwrap();
    assert_eq!(left, "");
    let attachments = cluster.request("GET", ALL_ATTACHMENTS, &Value::Null);
    assert_eq!(attachments.unwrap()["items"], json!([]));
    // and the name is anybody's
    cluster.create(
        &attachment_path("kept", ""),
        &json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "istio-cni"}, "spec": {"config": r#"{"type":"bridge"}"#}}),
    );
}
