//! The spec of a MeshProfile: its fields, their bounds and their defaults.

#[cfg(feature = "schema")]
use kube::CustomResource;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

#[cfg(feature = "schema")]
use super::Status;
use super::{
    AttachmentsMode, BackendPolicy, DriftPolicy, EnforcedMode, EnrollmentMode, Groups, Interfaces,
    IpFamilies, Key, MissingSidecar, NotAllowed, Pattern, Placement, PreemptedPolicy, Selection,
    Selector, TrafficSettings, UnattachedPods, UnenrolledSidecar,
};

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
        shortname = "mp",
        category = "mesh-optin",
        doc = "Which namespaces and pods are in the mesh, what their tenants may decide, and how their traffic is redirected.",
        printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
        printcolumn = r#"{"name": "Governed", "type": "integer", "jsonPath": ".status.namespaces.governed"}"#,
        printcolumn = r#"{"name": "Attached", "type": "integer", "jsonPath": ".status.namespaces.attached"}"#,
        printcolumn = r#"{"name": "Enrollment", "type": "string", "jsonPath": ".spec.enrollment.mode"}"#,
        printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
        printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason", "priority": 1}"#,
        printcolumn = r#"{"name": "Drift", "type": "string", "jsonPath": ".spec.drift", "priority": 1}"#,
        printcolumn = r#"{"name": "Backend", "type": "string", "jsonPath": ".spec.redirect.backend", "priority": 1}"#
    )
)]
pub struct ProfileSpec {
    /// The namespaces that this profile governs. Absent or empty: all namespaces that no profile with a selector governs.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"))]
    pub namespaces: Option<Selector>,
    /// The Istio revisions that a pod may carry, or the revision tags that may enroll it, as in the label istio.io/rev. Empty: any.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_NAMES), inner(length(max = 63))))]
    pub revisions: Vec<String>,
    /// What enrolls a namespace or a pod in the mesh.
    pub enrollment: Enrollment,
    /// Namespaces whose pods are always left alone, with a trailing * for all that begin so. Default: kube-system, kube-public,
    /// kube-node-lease and openshift-*.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_NAMES), inner(length(max = 63))))]
    pub excluded_namespaces: Vec<Pattern>,
    /// The NetworkAttachmentDefinition that pods reference.
    pub attachment: AttachmentSpec,
    /// How traffic is redirected.
    pub redirect: Redirect,
    /// What tenants may decide.
    pub tenants: Tenants,
    /// What the admission policies of deploy/admission do, where they are installed. The plugin decides whatever is set here.
    pub admission: Admission,
    /// What is done about a redirection that has changed. Report (default): it is reported. Repair: it is repaired as well.
    pub drift: DriftPolicy,
    /// The break-glass switch. True: new pods are left alone, each with a Warning.
    pub suspended: bool,
    /// The oldest version of mesh-optin that may decide by this profile, such as 0.3.0. A node with an older agent refuses the pods that this
    /// profile governs. Empty: any version may; one that does not know a field keeps using the last generation that it could read.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub requires: String,
}

/// What enrolls a namespace or a pod in the mesh.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct Enrollment {
    /// What enrolls a namespace. Istio: Istio's labels. Maistra: the label maistra.io/member-of. Either (default): one of the two. Selector:
    /// namespaceSelector. In each mode a pod can also enroll itself, with sidecar.istio.io/inject or the label istio.io/rev.
    pub mode: EnrollmentMode,
    /// The namespaces that are enrolled with mode Selector.
    pub namespace_selector: Selector,
    /// Whether namespaces are enrolled unless they say otherwise, as with Istio's enableNamespacesByDefault.
    pub namespaces_by_default: bool,
    /// What happens to a pod with a sidecar if neither the pod nor its namespace is enrolled. Refuse (default): it does not start.
    /// Redirect: it is redirected, with a Warning.
    pub unenrolled_sidecar: UnenrolledSidecar,
    /// What happens to a pod that asks for a sidecar but has none. Refuse (default): it does not start. Warn: it is left alone, with a
    /// Warning.
    pub missing_sidecar: MissingSidecar,
}

/// The NetworkAttachmentDefinition that pods reference.
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
    /// Where it is made. Shared (default): in namespace default. PerNamespace, which needs namespaces: in each governed namespace as well.
    /// None: nowhere.
    pub placement: Placement,
}

