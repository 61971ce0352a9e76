//! Whether a pod opted into the mesh, and with which settings. Pure: no I/O, no clock.
//!
//! Sources: Istio's injector and CNI plugin (istio/istio), OpenShift Service Mesh's operator (maistra).

mod assume;
mod attachment;
mod decide;
mod enrollment;
#[cfg(test)]
mod fixtures;
mod governance;
mod groups;
mod identity;
mod ifname;
mod inputs;
mod intent;
mod interception;
mod layers;
mod merge;
pub mod mesh_node;
mod out_of_scope;
mod overrides;
mod pattern;
mod pod;
mod profile;
mod selector;
mod settings;
mod traffic;
mod values;
mod version;

pub use assume::assume_injected;
pub use attachment::{Attachment, MOST_ATTACHMENTS};
pub use decide::{Decided, Decision, decide, explain};
#[cfg(feature = "kubectl")]
pub(crate) use enrollment::is_namespace_enrolled;
pub use governance::{candidates, governing};
pub use groups::Groups;
pub use ifname::IfName;
pub use inputs::{Input, Source};
pub use intent::{
    Inbound, Intent, InterceptionMode, Outbound, OwnerGroups, ProxyIdentity, ProxyPorts,
};
pub use pattern::Pattern;
pub use pod::{
    Capabilities, Container, ContainerState, ContainerStatus, EnvVar, Metadata, Namespace,
    OtherProxy, Pod, PodIp, PodSpec, PodStatus, SecurityContext, Started, annotation, label,
};
pub use profile::{
    AttachmentSpec, Enrollment, Profile, ProfileOrigin, ProfileSpec, Redirect, Tenants, Unreadable,
};
#[cfg(feature = "schema")]
pub use profile::{
    MOST_SELECTORS, MeshProfile, NamespaceCounts, SelectorText, Status, crd, mesh_node_crd,
    unknown_fields_policy, validate_cel,
};
pub use settings::{
    AttachmentsMode, BackendPolicy, DriftPolicy, EnforcedMode, EnrollmentMode, Interfaces,
    IpFamilies, MissingSidecar, NotAllowed, Placement, PreemptedPolicy, UnattachedPods,
    UnenrolledSidecar,
};
pub use traffic::{Key, TrafficSettings};
pub use values::Selection;
pub(crate) use values::comma;
pub use version::is_newer;
