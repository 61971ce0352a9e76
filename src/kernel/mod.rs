//! Network namespaces, their interfaces and nf_tables: the only place that touches the kernel.

mod error;
mod interfaces;
pub mod netns;
mod nftables;
mod wiring;

pub use error::KernelError;
pub use interfaces::Interfaces;
pub use netns::Netns;
pub use nftables::Nftables;
