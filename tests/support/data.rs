//! Pods as Istio injects them. Needs no root: every test program has it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use mesh_optin::{
    mesh::{Attachment, Container, Decision, EnvVar, Intent, Namespace, Pod, annotation, decide},
    profile::Profile,
};
use serde_json::Value;

/// A pod of tests/data/pods and its namespace.
pub fn data(name: &str) -> (Value, Value) {
    let text = std::fs::read_to_string(format!(
        "{}/tests/data/pods/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let mut data: Value = serde_json::from_str(&text).unwrap();
    (data["pod"].take(), data["namespace"].take())
}

/// A pod as Istio's injector makes it, with these annotations and proxy variables.
pub fn injected(annotations: &[(&str, &str)], env: &[(&str, &str)]) -> Pod {
    let mut pod = Pod::default();
    pod.metadata
        .labels
        .insert("sidecar.istio.io/inject".into(), "true".into());
    pod.metadata.annotations = annotations
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    pod.metadata
        .annotations
        .insert(annotation::STATUS.into(), "{}".into());
    let env = env
        .iter()
        .map(|(k, v)| EnvVar {
            name: (*k).into(),
            value: (*v).into(),
        })
        .collect();
    pod.spec.containers.push(Container {
        name: "istio-proxy".into(),
        env,
        ..Container::default()
    });
    pod
}

/// The Intent of a pod under a profile.
pub fn intent_of(pod: &Pod, profile: &Profile) -> Intent {
    intent_in(pod, &Namespace::default(), profile)
}

/// The same of a pod in this namespace.
pub fn intent_in(pod: &Pod, namespace: &Namespace, profile: &Profile) -> Intent {
    match decide(pod, namespace, Ok(profile), &Attachment::default()).decision {
        Decision::Redirect(intent) => *intent,
        Decision::Skip(e) | Decision::Refuse(e) => panic!("{e}"),
    }
}
