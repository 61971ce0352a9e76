use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    Backend, DriftPolicy, EnrolmentMode, Groups, Interfaces, IpFamilies, Key, MissingSidecar,
    Placement, ProxyPorts, Selection, TrafficSettings, UnenrolledSidecar, selector::Selector,
};
use crate::reason::quote;

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

/// `spec` of a MeshProfile. Strict; every field has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the CRD's")]
pub struct ProfileSpec {
    /// Which namespaces it governs; absent or `{}`: all that no profile with a selector governs.
    pub namespaces: Option<Selector>,
    /// Values of `istio.io/rev` that a pod may carry; none: any.
    pub revisions: Vec<String>,
    #[serde(rename = "enrollment")]
    pub enrolment: Enrolment,
    pub excluded_namespaces: Vec<String>,
    pub attachment: AttachmentSpec,
    pub redirect: Redirect,
    pub tenants: Tenants,
    pub drift: DriftPolicy,
}

/// `spec.enrollment`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the CRD's")]
pub struct Enrolment {
    pub mode: EnrolmentMode,
    pub namespace_selector: Selector,
    /// Istio's `enableNamespacesByDefault`.
    pub namespaces_by_default: bool,
    pub unenrolled_sidecar: UnenrolledSidecar,
    pub missing_sidecar: MissingSidecar,
}

/// `spec.attachment`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the CRD's")]
pub struct AttachmentSpec {
    pub name: String,
    pub placement: Placement,
}

/// `spec.redirect`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the CRD's")]
pub struct Redirect {
    pub backend: Backend,
    pub interfaces: Interfaces,
    pub ip_families: IpFamilies,
    pub ports: ProxyPorts,
    /// Used where the sidecar names no uid or 0.
    #[serde(rename = "proxyUID")]
    pub proxy_uid: u32,
    #[serde(rename = "proxyGID")]
    pub proxy_gid: u32,
    pub always_excluded_inbound_ports: Vec<u16>,
    pub outbound_owner_groups: Groups,
    pub traffic: TrafficSettings,
}

/// `spec.tenants`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tenants {
    may_override: MayOverride,
}

#[derive(Debug, Clone)]
struct MayOverride(Selection<Key>);

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

    /// Reads a MeshProfile object from YAML.
    pub fn parse(yaml: &str, origin: ProfileOrigin) -> Result<Self, String> {
        serde_yaml::from_str::<Object>(yaml)
            .map_err(|e| e.to_string())?
            .profile(origin)
    }

    /// Reads a MeshProfile object from JSON.
    pub fn from_json(json: &str, origin: ProfileOrigin) -> Result<Self, String> {
        serde_json::from_str::<Object>(json)
            .map_err(|e| e.to_string())?
            .profile(origin)
    }

    /// Reads a MeshProfile of the cluster, whatever it says: an API server takes what another version of this program wrote. One that cannot
    /// be read governs what its selector selects, everything if that cannot be read either.
    pub fn of_cluster(name: &str, json: &str, origin: ProfileOrigin) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Governs {
            spec: Namespaces,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Namespaces {
            namespaces: Option<Selector>,
        }
        Self::from_json(json, origin.clone()).unwrap_or_else(|why| {
            let governs = serde_json::from_str::<Governs>(json);
            let governs_unknown = governs.is_err();
            let spec = ProfileSpec {
                namespaces: governs.unwrap_or_default().spec.namespaces,
                ..ProfileSpec::default()
            };
            Self {
                name: name.into(),
                origin,
                spec,
                unreadable: Some(Unreadable {
                    why,
                    governs_unknown,
                }),
            }
        })
    }

    /// Reads a MeshProfile object that was parsed already.
    pub fn from_value(value: serde_json::Value, origin: ProfileOrigin) -> Result<Self, String> {
        serde_json::from_value::<Object>(value)
            .map_err(|e| e.to_string())?
            .profile(origin)
    }
}

/// Most ports of a list.
const MOST_PORTS: usize = 256;

/// A MeshProfile as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Object {
    api_version: String,
    kind: String,
    metadata: Meta,
    #[serde(default)]
    spec: ProfileSpec,
    #[serde(default, rename = "status")]
    _status: de::IgnoredAny,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

