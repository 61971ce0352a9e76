//! Reads and checks the text of a MeshProfile object.

use std::collections::BTreeSet;

use serde::{Deserialize, de};

use super::{
    AttachmentSpec, Pattern, Placement, Profile, ProfileOrigin, ProfileSpec, ProxyPorts, Selector,
    Unreadable, VERSION, is_newer,
    spec::{MOST_NAMES, MOST_PORTS},
};
use crate::reason::{Reason, quote};

impl Profile {
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
    /// be read governs what its selector selects, everything if that cannot be read either. Its attachment is read by itself, too: pods name it.
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
        #[derive(Deserialize)]
        struct Attaches {
            #[serde(default)]
            spec: Attachment,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Attachment {
            attachment: AttachmentSpec,
        }
        Self::from_json(json, origin.clone()).unwrap_or_else(|why| {
            let needed = Self::required_version(json);
            let (reason, why) = needed.map_or((Reason::NodeConfigInvalid, why), |needed| {
                (Reason::UnknownProfile, needs(&needed))
            });
            let governs = serde_json::from_str::<Governs>(json);
            let governs_unknown = governs.is_err();
            let attaches = serde_json::from_str::<Attaches>(json).map(|it| it.spec.attachment);
            let nowhere = AttachmentSpec {
                placement: Placement::None,
                ..AttachmentSpec::default()
            };
            let spec = ProfileSpec {
                namespaces: governs.unwrap_or_default().spec.namespaces,
                attachment: attaches
                    .ok()
                    .filter(|it| is_dns_label(&it.name))
                    .unwrap_or(nowhere),
                ..ProfileSpec::default()
            };
            Self {
                name: name.into(),
                origin,
                spec,
                resource_version: String::new(),
                is_gone: false,
                unreadable: Some(Unreadable {
                    reason,
                    why,
                    governs_unknown,
                }),
            }
        })
    }

    /// The version that it needs, where that is newer than ours: whatever else it says, nothing is decided by another generation of it.
    pub fn required_version(json: &str) -> Option<String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Needs {
            spec: Requires,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Requires {
            requires: String,
        }
        let needs: Needs = serde_json::from_str(json).ok()?;
        let version = needs.spec.requires;
        is_newer(&version, VERSION).then_some(version)
    }

    /// Reads a MeshProfile object that was parsed already.
    pub fn from_value(value: serde_json::Value, origin: ProfileOrigin) -> Result<Self, String> {
        serde_json::from_value::<Object>(value)
            .map_err(|e| e.to_string())?
            .profile(origin)
    }
}

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
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    #[serde(default)]
    resource_version: String,
}

fn needs(version: &str) -> String {
    let version = quote(version);
    format!("it needs mesh-optin {version}, this is {VERSION}")
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
        if is_newer(&self.spec.requires, VERSION) {
            return Err(needs(&self.spec.requires));
        }
        if self.spec.requires.chars().count() > 32 {
            return Err("spec.requires has more than 32 characters".into());
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
        let distinct: BTreeSet<_> = [outbound, inbound, tunnel, dns].into();
        if distinct.len() < 4 {
            return Err("spec.redirect.ports: the sidecar's ports must differ".into());
        }
        if redirect.always_excluded_inbound_ports.len() > MOST_PORTS {
            return Err(format!(
                "spec.redirect.alwaysExcludedInboundPorts: more than {MOST_PORTS} entries"
            ));
        }
        let patterns = |list: &[Pattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (field, names) in [
            ("revisions", self.spec.revisions.clone()),
            (
                "excludedNamespaces",
                patterns(&self.spec.excluded_namespaces),
            ),
            (
                "redirect.unsupportedRuntimes",
                patterns(&redirect.unsupported_runtimes),
            ),
        ] {
            if names.len() > MOST_NAMES {
                return Err(format!("spec.{field}: more than {MOST_NAMES} entries"));
            }
            if let Some(name) = names.iter().find(|name| name.chars().count() > 63) {
                return Err(format!("spec.{field}: {} is too long", quote(name)));
            }
        }
        if !self.spec.tenants.may_opt_out && self.spec.selector().is_none() {
            return Err(
                "spec.tenants.mayOptOut: false needs spec.namespaces: it must not hold in all namespaces of the cluster".into(),
            );
        }
        let placement = self.spec.attachment.placement;
        if placement == Placement::PerNamespace && self.spec.selector().is_none() {
            return Err(
                "spec.attachment.placement: PerNamespace needs spec.namespaces: it must not put an attachment into all namespaces of the cluster".into(),
            );
        }
        if !is_dns_label(&self.spec.attachment.name) {
            return Err(format!(
                "spec.attachment.name: {} is no DNS label: lower-case letters, digits and -, at most 63",
                quote(&self.spec.attachment.name)
            ));
        }
        Ok(Profile {
            name: self.metadata.name,
            resource_version: self.metadata.resource_version,
            is_gone: false,
            origin,
            spec: self.spec,
            unreadable: None,
        })
    }
}

/// What Multus takes for an attachment's name in the networks annotation's text form.
fn is_dns_label(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Key, Selection};

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
  excludedNamespaces: [kube-system, kube-public, kube-node-lease, "openshift-*"]
  attachment: {name: istio-cni, placement: Shared}
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
    preempted: Refuse
    unsupportedRuntimes: ["kata*", "gvisor*", "runsc*"]
  tenants: {mayOverride: ["*"], notAllowed: Refuse, mayOptOut: true, mayShareProxyIdentity: true}
  drift: Report
  suspended: false
  requires: """#,
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
            ("{attachment: {name: ../x}}", "no DNS label"),
            ("{attachment: {name: istio.cni}}", "no DNS label"),
            ("{redirect: {ports: {inbound: 0}}}", "no port"),
            ("{redirect: {ports: {inbound: 15001}}}", "must differ"),
            (
                "{attachment: {placement: PerNamespace}}",
                "needs spec.namespaces",
            ),
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
            crate::profile::OwnerGroups {
                include: Selection::Only(vec![5, 6]),
                exclude: vec![]
            }
        );
    }
}
