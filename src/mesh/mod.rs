//! Whether a pod opted into the mesh, and with which settings. Pure: no I/O, no clock.
//!
//! Sources: Istio's injector and CNI plugin (istio/istio), OpenShift Service Mesh's operator (maistra).

mod assume;
mod attachment;
mod decide;
mod decision;
mod enrollment;
#[cfg(test)]
mod fixtures;
mod governance;
mod identity;
mod inputs;
mod intent;
mod interception;
mod layers;
mod merge;
mod out_of_scope;
mod overrides;
mod pod;

pub use assume::assume_injected;
pub use attachment::{Attachment, MOST_ATTACHMENTS};
pub use decide::{decide, explain};
pub use decision::{Decided, Decision};
#[cfg(feature = "kubectl")]
pub(crate) use enrollment::is_namespace_enrolled;
pub use governance::{candidates, governing};
pub use inputs::{Input, Source};
pub use intent::{Inbound, Intent, InterceptionMode, Outbound, ProxyIdentity};
#[cfg(feature = "kubectl")]
pub(crate) use out_of_scope::expects;
pub use pod::{
    Capabilities, Container, ContainerState, ContainerStatus, EnvVar, Metadata, Namespace,
    OtherProxy, Pod, PodIp, PodSpec, PodStatus, SecurityContext, Started, annotation, label,
};
