//! MeshNode: the report of a node's agent, which lets the cluster see a node from outside. Only that agent writes it.

#[cfg(feature = "schema")]
use kube::CustomResource;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Empty: a MeshNode is a report only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(CustomResource, JsonSchema))]
#[cfg_attr(
    feature = "schema",
    kube(
        group = "meshoptin.dev",
        version = "v1alpha1",
        kind = "MeshNode",
        status = "NodeStatus",
        category = "mesh-optin",
        doc = "What a node's agent found about the node and its pods. It has the Node's name, and is deleted with it.",
        printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
        printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.version"}"#,
        printcolumn = r#"{"name": "Redirected", "type": "integer", "jsonPath": ".status.pods.redirected"}"#,
        printcolumn = r#"{"name": "Problems", "type": "integer", "jsonPath": ".status.problemsTotal"}"#,
        printcolumn = r#"{"name": "Last-Report", "type": "date", "jsonPath": ".status.lastReport"}"#,
        printcolumn = r#"{"name": "Kernel", "type": "string", "jsonPath": ".status.kernel", "priority": 1}"#,
        printcolumn = r#"{"name": "Backend", "type": "string", "jsonPath": ".status.backend", "priority": 1}"#,
        printcolumn = r#"{"name": "Multus", "type": "string", "jsonPath": ".status.multus.mode", "priority": 1}"#,
        printcolumn = r#"{"name": "Last-Audit", "type": "date", "jsonPath": ".status.lastAudit", "priority": 1}"#
    )
)]
pub struct MeshNodeSpec {}

/// The agent's findings. Counts are of pods, at the last audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct NodeStatus {
    /// The version of the agent.
    pub version: String,
    /// The version of the program that Multus calls.
    pub program_version: String,
    /// The release of the kernel.
    pub kernel: String,
    /// The backend of profiles with backend Auto: Nftables or Iptables.
    pub backend: String,
    /// How Multus is configured on the node.
    pub multus: MultusStatus,
    /// Ready, ProgramInstalled, PathsVerified, SelfTestPassed, ProfilesKnown and HostCredential.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])))]
    pub conditions: Vec<NodeCondition>,
    /// Pods of the mesh by their state; absent before the first audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,
    /// When the last audit ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub last_audit: Option<String>,
    /// When the API server last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub last_heard: Option<String>,
    /// When this report was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub last_report: Option<String>,
    /// The MeshProfiles in use for pods of the node.
    pub profiles: Vec<ProfileInUse>,
    /// Pods that are not as they should be, the worst first: at most 32, and at most 4 of a namespace.
    pub problems: Vec<Problem>,
    /// The number of such pods, shown or not; absent before the first audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems_total: Option<usize>,
}

/// How Multus is configured on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct MultusStatus {
    /// thin or thick; empty if it is not known.
    pub mode: String,
    /// Its version; empty if it is not known.
    pub version: String,
    /// The directory where it looks for plugins.
    pub bin_dir: String,
    /// The directory where it looks for configurations.
    pub conf_dir: String,
}

/// A condition, as the API of Kubernetes knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct NodeCondition {
    /// The condition's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// A word that programs can rely on.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When it got this status.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub last_transition_time: String,
}

/// How many pods are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct PodCounts {
    /// Redirected as they should be, or repaired.
    pub redirected: usize,
    /// Redirected, but not as they should be.
    pub drifted: usize,
    /// Redirected, but foreign rules decide first.
    pub preempted: usize,
    /// Redirected by the rules of another version.
    pub outdated: usize,
    /// Not redirected, though they should be.
    pub bypassing: usize,
    /// Without a sidecar, though they should be in the mesh.
    pub sidecar_missing: usize,
    /// Injected, but opted out and not redirected.
    pub opted_out: usize,
    /// Running, but would be refused if they were recreated. They are in one of the other states as well.
    pub policy_changed: usize,
    /// Could not be audited.
    pub unaudited: usize,
}

/// A MeshProfile in use for pods of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ProfileInUse {
    /// Its name.
    pub name: String,
    /// The version in which its spec was read; empty if it is not an object of the cluster.
    pub resource_version: String,
}

/// A pod that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Problem {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// What is wrong, as in an Event.
    pub reason: String,
    /// The time of the first audit that found it.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub since: String,
}

/// Most problems of a node.
pub const MOST_PROBLEMS: usize = 32;
/// Most of them of one namespace: no tenant hides those of others.
pub const MOST_OF_NAMESPACE: usize = 4;