impl Object {
    fn profile(self, origin: ProfileOrigin) -> Result<Profile, String> {
        if (self.api_version.as_str(), self.kind.as_str())
            != ("meshoptin.dev/v1alpha1", "MeshProfile")
        {
            return Err(format!(
                "{} {} is not a meshoptin.dev/v1alpha1 MeshProfile",
                quote(&self.api_version),
                quote(&self.kind)
            ));
        }
        let redirect = &self.spec.redirect;
        if redirect.proxy_uid == 0 || redirect.proxy_gid == 0 {
            return Err(
                "spec.redirect: proxyUID and proxyGID must not be 0: root is never exempt".into(),
            );
        }
        let ProxyPorts {
            outbound,
            inbound,
            tunnel,
            dns,
        } = redirect.ports;
        if [outbound, inbound, tunnel, dns].contains(&0) {
            return Err("spec.redirect.ports: 0 is no port".into());
        }
        if redirect.always_excluded_inbound_ports.len() > MOST_PORTS {
            return Err(format!(
                "spec.redirect.alwaysExcludedInboundPorts: more than {MOST_PORTS} entries"
            ));
        }
        if !is_object_name(&self.spec.attachment.name) {
            return Err(format!(
                "spec.attachment.name: {} is no object's name",
                quote(&self.spec.attachment.name)
            ));
        }
        Ok(Profile {
            name: self.metadata.name,
            origin,
            spec: self.spec,
            unreadable: None,
        })
    }
}

/// A DNS subdomain, as names of objects are.
fn is_object_name(name: &str) -> bool {
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
    name.len() <= 253
        && name.split('.').all(label)
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> Result<ProfileSpec, String> {
        let object = format!(
            "apiVersion: meshoptin.dev/v1alpha1\nkind: MeshProfile\nmetadata: {{name: p, labels: {{a: b}}}}\nspec: {yaml}\n"
        );
        Profile::parse(&object, ProfileOrigin::BuiltIn).map(|p| p.spec)
    }

    #[test]
    fn the_documented_profile_is_the_default() {
        let documented = spec(
            r#"
  namespaces: {}
  revisions: []
  enrollment: {mode: Either, namespaceSelector: {}, namespacesByDefault: false, unenrolledSidecar: Refuse, missingSidecar: Refuse}
  excludedNamespaces: [kube-system]
  attachment: {name: istio-cni, placement: PerNamespace}
  redirect:
    backend: Auto
    interfaces: All
    ipFamilies: Proxy
    ports: {outbound: 15001, inbound: 15006, tunnel: 15008, dns: 15053}
    proxyUID: 1337
    proxyGID: 1337
    alwaysExcludedInboundPorts: [15020, 15021, 15090]
    outboundOwnerGroups: {include: ["*"], exclude: []}
    traffic: {}
  tenants: {mayOverride: ["*"]}
  drift: Report"#,
        )
        .unwrap();
        let mut default = ProfileSpec::default();
        default.namespaces = Some(Selector::default());
        assert_eq!(format!("{documented:?}"), format!("{default:?}"));
        assert!(documented.selector().is_none());
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        for (yaml, part) in [
            ("{enrolment: {}}", "enrolment"),
            ("{enrollment: {mode: Any}}", "Any"),
            ("{redirect: {ports: {inbound: 70000}}}", "70000"),
            (
                "{redirect: {traffic: {excludeOutboundPorts: x}}}",
                "excludeOutboundPorts",
            ),
            (
                "{redirect: {outboundOwnerGroups: {include: [wheel]}}}",
                "wheel",
            ),
            ("{tenants: {mayOverride: [everything]}}", "everything"),
            ("{redirect: {proxyGID: 0}}", "root is never exempt"),
            ("{attachment: {name: ../x}}", "no object's name"),
            ("{redirect: {ports: {inbound: 0}}}", "no port"),
            ("{namespaces: {matchlabels: {a: b}}}", "matchlabels"),
        ] {
            let error = spec(yaml).unwrap_err();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }

    #[test]
    fn one_of_the_cluster_that_cannot_be_read_still_governs_its_namespaces() {
        let read = |spec: &str| {
            let json = format!(
                r#"{{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{{"name":"p"}},"spec":{spec}}}"#
            );
            Profile::of_cluster("p", &json, ProfileOrigin::BuiltIn)
        };
        assert!(read(r#"{"drift":"Repair"}"#).unreadable.is_none());
        let newer = read(r#"{"namespaces":{"matchLabels":{"a":"b"}},"fromTheFuture":1}"#);
        assert!(
            newer
                .unreadable
                .is_some_and(|u| u.why.contains("fromTheFuture") && !u.governs_unknown)
        );
        assert!(
            newer
                .spec
                .selector()
                .unwrap()
                .matches(&[("a".into(), "b".into())].into())
        );
        assert!(
            read(r#"{"namespaces":7}"#)
                .unreadable
                .unwrap()
                .governs_unknown
        );
    }

    #[test]
    fn tenants_may_set_only_what_is_listed() {
        let some = spec("{tenants: {mayOverride: [excludeOutboundPorts]}}").unwrap();
        assert!(
            some.tenants_may_set(Key::ExcludeOutboundPorts)
                && !some.tenants_may_set(Key::ExcludeInterfaces)
        );
        let groups = spec("{redirect: {outboundOwnerGroups: {include: [5, '6']}}}")
            .unwrap()
            .redirect
            .outbound_owner_groups
            .0;
        assert_eq!(
            groups,
            crate::mesh::OwnerGroups {
                include: Selection::Only(vec![5, 6]),
                exclude: vec![]
            }
        );
    }
}
