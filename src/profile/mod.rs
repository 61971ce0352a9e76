//! MeshProfiles and MeshNodes: what admins write, as it is read and checked, and what nodes report. Pure: no I/O, no clock.

mod groups;
mod ifname;
pub mod mesh_node;
mod object;
mod pattern;
#[cfg(feature = "schema")]
mod schema;
mod selector;
mod settings;
mod spec;
#[cfg(feature = "schema")]
mod status;
mod traffic;
mod unreadable;
mod values;
mod version;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "controller")]
pub(crate) use self::unreadable::names_of_unreadable;
pub use self::{
    groups::{Groups, OwnerGroups},
    ifname::IfName,
    pattern::Pattern,
    selector::Selector,
    settings::{
        AttachmentsMode, BackendPolicy, DefaultProfile, DriftPolicy, EnforcedMode, EnrollmentMode,
        Interfaces, IpFamilies, MissingSidecar, NotAllowed, Placement, PreemptedPolicy,
        UnattachedPods, UnenrolledSidecar,
    },
    spec::{AttachmentSpec, Enrollment, ProfileSpec, ProxyPorts, Redirect, Tenants},
    traffic::{Key, TrafficSettings},
    values::Selection,
    version::{VERSION, is_newer},
};
#[cfg(feature = "schema")]
pub use self::{
    schema::{crd, mesh_node_crd, unknown_fields_policy, validate_cel},
    spec::MeshProfile,
    status::{MOST_SELECTED, MOST_SELECTORS, NamespaceCounts, SelectorText, Status},
};
pub(crate) use self::{
    traffic::{Injected, Merge, Resolved},
    unreadable::unreadable,
    values::{Entry, Value, comma, unite},
};
use crate::reason::Reason;

/// A MeshProfile (`meshoptin.dev/v1alpha1`): what a platform admin decides for the namespaces that it governs.
#[derive(Debug, Clone)]
pub struct Profile {
    /// `metadata.name`
    pub name: String,
    /// `metadata.resourceVersion` when this spec was first read; empty if the profile is not an object of a cluster.
    pub resource_version: String,
    /// Whether it was deleted from the cluster: it then governs only pods that have run.
    pub is_gone: bool,
    /// Where it was read.
    pub origin: ProfileOrigin,
    /// What it says.
    pub spec: ProfileSpec,
    /// Why it cannot be read. It still governs its namespaces, and nothing in them is decided.
    pub unreadable: Option<Unreadable>,
}

impl AsRef<Self> for Profile {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A MeshProfile that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// `NodeConfigInvalid`, or `UnknownProfile` where it says that this version may not decide by it.
    pub reason: Reason,
    /// What is wrong.
    pub why: String,
    /// Whether its selector cannot be read either, so that it may govern any namespace.
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

// === impl Profile ===

impl Profile {
    /// The profile of a node that has none and requires none.
    pub fn built_in() -> Self {
        Self {
            name: "default".into(),
            resource_version: String::new(),
            is_gone: false,
            origin: ProfileOrigin::BuiltIn,
            spec: ProfileSpec::default(),
            unreadable: None,
        }
    }
}
