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
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub version: String,
    /// The version of the program that Multus calls.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub program_version: String,
    /// The release of the kernel.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub kernel: String,
    /// The backend of profiles with backend Auto: Nftables or Iptables.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub backend: String,
    /// How Multus is configured on the node.
    pub multus: MultusStatus,
    /// Ready, ProgramInstalled, PathsVerified, SelfTestPassed, ProfilesKnown and HostCredential.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_CONDITIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])))]
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
    /// The MeshProfiles in use for pods of the node, at most 32 in the order of their names.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_PROFILES)))]
    pub profiles: Vec<ProfileInUse>,
    /// Pods that are not as they should be, the worst first: at most 32, and at most 4 of a namespace.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_PROBLEMS)))]
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
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub mode: String,
    /// The version of its program in the directory of CNI plugins (thick: multus-shim), from its build information; empty if that names none.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub version: String,
    /// The directory where it looks for plugins.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_PATH)))]
    pub bin_dir: String,
    /// The directory where it looks for configurations.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_PATH)))]
    pub conf_dir: String,
}

/// A condition, as the API of Kubernetes knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct NodeCondition {
    /// The condition's type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub kind: String,
    /// True, False or Unknown.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub status: String,
    /// A word that programs can rely on.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub reason: String,
    /// A sentence for people.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_MESSAGE)))]
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
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_NAME)))]
    pub name: String,
    /// The version in which its spec was read; empty if it is not an object of the cluster.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub resource_version: String,
}

/// A pod that is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Problem {
    /// The pod's namespace.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_NAME)))]
    pub namespace: String,
    /// The pod's name.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_NAME)))]
    pub pod: String,
    /// What is wrong, as in an Event.
    #[cfg_attr(feature = "schema", schemars(length(max = LONGEST_WORD)))]
    pub reason: String,
    /// The time of the first audit that found it.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "date-time")))]
    pub since: String,
}

/// Most conditions of a node: the agent's, and the controller's Reporting.
pub const MOST_CONDITIONS: usize = 16;
/// Most profiles that are listed.
pub const MOST_PROFILES: usize = 32;
/// Most problems of a node.
pub const MOST_PROBLEMS: usize = 32;
/// Most of them of one namespace: no tenant hides those of others.
pub const MOST_OF_NAMESPACE: usize = 4;
/// Longest version, release of a kernel, resource version, or word that programs can rely on, in characters.
pub const LONGEST_WORD: usize = 128;
/// Longest name of an object.
pub const LONGEST_NAME: usize = 253;
/// Longest path, as Linux has it.
pub const LONGEST_PATH: usize = 4096;
/// Longest message of a condition, as Kubernetes has it.
pub const LONGEST_MESSAGE: usize = 32_768;

// === impl NodeStatus ===

impl NodeStatus {
    /// Cuts lists and texts at the bounds of the CRD: an API server takes no part of a report that exceeds one.
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        self.conditions.truncate(MOST_CONDITIONS);
        self.profiles.truncate(MOST_PROFILES);
        self.problems.truncate(MOST_PROBLEMS);
        let MultusStatus {
            mode,
            version,
            bin_dir,
            conf_dir,
        } = &mut self.multus;
        cut([&mut self.version, &mut self.program_version], LONGEST_WORD);
        cut(
            [&mut self.kernel, &mut self.backend, mode, version],
            LONGEST_WORD,
        );
        cut([bin_dir, conf_dir], LONGEST_PATH);
        for condition in &mut self.conditions {
            let NodeCondition {
                kind,
                status,
                reason,
                message,
                last_transition_time: _,
            } = condition;
            cut([kind, status, reason], LONGEST_WORD);
            cut([message], LONGEST_MESSAGE);
        }
        for profile in &mut self.profiles {
            cut([&mut profile.name], LONGEST_NAME);
            cut([&mut profile.resource_version], LONGEST_WORD);
        }
        for problem in &mut self.problems {
            cut([&mut problem.namespace, &mut problem.pod], LONGEST_NAME);
            cut([&mut problem.reason], LONGEST_WORD);
        }
        self
    }
}

/// Cuts texts after a number of bytes; they have no more characters than that.
fn cut<const N: usize>(texts: [&mut String; N], longest: usize) {
    for text in texts {
        text.truncate(text.floor_char_boundary(longest));
    }
}
