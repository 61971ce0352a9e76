use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    profile::{BackendPolicy, IfName, Interfaces, IpFamilies, OwnerGroups, ProxyPorts, Selection},
    words::words,
};

/// What is to be redirected, fully resolved and parsed. Together with the pod's interfaces it determines the rules.
///
/// A repeated ADD compares Intents, so it holds nothing that can change while the pod lives. It is part of the record. Persisted: a new field
/// needs a default with the meaning of its absence, and a fixture (`tests/pure/compat`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are Istio's")]
pub struct Intent {
    pub mode: InterceptionMode,
    pub proxy: ProxyIdentity,
    pub ports: ProxyPorts,
    pub inbound: Inbound,
    pub outbound: Outbound,
    /// Interfaces that are left alone.
    pub exclude_interfaces: Vec<IfName>,
    /// Interfaces (of virtual machines) whose inbound traffic is treated as the pod's outbound.
    pub reroute_interfaces: Vec<IfName>,
    /// `ISTIO_META_DNS_CAPTURE`
    pub dns_capture: bool,
    /// `INVALID_DROP`: drop packets that conntrack calls invalid.
    pub drop_invalid: bool,
    /// `ISTIO_DUAL_STACK`: the sidecar serves both families.
    pub dual_stack: bool,
    pub interfaces: Interfaces,
    pub ip_families: IpFamilies,
    pub backend: BackendPolicy,
}

words! {
    /// How inbound connections reach the sidecar.
    pub enum InterceptionMode("interception mode") {
        /// By NAT: the application sees the sidecar's address.
        Redirect = "REDIRECT",
        /// Transparently: the application may see the client's address.
        Tproxy = "TPROXY",
    }
}

/// The user and group whose own connections are not redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ProxyIdentity {
    pub uid: u32,
    pub gid: u32,
}

/// Which inbound ports are captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Captured ports.
    pub include: Selection<u16>,
    /// Ports left alone; used only if `include` is all.
    pub exclude: Vec<u16>,
}

/// Which outbound connections are captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// Captured destinations, host bits as written.
    pub include_ranges: Selection<IpNet>,
    /// Destinations left alone; takes precedence over `include_ports`.
    pub exclude_ranges: Vec<IpNet>,
    /// Ports captured whatever the destination.
    pub include_ports: Vec<u16>,
    /// Ports left alone, whoever connects; takes precedence over everything.
    pub exclude_ports: Vec<u16>,
    /// The groups whose connections are captured.
    pub owner_groups: OwnerGroups,
}
