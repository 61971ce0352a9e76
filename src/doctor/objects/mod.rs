//! Objects of a cluster, reduced to what is concluded from them.

mod events;
mod istio;
mod multus;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

pub(super) use self::{
    events::NotFoundEvent,
    istio::{EndpointSlice, IstioCni, Webhook, WebhookConfiguration},
    multus::{ContainerStatus, MultusPod, Selector},
};
use crate::profile::{Profile, ProfileOrigin, Status, mesh_node::NodeStatus, validate_cel};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) generation: Option<i64>,
}

/// A DaemonSet or Deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Workload {
    pub(super) metadata: Metadata,
    pub(super) spec: WorkloadSpec,
    pub(super) status: WorkloadStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkloadSpec {
    pub(super) selector: Selector,
    pub(super) template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Template {
    pub(super) spec: TemplateSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TemplateSpec {
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) volume_mounts: Vec<Mount>,
    pub(super) resources: Resources,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resources {
    pub(super) limits: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) mount_path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Volume {
    pub(super) config_map: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct WorkloadStatus {
    pub(super) desired_number_scheduled: usize,
    pub(super) number_ready: usize,
    pub(super) updated_number_scheduled: usize,
}

/// A Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) metadata: Metadata,
    pub(super) status: NodeOf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeOf {
    pub(super) node_info: NodeInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeInfo {
    pub(super) kernel_version: String,
}

/// A MeshNode.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct MeshNode {
    pub(super) metadata: Metadata,
    pub(super) status: NodeStatus,
}

/// A MeshProfile and what the controller says of it.
#[derive(Debug, Clone)]
pub(super) struct ProfileObject {
    pub(super) profile: Profile,
    /// Which rule of the CRD it breaks: it may be older than the rule.
    pub(super) breaks: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) status: Status,
}

/// A ConfigMap.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigMap {
    pub(super) data: BTreeMap<String, String>,
}

/// A ValidatingAdmissionPolicy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AdmissionPolicy {
    pub(super) metadata: Metadata,
    pub(super) status: PolicyStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PolicyStatus {
    pub(super) type_checking: TypeChecking,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct TypeChecking {
    pub(super) expression_warnings: Vec<ExpressionWarning>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ExpressionWarning {
    pub(super) warning: String,
}

/// A binding of one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Binding {
    pub(super) spec: BindingSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct BindingSpec {
    pub(super) policy_name: String,
}

// === impl ProfileObject ===

impl ProfileObject {
    /// Reads one, whatever it says.
    pub(super) fn of(text: &RawValue) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Outline {
            metadata: Metadata,
            spec: Option<Value>,
            status: Option<Box<RawValue>>,
        }
        let outline: Outline = serde_json::from_str(text.get()).unwrap_or_default();
        let status = outline
            .status
            .map(|s| serde_json::from_str(s.get()).unwrap_or_default());
        let name = &outline.metadata.name;
        let origin = ProfileOrigin::File(format!("meshprofiles/{name}").into()); // as far as it is shown
        Self {
            profile: Profile::of_cluster(name, text.get(), origin),
            breaks: validate_cel(&outline.spec.unwrap_or_else(|| json!({})), None).err(),
            generation: outline.metadata.generation,
            status: status.unwrap_or_default(),
        }
    }
}

// === impl Node ===

impl Node {
    pub(super) fn is_linux(&self) -> bool {
        let os = self.metadata.labels.get("kubernetes.io/os");
        os.is_none_or(|os| os == "linux")
    }
}

// === impl MeshNode ===

/// An agent reports at least every 12 minutes.
const SILENT: SignedDuration = SignedDuration::from_mins(15);

/// Whether the agent would have written a later time by now, or there is none.
fn is_stale(time: Option<&str>, now: Timestamp) -> bool {
    let time = time.and_then(|time| time.parse::<Timestamp>().ok());
    time.is_none_or(|time| now.duration_since(time) > SILENT)
}

impl MeshNode {
    /// The status and message of a condition; both empty where it is not there.
    pub(super) fn condition(&self, kind: &str) -> (&str, &str) {
        let condition = self.status.conditions.iter().find(|c| c.kind == kind);
        condition.map_or(("", ""), |c| (c.status.as_str(), c.message.as_str()))
    }

    /// Whether its agent has not reported for too long.
    pub(super) fn is_silent(&self, now: Timestamp) -> bool {
        is_stale(self.status.last_report.as_deref(), now)
    }

    /// Whether its pods have not been audited, or not for too long.
    pub(super) fn is_unaudited(&self, now: Timestamp) -> bool {
        self.status.pods.is_none() || is_stale(self.status.last_audit.as_deref(), now)
    }
}

// === impl Container ===

impl Container {
    /// The value of a flag, written `--flag=value` or `--flag value`.
    pub(super) fn flag<'a>(&'a self, flag: &'a str) -> Option<&'a str> {
        self.flags(flag).next()
    }

    /// The values of a flag that may be given more than once.
    pub(super) fn flags<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        let words = || self.command.iter().chain(&self.args).map(String::as_str);
        words().enumerate().filter_map(move |(at, word)| {
            let rest = word.strip_prefix(flag)?;
            if rest.is_empty() {
                return words().nth(at + 1);
            }
            rest.strip_prefix('=')
        })
    }
}

// === impl Resources ===

impl Resources {
    /// The limit of memory in bytes, if there is one; an error with the limit where that is not whole, or has another unit.
    pub(super) fn memory(&self) -> Result<Option<u64>, &str> {
        let Some(limit) = self.limits.get("memory") else {
            return Ok(None);
        };
        let unit = limit.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = limit.split_at(unit.unwrap_or(limit.len()));
        let unit = match unit {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(limit),
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        bytes.map(Some).ok_or(limit)
    }
}

// === impl Workload ===

impl Workload {
    /// `namespace/name`
    pub(super) fn at(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    pub(super) fn containers(&self) -> &[Container] {
        &self.spec.template.spec.containers
    }

    /// Whether it is the one of our manifests with this name.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        let label = self.metadata.labels.get("app.kubernetes.io/name");
        self.metadata.name == name || label.is_some_and(|label| label == name)
    }
}

/// The version that an image's tag names, if it names one.
pub(super) fn tag(image: &str) -> Option<&str> {
    let without_digest = image.split('@').next()?;
    let last = without_digest.rsplit('/').next()?;
    let (_, tag) = last.split_once(':')?;
    let version = tag.strip_prefix('v').unwrap_or(tag);
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then_some(version)
}
