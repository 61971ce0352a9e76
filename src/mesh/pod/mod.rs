//! Pods and namespaces, reduced to what decisions need.

mod answers;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::answers::OtherProxy;

/// Annotations that are read.
pub mod annotation {
    #![expect(missing_docs, reason = "the values are the documentation")]
    pub const INJECT: &str = super::label::INJECT;
    pub const STATUS: &str = "sidecar.istio.io/status";
    pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
    pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
    pub const REVISION: &str = super::label::REVISION;
    /// The injection templates of the pod.
    pub const TEMPLATES: &str = "inject.istio.io/templates";
    pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
    /// Kubelet's hash of a static pod's manifest: the UID that the runtime knows it by, and that its mirror pod carries.
    pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
}

/// Labels that are read.
pub mod label {
    #![expect(missing_docs, reason = "the values are the documentation")]
    pub const INJECT: &str = "sidecar.istio.io/inject";
    pub const REVISION: &str = "istio.io/rev";
    pub const ISTIO_INJECTION: &str = "istio-injection";
    pub const MAISTRA_MEMBER_OF: &str = "maistra.io/member-of";
    pub const MAISTRA_IGNORE: &str = "maistra.io/ignore-namespace";
    pub const ISTIO_ENV: &str = "istio-env";
}

/// Variables of istio-proxy that are read.
pub(super) mod env {
    pub(crate) const DISABLE_ENVOY: &str = "DISABLE_ENVOY";
    pub(crate) const INTERCEPTION_MODE: &str = "ISTIO_META_INTERCEPTION_MODE";
    pub(crate) const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";
    pub(crate) const DUAL_STACK: &str = "ISTIO_DUAL_STACK";
    pub(crate) const INVALID_DROP: &str = "INVALID_DROP";
    pub(crate) const ALL: [&str; 5] = [
        DISABLE_ENVOY,
        INTERCEPTION_MODE,
        DNS_CAPTURE,
        DUAL_STACK,
        INVALID_DROP,
    ];
}

/// Capabilities that are read, as Kubernetes writes them.
mod capability {
    pub(super) const NET_ADMIN: &str = "NET_ADMIN";
    pub(super) const NET_RAW: &str = "NET_RAW";
    pub(super) const EVERY: &str = "ALL";
    pub(super) const ALL: [&str; 3] = [NET_ADMIN, NET_RAW, EVERY];
}

type TextMap = BTreeMap<String, String>;

/// The parts of a pod that decisions need, in the API's shape, so that it can be read from `GET pod` and from manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct Pod {
    #[serde(deserialize_with = "null_is_empty")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_is_empty")]
    pub spec: PodSpec,
    #[serde(deserialize_with = "null_is_empty")]
    pub status: PodStatus,
}

/// The parts of a namespace that decisions need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct Namespace {
    #[serde(deserialize_with = "null_is_empty")]
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct Metadata {
    pub name: String,
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub namespace: String,
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub uid: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: TextMap,
    #[serde(deserialize_with = "null_is_empty")]
    pub annotations: TextMap,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the API's own names")]
pub struct PodSpec {
    #[serde(deserialize_with = "null_is_empty")]
    pub node_name: String,
    pub host_network: bool,
    #[serde(deserialize_with = "null_is_empty")]
    pub runtime_class_name: String,
    /// The handler of its RuntimeClass. Not a field of the API: the look-up adds it.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub runtime_handler: String,
    /// The default of all containers.
    #[serde(deserialize_with = "null_is_empty")]
    pub security_context: SecurityContext,
    #[serde(deserialize_with = "null_is_empty")]
    pub init_containers: Vec<Container>,
    #[serde(deserialize_with = "null_is_empty")]
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the API's own names")]
pub struct Container {
    pub name: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<EnvVar>,
    /// `Always` makes a sidecar of an init container.
    #[serde(deserialize_with = "null_is_empty")]
    pub restart_policy: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub security_context: SecurityContext,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct EnvVar {
    pub name: String,
    /// Empty for `valueFrom`: that value is not known when the sandbox is created.
    #[serde(deserialize_with = "null_is_empty")]
    pub value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the API's own names")]
pub struct SecurityContext {
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// In containers only, like what follows.
    #[serde(deserialize_with = "null_is_empty")]
    pub privileged: bool,
    #[serde(deserialize_with = "null_is_empty")]
    pub capabilities: Capabilities,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct Capabilities {
    #[serde(deserialize_with = "null_is_empty")]
    pub add: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the API's own names")]
pub struct PodStatus {
    #[serde(rename = "podIPs", deserialize_with = "null_is_empty")]
    pub pod_ips: Vec<PodIp>,
    #[serde(deserialize_with = "null_is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "null_is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct PodIp {
    pub ip: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct ContainerStatus {
    #[serde(rename = "containerID", deserialize_with = "null_is_empty")]
    pub container_id: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub state: ContainerState,
    #[serde(rename = "lastState", deserialize_with = "null_is_empty")]
    pub last_state: ContainerState,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct ContainerState {
    pub running: Option<Started>,
    pub terminated: Option<Started>,
}

/// When a container was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the API's own names")]
pub struct Started {
    pub started_at: Option<Timestamp>,
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
