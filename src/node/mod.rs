//! This node's files: where they are, how they are trusted, what they say.

pub mod attachments;
mod config;
pub mod paths;
mod profiles;
pub mod state;
mod trusted;

pub use config::{DefaultProfile, NodeConfig, SourceKind};
pub use profiles::profiles;
pub use trusted::{Privacy, list, read};
