//! The CNI protocol: one call as a value, and what is printed in answer to it.
//!
//! Source: <https://github.com/containernetworking/cni/blob/main/SPEC.md>, versions 0.1.0 to 1.1.0.

mod args;
mod attached;
mod environment;
mod failure;
mod output;
mod request;
mod version;

pub use args::PodRef;
pub use attached::{Attached, netns_path};
pub use environment::{CniCommand, Environment, search_path};
pub use failure::RequestError;
pub use output::{error, success, versions};
pub use request::{Config, LARGEST_CONFIG};
pub use version::Version;
