//! MeshProfiles.

mod object;
#[cfg(feature = "schema")]
mod schema;

use std::path::PathBuf;

#[cfg(feature = "schema")]
use kube::CustomResource;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

#[cfg(feature = "schema")]
pub use self::schema::{Status, crd};
use super::{
    Backend, DriftPolicy, EnrolmentMode, Groups, Interfaces, IpFamilies, Key, MissingSidecar,
    NotAllowed, Pattern, Placement, PreemptedPolicy, ProxyPorts, Selection, TrafficSettings,
    UnenrolledSidecar, selector::Selector,
};

/// A MeshProfile (`meshoptin.dev/v1alpha1`): what a platform admin decides for the namespaces that it governs.
#[derive(Debug, Clone)]
pub struct Profile {
    /// `metadata.name`
    pub name: String,
    /// Where it was read.
    pub origin: ProfileOrigin,
    /// What it says.
    pub spec: ProfileSpec,
    /// Why it cannot be read: then it governs its namespaces all the same, and nothing in them is decided.
    pub unreadable: Option<Unreadable>,
}

/// A MeshProfile that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong.
    pub why: String,
    /// Nor can which namespaces it governs: it may be any.
    pub governs_unknown: bool,
}

/// Where a profile comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProfileOrigin {
    /// No profile exists on the node and it does not require one.
    BuiltIn,
    /// This file.
    File(PathBuf),
}

/// What a platform admin decides for the namespaces that this profile governs. Every field is optional.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, CustomResource, JsonSchema))]
#[cfg_attr(
    feature = "schema",
    kube(
        group = "meshoptin.dev",
        version = "v1alpha1",
        kind = "MeshProfile",
        status = "Status",
        doc = "Which namespaces and pods are in the mesh, what their tenants may decide, and how their traffic is redirected.",
        printcolumn = r#"{"name": "Enrollment", "type": "string", "jsonPath": ".spec.enrollment.mode"}"#,
        printcolumn = r#"{"name": "Drift", "type": "string", "jsonPath": ".spec.drift"}"#,
        printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
    )
)]
pub struct ProfileSpec {
    /// The namespaces that this profile governs. Absent or empty: all that no profile with a selector governs.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub namespaces: Option<Selector>,
    /// The revisions of Istio that a pod may carry, or the revision tags by which it may be enrolled, as in the label istio.io/rev. Empty: any.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_NAMES), inner(length(max = 63))))]
    pub revisions: Vec<String>,
    /// What enrolls a namespace or a pod in the mesh.
    #[serde(rename = "enrollment")]
    pub enrolment: Enrolment,
    /// Namespaces whose pods are always left alone. Default: kube-system.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_NAMES), inner(length(max = 63))))]
    pub excluded_namespaces: Vec<String>,
    /// The NetworkAttachmentDefinition that pods name.
    pub attachment: AttachmentSpec,
    /// How traffic is redirected.
    pub redirect: Redirect,
    /// What tenants may decide.
    pub tenants: Tenants,
    /// What is done about a redirection that has changed. Report (default), or Repair: it is made right again, too.
    pub drift: DriftPolicy,
    /// The break-glass switch: true leaves new pods alone, each with a Warning.
    pub suspended: bool,
}

/// What enrolls a namespace or a pod in the mesh.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct Enrolment {
    /// Istio: Istio's labels on the namespace. Maistra: the namespace's label maistra.io/member-of. Either (default): one of the two. Selector:
    /// namespaceSelector. In each of them a pod's own word enrolls it, too: sidecar.istio.io/inject, or the label istio.io/rev.
    pub mode: EnrolmentMode,
    /// With mode Selector, the namespaces that are enrolled.
    pub namespace_selector: Selector,
    /// Whether every namespace is enrolled that does not say otherwise: Istio's enableNamespacesByDefault.
    pub namespaces_by_default: bool,
    /// What happens to a pod that has a sidecar where neither it nor its namespace is enrolled. Refuse (default): it does not start.
    /// Redirect: it is redirected, with a Warning.
    pub unenrolled_sidecar: UnenrolledSidecar,
    /// What happens to a pod that asks for a sidecar and has none. Refuse (default): it does not start. Warn: it is left alone, with a
    /// Warning.
    pub missing_sidecar: MissingSidecar,
}

/// The NetworkAttachmentDefinition that pods name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct AttachmentSpec {
    /// Its name, a DNS label. Default: istio-cni, which Istio's injector names.
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub name: String,
    /// Where it is made. PerNamespace (default): in each governed namespace and in default. Shared: in default. None: nowhere.
    pub placement: Placement,
}

