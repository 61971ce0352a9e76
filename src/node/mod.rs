//! This node's files: where they are, how they are trusted, what they say.

pub mod attachments;
mod config;
mod installed;
pub mod outcomes;
pub mod paths;
mod profiles;
mod root;
pub mod state;
mod trusted;

pub use config::{LogLevel, NodeConfig, NodeSettings, SourceKind};
pub use installed::Installed;
pub use profiles::{
    OfCluster, ProfileKind, Written, admin_profiles, cluster_profile, keep_profiles, kept_profiles,
    profiles, united,
};
pub use root::enter;
pub use trusted::{Privacy, list, read};