/// How traffic is redirected.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct Redirect {
    /// The backend that programs the rules. Auto (default): nftables, or iptables if the kernel has no nf_tables. Nftables or Iptables: only
    /// that one.
    pub backend: BackendPolicy,
    /// Which interfaces are captured. All (default). Primary: eth0, and the interfaces that hold the best default routes of the main routing
    /// table when the pod starts.
    pub interfaces: Interfaces,
    /// Which address families are captured. Proxy (default): IPv4, and IPv6 if the sidecar serves both or if eth0 or the holder of a default
    /// route has only IPv6. All: always both.
    pub ip_families: IpFamilies,
    /// The sidecar's ports.
    pub ports: ProxyPorts,
    /// The user whose connections are not redirected, if the sidecar names none. Default: 1337.
    #[serde(rename = "proxyUID")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = u32::MAX)))]
    pub proxy_uid: u32,
    /// The group whose connections are not redirected, if the sidecar names none. Default: 1337.
    #[serde(rename = "proxyGID")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = u32::MAX)))]
    pub proxy_gid: u32,
    /// Inbound ports that are never redirected, whatever pods say. Default: 15020, 15021 and 15090.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_PORTS)))]
    pub always_excluded_inbound_ports: Vec<u16>,
    /// Which outbound connections are captured, by the group of the process that owns them.
    pub outbound_owner_groups: Groups,
    /// Defaults for the traffic settings of attachments and pods, in the syntax of the annotations.
    pub traffic: TrafficSettings,
    /// What happens to a new pod if foreign rules in its network namespace decide before ours. Refuse (default): it does not start. Warn: it
    /// starts, with a Warning.
    pub preempted: PreemptedPolicy,
    /// Runtime classes whose pods cannot be redirected because their packets never cross the network namespace: names or handlers of
    /// RuntimeClasses, where a trailing * matches any ending. Default: kata*, gvisor* and runsc*.
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
    /// What happens if they set others, with an effect other than the profile's. Refuse (default): the pod does not start. Ignore: the
    /// profile's values apply, with a Warning.
    pub not_allowed: NotAllowed,
    /// Whether pods of enrolled namespaces may stay out of the mesh. True (default). False, which needs namespaces: pods that set
    /// inject=false, interceptionMode NONE or DISABLE_ENVOY, bring istio-init, or use the host's network do not start.
    pub may_opt_out: bool,
    /// Whether another container may run as the sidecar's user or group, whose connections are not redirected. True (default): with a
    /// Warning. False: the pod does not start.
    pub may_share_proxy_identity: bool,
}

/// What the API server's admission policies do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(Serialize, JsonSchema))]
pub struct Admission {
    /// About attachments that the plugin would refuse. Deny (default) is the only mode: a policy that read profiles would refuse every
    /// attachment of the cluster, of any plugin, once the CRD of MeshProfiles is gone.
    pub attachments: AttachmentsMode,
    /// About pods with a sidecar that do not name the attachment. Allow, Warn (default) or Deny.
    pub unattached_pods: UnattachedPods,
    /// About pods that do what mayOverride, mayOptOut or mayShareProxyIdentity does not allow. Warn or Deny (default).
    pub enforced: EnforcedMode,
}

#[derive(Debug, Clone)]
pub(super) struct MayOverride(pub(super) Selection<Key>);

/// Most names of a list.
pub(super) const MOST_NAMES: usize = 256;
/// Most ports of a list.
pub(super) const MOST_PORTS: usize = 256;

// === impl ProfileSpec ===

impl Default for ProfileSpec {
    fn default() -> Self {
        Self {
            namespaces: None,
            revisions: Vec::new(),
            enrollment: Enrollment::default(),
            excluded_namespaces: [
                "kube-system",
                "kube-public",
                "kube-node-lease",
                "openshift-*",
            ]
            .map(Pattern::from)
            .into(),
            attachment: AttachmentSpec::default(),
            redirect: Redirect::default(),
            tenants: Tenants::default(),
            admission: Admission::default(),
            drift: DriftPolicy::default(),
            suspended: false,
            requires: String::new(),
        }
    }
}

impl ProfileSpec {
    /// The selector of governed namespaces, if it says more than "all".
    pub fn selector(&self) -> Option<&Selector> {
        self.namespaces.as_ref().filter(|s| !s.selects_all())
    }

    /// Whether pods of this namespace are left alone whatever they say.
    pub fn excludes(&self, namespace: &str) -> bool {
        self.excluded_namespaces
            .iter()
            .any(|pattern| pattern.matches(namespace))
    }

    /// Whether NADs and pods may set `key`.
    pub fn tenants_may_set(&self, key: Key) -> bool {
        match &self.tenants.may_override.0 {
            Selection::All => true,
            Selection::Only(keys) => keys.contains(&key),
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
            backend: BackendPolicy::default(),
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

/// The sidecar's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProxyPorts {
    /// Takes outbound connections. Default: 15001.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub outbound: u16,
    /// Takes inbound connections. Default: 15006.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub inbound: u16,
    /// Takes HBONE connections, and is never redirected inbound. Default: 15008.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub tunnel: u16,
    /// Answers DNS queries, if DNS is captured. Default: 15053.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub dns: u16,
}

impl Default for ProxyPorts {
    fn default() -> Self {
        Self {
            outbound: 15001,
            inbound: 15006,
            tunnel: 15008,
            dns: 15053,
        }
    }
}
