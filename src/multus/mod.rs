//! What Multus reads and writes: the networks that pods name, their definitions, its files on the node.

#[cfg(target_os = "linux")]
mod built;
#[cfg(target_os = "linux")]
pub(crate) mod cache;
#[cfg(target_os = "linux")]
mod configured;
mod definition;
#[cfg(target_os = "linux")]
pub(crate) mod net_d;
mod networks;

#[cfg(target_os = "linux")]
#[cfg(test)]
pub(crate) use self::configured::tests::found;
pub(crate) use self::configured::{Mode, Multus, RUNTIME_DIRECTORIES, is_same};
pub use self::definition::AttachmentDefinition;
pub(crate) use self::{definition::our_attachment, networks::parse_networks};
