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
mod identity;
mod ifname;
mod inputs;
mod intent;
mod interception;
mod layers;
mod merge;
mod out_of_scope;
mod overrides;
mod pattern;
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
pub use pattern::Pattern;
pub use pod::{
    Capabilities, Container, ContainerState, ContainerStatus, EnvVar, Metadata, Namespace,
    OtherProxy, Pod, PodIp, PodSpec, PodStatus, SecurityContext, Started, annotation, label,
};
pub use profile::{
    AttachmentSpec, Enrolment, Profile, ProfileOrigin, ProfileSpec, Redirect, Tenants, Unreadable,
};
#[cfg(feature = "schema")]
pub use profile::{MeshProfile, Status, crd};
pub use settings::{
    Backend, DriftPolicy, EnrolmentMode, Interfaces, IpFamilies, MissingSidecar, NotAllowed,
    Placement, PreemptedPolicy, UnenrolledSidecar,
};
pub use traffic::{Key, TrafficSettings};
pub use values::Selection;
pub(crate) use values::comma;
