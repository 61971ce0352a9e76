//! The workloads of the examples, as pods that a node's plugin finds.

use std::path::Path;

use serde_json::json;

use super::CommandFailure;
use crate::{
    mesh::{Namespace, Pod, assume_injected},
    profile::Profile,
    source::manifests::{Object, parse},
};

const EXAMPLES: [(&str, &str); 2] = [
    (
        "examples/opt-in-by-namespace.yaml",
        include_str!("../../../examples/opt-in-by-namespace.yaml"),
    ),
    (
        "examples/opt-in-by-workload.yaml",
        include_str!("../../../examples/opt-in-by-workload.yaml"),
    ),
];

/// A workload of the examples as a pod that Istio's injector has seen.
pub(super) struct Workload {
    pub(super) pod: Pod,
    /// Its attachment's CNI configuration.
    pub(super) config: String,
}

/// Reads the examples, puts their namespaces and pods where source `manifests` finds them.
pub(super) fn workloads() -> Result<Vec<Workload>, CommandFailure> {
    let profile = Profile::built_in();
    let mut workloads = Vec::new();
    for (path, text) in EXAMPLES {
        let objects = parse(text, Path::new(path)).map_err(CommandFailure::failed)?;
        let namespace = objects.iter().find_map(|o| {
            if let Object::Namespace(n) = o {
                Some(n)
            } else {
                None
            }
        });
        let config = objects.iter().find_map(|o| {
            if let Object::Attachment(a) = o {
                a.config.clone()
            } else {
                None
            }
        });
        let (Some(namespace), Some(config)) = (namespace, config) else {
            return Err(CommandFailure::failed(format!("{path} is incomplete")));
        };
        write("Namespace", &namespace.metadata.name, &json!(namespace))?;
        for object in &objects {
            if let Object::Pod(pod) = object {
                workloads.push(workload(pod, namespace, &profile, &config)?);
            }
        }
    }
    Ok(workloads)
}

/// The pod as the injector and the API server would leave it: source `manifests` assumes nothing.
fn workload(
    template: &Pod,
    namespace: &Namespace,
    profile: &Profile,
    config: &str,
) -> Result<Workload, CommandFailure> {
    let mut pod = assume_injected(template, namespace, profile).unwrap_or_else(|| template.clone());
    pod.metadata.uid = format!("demo-{}", pod.metadata.name);
    write(
        "Pod",
        &format!("{}-{}", pod.metadata.namespace, pod.metadata.name),
        &json!(pod),
    )?;
    Ok(Workload {
        pod,
        config: config.to_owned(),
    })
}

fn write(kind: &str, name: &str, object: &serde_json::Value) -> Result<(), CommandFailure> {
    let mut object = object.clone();
    object["kind"] = json!(kind);
    let path = format!("/manifests/{}-{name}.json", kind.to_lowercase());
    std::fs::write(&path, object.to_string())
        .map_err(|e| CommandFailure::failed(format!("writing {path}: {e}")))
}
