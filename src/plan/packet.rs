//! What the rules of both forms say about packets, and the numbers that Istio's redirection uses.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The mark of a packet that is delivered to the sidecar, and of the sidecar's own connections in TPROXY mode (`0x539`).
pub const TPROXY_MARK: u32 = 1337;
/// The mark of a packet that the sidecar sends to its own pod in TPROXY mode (`0x53a`).
pub const LOOP_MARK: u32 = 1338;
/// The conntrack zone of DNS between the sidecar and resolvers.
pub const RESOLVER_ZONE: u16 = 1;
/// The conntrack zone of DNS between the application and the sidecar.
pub const APPLICATION_ZONE: u16 = 2;
/// The port of DNS.
pub const DNS: u16 = 53;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The loopback address: never captured.
    pub const fn loopback(self) -> IpNet {
        match self {
            Self::Ipv4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32)),
            Self::Ipv6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        }
    }

    /// The source of the sidecar's passthrough connections, and the destination of istio-validation's probe.
    pub const fn passthrough(self) -> IpNet {
        match self {
            Self::Ipv4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 6), 32)),
            Self::Ipv6 => IpNet::V6(Ipv6Net::new_assert(
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6),
                128,
            )),
        }
    }

    /// The family of a network.
    pub const fn of(network: &IpNet) -> Self {
        match network {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// As IP numbers it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// As nftables and iptables write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// By which way an interface takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Direction {
    In,
    Out,
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Side {
    Source,
    Destination,
}

/// What conntrack says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtState {
    /// It belongs to no connection that could be.
    Invalid,
    /// It belongs to a connection that is known.
    RelatedOrEstablished,
}
