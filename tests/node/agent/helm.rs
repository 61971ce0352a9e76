//! What the chart installs, on a node that has nothing of mesh-optin, until nothing of it is left.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    daemonset::{DAEMONSET, IMAGE, import_image, restored},
    footprint::{Footprint, KEPT},
};
use crate::{
    Scenario, alone, lands_at_the_sidecar,
    support::{stack::Stack, stack_pod::Pod},
};

pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/mesh-optin");
pub(crate) const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
/// The names of those that are ours.
pub(super) const CRD_NAMES: [&str; 2] = ["meshprofiles.meshoptin.dev", "meshnodes.meshoptin.dev"];
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

pub(crate) const MESH_NODE: &str = "/apis/meshoptin.dev/v1alpha1/meshnodes/node1";

pub(super) const SCENARIO: Scenario = alone(
    "the chart and one label are all that a pod needs, and uninstalled it leaves nothing",
    |s| {
        restored(s, || {
            import_image(s, &[]);
            remove_everything(s);
            let namespace = json!({"istio-injection": "enabled"});
            s.cluster.namespace("helm", &namespace);
            let before = Footprint::once_settled(s);
            let started = Instant::now();
            let said = helm(s, &["install", "--create-namespace"], &values(s));
            assert!(
                said.contains("pilot.cni.provider=multus") && !said.contains("IN THE WAY"),
                "{said}"
            );
            let pod = Pod::new("helm", "web", "default/istio-cni"); // as Istio's injector names it
            s.create(&pod);
            lands_at_the_sidecar(s, &pod);
            s.note(format!(
                "{:.0} s after `helm install` on a node without mesh-optin a pod was redirected",
                started.elapsed().as_secs_f32()
            ));
            reports_the_version_of_multus(s);
            s.delete(&pod);

            helm(
                s,
                &["upgrade", "--reuse-values", "--set=uninstall=true"],
                &json!({}),
            );
            ready(s, "mesh-optin-uninstall");
            node_has_nothing(s);
            s.cluster
                .enter(&["helm", "uninstall", "mesh-optin", "--namespace=mesh-optin"]);
            before.is_restored(s, &KEPT);
            // what was kept goes, and comes back as this node had it
            remove_everything(s);
            before.is_restored(s, &[]);
            s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
        });
    },
);

/// The MeshNode says which Multus the stack was built with.
pub(crate) fn reports_the_version_of_multus(s: &Stack) {
    let modules = include_str!("../../stack/go.mod");
    let module = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4 ";
    let pinned = modules.lines().find_map(|l| l.trim().strip_prefix(module));
    let pinned = pinned
        .and_then(|l| l.split(' ').next())
        .expect("it is pinned");
    let reported = || {
        let node = s.cluster.request("GET", MESH_NODE, &Value::Null).ok()?;
        (node["status"]["multus"]["version"] == pinned).then_some(())
    };
    assert!(
        s.wait_for(reported).is_some(),
        "{pinned}: {:#?}",
        s.cluster.request("GET", MESH_NODE, &Value::Null)
    );
}

/// The values of this node, which has directories of its own and no service network.
pub(crate) fn values(s: &Stack) -> Value {
    let text = std::fs::read_to_string(s.path("/mnt/values.yaml")).unwrap();
    let mut values: Value = serde_yaml::from_str(&text).unwrap();
    let (repository, tag) = IMAGE.split_once(':').unwrap();
    assert_eq!(values["image"]["repository"], repository);
    values["image"]["tag"] = json!(tag);
    values
}

/// Where values for helm are.
pub(super) const VALUES: &str = "/mnt/scenario-values.yaml";

pub(crate) fn helm(s: &Stack, args: &[&str], values: &Value) -> String {
    s.write(VALUES, &values.to_string());
    let of_scenario = format!("--values={VALUES}");
    let fixed = ["mesh-optin", CHART, "--namespace=mesh-optin", &of_scenario];
    s.cluster.enter(&[&["helm"], args, &fixed].concat())
}

/// Fails the test if the node still has something of mesh-optin.
pub(super) fn node_has_nothing(s: &Stack) {
    for path in [
        "/var/lib/mesh-optin",
        "/run/mesh-optin",
        "/mnt/cni/bin/mesh-optin",
        "/mnt/cni/confdir/istio-cni.conf",
    ] {
        assert!(!s.path(path).exists(), "{path} is left");
    }
}

/// Waits until a DaemonSet's pod of this node is ready.
pub(crate) fn ready(s: &Stack, name: &str) {
    let path = DAEMONSET.replace("mesh-optin-agent", name);
    let is_ready = || {
        let object = s.cluster.request("GET", &path, &Value::Null).ok()?;
        (object["status"]["numberReady"] == 1).then_some(())
    };
    assert!(
        s.wait_for(is_ready).is_some(),
        "{:?}",
        s.cluster.request("GET", &path, &Value::Null)
    );
}

/// What this node and other scenarios have installed by manifests.
pub(crate) fn remove_everything(s: &Stack) {
    s.cluster.enter(&["rm", "-f", "/etc/mesh-optin/node.yaml"]);
    for crd in CRD_NAMES {
        // an API server denies their deletion for a second after the policy is gone; a CRD that is not there needs no permission
        let allow = ["annotate", "crd", crd, "meshoptin.dev/allow-delete=true"];
        s.cluster
            .try_enter(&[&["kubectl"], &allow[..]].concat())
            .ok();
    }
    let delete = ["kubectl", "delete", "--ignore-not-found", "--wait"];
    for what in [
        &["-k", &format!("{DEPLOY}/kubernetes")][..],
        &["-f", &format!("{DEPLOY}/host-credential/rbac.yaml")],
        &["crd", CRD_NAMES[0], CRD_NAMES[1]],
        &[
            "-n",
            "default",
            "network-attachment-definition",
            "istio-cni",
        ],
    ] {
        s.cluster.enter(&[&delete, what].concat());
    }
}