/// How traffic is redirected.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct Redirect {
    /// What carries the rules. Auto (default): nftables, or iptables where the kernel has no nf_tables. Nftables, Iptables: that alone.
    pub backend: Backend,
    /// Which interfaces are captured. All (default), or Primary: eth0 and those that hold the main table's best default routes when the pod
    /// starts.
    pub interfaces: Interfaces,
    /// Which address families are captured. Proxy (default): IPv4; IPv6 where the sidecar serves both, or eth0 or the holder of a default route
    /// has it alone. All: both, always.
    pub ip_families: IpFamilies,
    /// The sidecar's ports.
    pub ports: ProxyPorts,
    /// The user whose connections are left alone, where the sidecar names none. Default: 1337.
    #[serde(rename = "proxyUID")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = u32::MAX)))]
    pub proxy_uid: u32,
    /// The group whose connections are left alone, where the sidecar names none. Default: 1337.
    #[serde(rename = "proxyGID")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = u32::MAX)))]
    pub proxy_gid: u32,
    /// Inbound ports that are left alone, whatever pods say. Default: 15020, 15021 and 15090.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_PORTS)))]
    pub always_excluded_inbound_ports: Vec<u16>,
    /// Whose outbound connections are captured, by the group of their owner.
    pub outbound_owner_groups: Groups,
    /// Traffic settings below those of attachments and pods, in the annotations' syntax.
    pub traffic: TrafficSettings,
    /// What happens to a new pod in whose network namespace foreign rules decide before ours. Refuse (default): it does not start. Warn: it
    /// starts, with a Warning.
    pub preempted: PreemptedPolicy,
    /// Runtime classes whose pods cannot be redirected, as their packets never cross the network namespace: names, with a trailing * for all
    /// that begin so. Default: kata*, gvisor* and runsc*.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_NAMES), inner(length(max = 63))))]
    pub unsupported_runtimes: Vec<Pattern>,
}

/// What tenants may decide.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct Tenants {
    /// The traffic settings that attachments and pods may set. ["*"] (default): all.
    may_override: MayOverride,
    /// What happens where they set others, to another effect than the profile's. Refuse (default): the pod does not start. Ignore: the
    /// profile's values count, with a Warning.
    pub not_allowed: NotAllowed,
    /// Whether pods of enrolled namespaces may stay out of the mesh. True (default). False needs namespaces: pods that say
    /// inject=false, interceptionMode NONE or DISABLE_ENVOY, bring istio-init, or use the host's network, do not start.
    pub may_opt_out: bool,
    /// Whether a container beside the sidecar may run as the sidecar's user or group, whose connections are left alone. True (default): with
    /// a Warning. False: the pod does not start.
    pub may_share_proxy_identity: bool,
}

#[derive(Debug, Clone)]
struct MayOverride(Selection<Key>);

/// Most names of a list.
const MOST_NAMES: usize = 256;
/// Most ports of a list.
const MOST_PORTS: usize = 256;

// === impl ProfileSpec ===

impl Default for ProfileSpec {
    fn default() -> Self {
        Self {
            namespaces: None,
            revisions: Vec::new(),
            enrolment: Enrolment::default(),
            excluded_namespaces: vec!["kube-system".into()],
            attachment: AttachmentSpec::default(),
            redirect: Redirect::default(),
            tenants: Tenants::default(),
            drift: DriftPolicy::default(),
            suspended: false,
        }
    }
}

impl ProfileSpec {
    /// The selector of governed namespaces, if it says more than "all".
    pub fn selector(&self) -> Option<&Selector> {
        self.namespaces.as_ref().filter(|s| !s.selects_all())
    }

    /// Whether NADs and pods may set `key`.
    pub fn tenants_may_set(&self, key: Key) -> bool {
        match &self.tenants.may_override.0 {
            Selection::All => true,
            Selection::Only(keys) => keys.contains(&key),
        }
    }
}

// === impl Profile ===

impl Profile {
    /// The profile of a node that has none and requires none.
    pub fn built_in() -> Self {
        Self {
            name: "default".into(),
            origin: ProfileOrigin::BuiltIn,
            spec: ProfileSpec::default(),
            unreadable: None,
        }
    }
}

// === impl of the parts ===

impl Default for AttachmentSpec {
    fn default() -> Self {
        Self {
            name: "istio-cni".into(),
            placement: Placement::default(),
        }
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            interfaces: Interfaces::default(),
            ip_families: IpFamilies::default(),
            ports: ProxyPorts::default(),
            proxy_uid: 1337,
            proxy_gid: 1337,
            always_excluded_inbound_ports: vec![15020, 15021, 15090],
            outbound_owner_groups: Groups::default(),
            traffic: TrafficSettings::default(),
            preempted: PreemptedPolicy::default(),
            unsupported_runtimes: ["kata*", "gvisor*", "runsc*"].map(Pattern::from).into(),
        }
    }
}

impl Default for Tenants {
    fn default() -> Self {
        Self {
            may_override: MayOverride::default(),
            not_allowed: NotAllowed::default(),
            may_opt_out: true,
            may_share_proxy_identity: true,
        }
    }
}

impl Default for MayOverride {
    fn default() -> Self {
        Self(Selection::All)
    }
}

impl<'de> Deserialize<'de> for MayOverride {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        if words == ["*"] {
            return Ok(Self::default());
        }
        let keys: Result<_, String> = words.iter().map(|w| w.parse()).collect();
        keys.map(|k| Self(Selection::Only(k)))
            .map_err(|e| de::Error::custom(format!("tenants.mayOverride: {e}")))
    }
}
