//! From Istio's own ways of redirection to this one and back, by the charts and programs themselves, while pods of both talk. What is shown
//! here is what "Coming from istio-cni" in deploy/README.md says.

mod chained;
mod init;
mod multus;
mod traffic;

use serde_json::{Value, json};

use crate::{
    Scenario,
    agent::{
        daemonset::{import_image, restored},
        helm::{self, CRDS, ready, remove_everything},
        tenant::with_service_network,
    },
    istio_cni,
    support::stack::Stack,
};

pub(crate) const SCENARIOS: &[Scenario] = &[multus::SCENARIO, chained::SCENARIO, init::SCENARIO];

/// The attachment of Istio's injector and of both charts.
const ATTACHMENT: &str = "default/istio-cni";
const NAD: &str = "-n default network-attachment-definition istio-cni";

/// Does `work` on a node that has nothing of mesh-optin and whose pods reach the API server. In the end nothing of it may be left but CRDs
/// and the profile.
fn migrated(s: &Stack, work: impl FnOnce()) {
    restored(s, || {
        import_image(s, &[]);
        s.import("istio-cni.tar");
        remove_everything(s);
        with_service_network(s, work);
        kubectl(s, "delete namespace istio-cni --ignore-not-found");
        remove_everything(s);
        s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
    });
}

/// Installs the chart.
fn installed(s: &Stack) -> String {
    let mut values = helm::values(s);
    let arguments = values["extraArgs"].as_array_mut().unwrap();
    arguments.push(json!("--audit-period=2"));
    helm::helm(s, &["install", "--create-namespace"], &values)
}

/// Upgrades it with what has changed meanwhile, or with this.
fn upgraded(s: &Stack, args: &[&str]) {
    let args = [&["upgrade", "--reuse-values"], args].concat();
    helm::helm(s, &args, &json!({}));
}

/// Removes it, while the last pods that need it go.
fn removed(s: &Stack, meanwhile: impl FnOnce()) {
    upgraded(s, &["--set=uninstall=true"]);
    meanwhile();
    ready(s, "mesh-optin-uninstall");
    for path in [
        "/var/lib/mesh-optin",
        "/run/mesh-optin",
        "/mnt/cni/bin/mesh-optin",
    ] {
        assert!(!s.path(path).exists(), "{path} is left");
    }
    let conf = std::fs::read_to_string(s.path("/mnt/cni/confdir/istio-cni.conf"));
    assert!(!conf.is_ok_and(|conf| conf.contains("mesh-optin")));
    let uninstall = ["helm", "uninstall", "mesh-optin", "--namespace=mesh-optin"];
    s.cluster.enter(&uninstall);
}

fn kubectl(s: &Stack, command: &str) -> String {
    s.cluster
        .enter(&["sh", "-c", &format!("kubectl {command}")])
}

/// Waits until the agent of the node reports this: a condition, or a problem of a pod.
fn reports(s: &Stack, what: &str, is: impl Fn(&Value) -> bool) {
    let path = "/apis/meshoptin.dev/v1alpha1/meshnodes/node1";
    let report = || s.cluster.request("GET", path, &Value::Null);
    let found = s.wait_for(|| is(&report().ok()?["status"]).then_some(()));
    assert!(found.is_some(), "{what}: {:#?}", report());
}
