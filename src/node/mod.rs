//! This node's files: where they are, how they are trusted, what they say.

pub mod attachments;
mod config;
mod installed;
pub mod paths;
mod profiles;
pub mod state;
mod trusted;

pub use config::{DefaultProfile, NodeConfig, SourceKind};
pub use installed::Installed;
pub use profiles::{
    Written, admin_profiles, cluster_profile, keep_profiles, kept_profiles, profiles, united,
};
pub use trusted::{Privacy, list, read};
