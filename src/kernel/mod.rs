//! Network namespaces, their interfaces, routing, nf_tables and iptables: the only place that touches the kernel.

mod backend;
mod error;
mod iptables;
mod legacy;
mod live;
mod modules;
mod netlink;
pub mod netns;
mod network;
mod nftables;
mod wiring;

pub use backend::{Backend, Bypass, Routes};
pub use error::{KernelError, Lacking};
pub use iptables::{Iptables, Tools};
pub use live::{Live, LiveState, Redirects, redirects};
pub use netns::Netns;
pub use network::Network;
pub use nftables::Nftables;
pub use wiring::Wiring;
