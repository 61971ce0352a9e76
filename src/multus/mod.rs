//! What Multus reads and writes: the networks that pods name, their definitions, its files on the node.

pub(crate) mod cache;
mod configured;
mod definition;
pub(crate) mod net_d;
mod networks;

pub use self::definition::AttachmentDefinition;
pub(crate) use self::{
    configured::{Mode, Multus, RUNTIME_DIRECTORIES, is_same},
    definition::our_attachment,
    networks::named_networks,
};
