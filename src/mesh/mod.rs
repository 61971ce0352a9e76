//! Whether a pod opted into the mesh, and with which settings. Pure: no I/O, no clock.
//!
//! Sources: Istio's injector and CNI plugin (istio/istio), OpenShift Service Mesh's operator (maistra).

mod assume;
mod attachment;
mod decide;
mod enrolment;
#[cfg(test)]
mod fixtures;
mod governance;
mod groups;
mod ifname;
mod inputs;
mod intent;
mod layers;
mod merge;
mod overrides;
mod pod;
mod profile;
mod selector;
mod settings;
mod traffic;
mod values;

pub use assume::assume_injected;
pub use attachment::Attachment;
pub use decide::{Decided, Decision, decide, explain};
pub use governance::governing;
pub use groups::Groups;
pub use ifname::IfName;
pub use inputs::{Input, Source};
pub use intent::{
    Inbound, Intent, InterceptionMode, Outbound, OwnerGroups, ProxyIdentity, ProxyPorts,
};
pub use pod::{
    Container, ContainerStatus, EnvVar, Metadata, Namespace, Pod, PodIp, PodSpec, PodStatus,
    SecurityContext, annotation, label,
};
pub use profile::{
    AttachmentSpec, Enrolment, Profile, ProfileOrigin, ProfileSpec, Redirect, Unreadable,
};
#[cfg(feature = "schema")]
pub use profile::{MeshProfile, Status, crd};
pub use settings::{
    Backend, DriftPolicy, EnrolmentMode, Interfaces, IpFamilies, MissingSidecar, Placement,
    UnenrolledSidecar,
};
pub use traffic::{Key, TrafficSettings};
pub use values::Selection;
