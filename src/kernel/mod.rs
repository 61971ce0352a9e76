//! Network namespaces, their interfaces, routing, nf_tables and iptables: the only place that touches the kernel.

mod error;
mod interfaces;
mod iptables;
mod live;
pub mod netns;
mod nftables;
mod routing;
mod wiring;

pub use error::KernelError;
pub use interfaces::Interfaces;
pub use iptables::Tools;
pub use live::{Carrier, Live, Redirects, redirects};
pub use netns::Netns;
pub use nftables::Nftables;
