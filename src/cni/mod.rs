//! The CNI protocol: one call as a value, and what is printed in answer to it.
//!
//! Source: <https://github.com/containernetworking/cni/blob/main/SPEC.md>, versions 0.1.0 to 1.1.0.

mod args;
mod environment;
mod output;
mod request;
mod version;

pub use args::PodRef;
pub use environment::{Command, Environment, search_path};
pub use output::{error, success, versions};
pub use request::{Attached, Config, LARGEST_CONFIG, RequestError, netns_path};
pub use version::Version;
