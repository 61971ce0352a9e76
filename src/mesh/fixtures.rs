//! Pods and profiles for unit tests.

use super::{Namespace, Pod};
use crate::profile::{Profile, ProfileOrigin, ProfileSpec};

/// What Istio's injector writes on every pod.
pub(super) const INJECTED: &[(&str, &str)] = &[
    ("traffic.sidecar.istio.io/includeInboundPorts", "*"),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "15020"),
];

/// A pod with these annotations.
pub(super) fn pod(annotations: &[(&str, &str)]) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.annotations = annotations
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    pod
}

/// A namespace with these labels.
pub(super) fn namespace(labels: &[(&str, &str)]) -> Namespace {
    let mut namespace = Namespace::default();
    namespace.metadata.labels = labels
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    namespace
}

/// A profile of this name with this spec, in YAML.
pub(super) fn profile(name: &str, spec: &str) -> Profile {
    let yaml = format!(
        "{{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {{name: {name}}}, spec: {spec}}}"
    );
    Profile::parse(&yaml, ProfileOrigin::BuiltIn).unwrap()
}

/// The spec alone.
pub(super) fn spec(yaml: &str) -> ProfileSpec {
    profile("p", yaml).spec
}
