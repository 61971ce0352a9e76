//! The chart: what it renders, and what a real API server makes of it.

mod installing;
mod networks;
mod openshift;
mod rendered;
mod values;

use serde_json::Value;

use crate::support::{
    cluster::{Cluster, script},
    run, try_run,
};

/// Where the chart is.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/mesh-optin");

/// A program of the test stack.
fn program(name: &str) -> String {
    format!("{}/{name}", run(&script("build"), &[], "").trim())
}

/// What `helm template` makes of the chart with these arguments; the error is what it said.
fn try_template(args: &[&str]) -> Result<String, String> {
    let fixed = ["template", "mesh-optin", CHART, "--namespace=mesh-optin"];
    try_run(&program("helm"), &[&fixed, args].concat(), "")
}

/// The objects of manifests, in order.
fn objects(manifests: &str) -> Vec<Value> {
    let documents = manifests.split("\n---\n");
    documents
        .map(|document| {
            serde_yaml::from_str(document).unwrap_or_else(|e| panic!("{e}: {document}"))
        })
        .filter(|object: &Value| !object.is_null())
        .collect()
}

/// The objects that the chart has with these values, `a=1,b=2`.
fn template(values: &str) -> Vec<Value> {
    let manifests = try_template(&["--set", values]).unwrap_or_else(|e| panic!("{values}: {e}"));
    objects(&manifests)
}

/// Runs helm on this cluster; the error is what it said.
fn try_helm(cluster: &Cluster, args: &[&str]) -> Result<String, String> {
    cluster.try_enter(&[&["env", "HOME=/mnt", "helm"], args].concat())
}

fn helm(cluster: &Cluster, args: &[&str]) -> String {
    try_helm(cluster, args).unwrap_or_else(|e| panic!("helm {args:?}: {e}"))
}

/// Whether what follows from the chart is to be written, instead of compared.
#[allow(
    clippy::disallowed_methods,
    reason = "tests ask what they were called with"
)]
fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}
