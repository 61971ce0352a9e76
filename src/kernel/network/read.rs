//! Parses rtnetlink messages. Attributes that nobody needs are skipped, whatever a driver writes there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::uapi::{self, kind};
use crate::{
    kernel::netlink::{self, nla::Attributes},
    plan::packet::Family,
    profile::IfName,
};

/// Headers of messages.
pub(in crate::kernel) struct Header;

impl Header {
    /// `struct ifinfomsg`, of any interface.
    pub(in crate::kernel) fn link() -> [u8; 16] {
        [0; 16]
    }

    /// `struct ifaddrmsg`
    pub(in crate::kernel) fn address(family: u8, length: u8, index: u32) -> [u8; 8] {
        let [a, b, c, d] = index.to_ne_bytes();
        [family, length, 0, 0, a, b, c, d]
    }

    /// `struct rtmsg`, to everywhere.
    pub(in crate::kernel) fn route(
        family: Family,
        table: u8,
        protocol: u8,
        scope: u8,
        kind: u8,
    ) -> [u8; 12] {
        [
            number(family),
            0,
            0,
            0,
            table,
            protocol,
            scope,
            kind,
            0,
            0,
            0,
            0,
        ]
    }

    /// `struct fib_rule_hdr`, of all packets.
    pub(in crate::kernel) fn rule(family: Family, table: u8, action: u8) -> [u8; 12] {
        [number(family), 0, 0, 0, table, 0, 0, action, 0, 0, 0, 0]
    }
}

/// `AF_*`
pub(in crate::kernel) fn number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => uapi::IPV4,
        Family::Ipv6 => uapi::IPV6,
    }
}

/// A message without its netlink header.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    #[cfg(test)]
    pub(super) fn new(kind: u16, payload: &'a [u8]) -> Self {
        Self { kind, payload }
    }

    pub(super) fn of(message: &netlink::Message<'a>) -> Self {
        Self {
            kind: message.kind,
            payload: message.payload,
        }
    }

    /// The header and what follows, where it is of this kind.
    pub(in crate::kernel) fn parts<const N: usize>(
        self,
        kind: u16,
    ) -> Option<(&'a [u8; N], Attributes<'a>)> {
        let (header, rest) = self
            .payload
            .split_first_chunk::<N>()
            .filter(|_| self.kind == kind)?;
        Some((header, Attributes(rest)))
    }
}

/// An interface.
#[derive(Debug)]
pub(in crate::kernel) struct Link {
    pub(super) index: u32,
    /// `None` where it is none that a rule could have.
    pub(super) name: Option<IfName>,
    /// It is a port of a bridge: what comes in there goes to the bridge, past this namespace's rules.
    pub(super) is_in_bridge: bool,
}

impl Link {
    pub(super) fn of(message: Message<'_>) -> Option<Self> {
        let (header, attributes) = message.parts::<16>(kind::NEW_LINK)?;
        let name = attributes.find(uapi::link::NAME)?.text();
        let port = attributes
            .nested(uapi::link::INFO)
            .and_then(|info| info.text(uapi::link::INFO_PORT_KIND));
        Some(Self {
            index: u32_at(header, 4),
            name: name.and_then(IfName::of_kernel),
            is_in_bridge: port.is_some_and(|kind| kind == "bridge"),
        })
    }
}

/// An address, and the index of its interface.
pub(super) fn address(message: Message<'_>) -> Option<(u32, IpNet)> {
    let (header, attributes) = message.parts::<8>(kind::NEW_ADDRESS)?;
    // of a point-to-point interface, ADDRESS is the peer's
    let local = attributes.find(uapi::address::LOCAL);
    let bytes = local
        .or_else(|| attributes.find(uapi::address::ADDRESS))?
        .payload;
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some((u32_at(header, 4), IpNet::new(ip, header[1]).ok()?))
}

/// A route.
#[derive(Debug, Clone)]
pub(in crate::kernel) struct Route {
    /// `AF_*`
    pub(super) family: u8,
    pub(in crate::kernel) table: u32,
    /// Of its destination's prefix.
    pub(in crate::kernel) length: u8,
    /// `RTN_*`
    pub(in crate::kernel) kind: u8,
    /// `RTPROT_*`
    pub(super) protocol: u8,
    pub(super) metric: u32,
    /// The indexes of the interfaces that it leads out of.
    pub(in crate::kernel) out: Vec<u32>,
    /// It is of all packets, and goes straight out.
    pub(in crate::kernel) is_plain: bool,
}

impl Route {
    pub(super) fn of(message: Message<'_>) -> Option<Self> {
        use uapi::route::{CACHE_INFO, METRICS, MULTIPATH, OUT, PREFERENCE, PRIORITY, TABLE};
        let (header, attributes) = message.parts::<12>(kind::NEW_ROUTE)?;
        let [
            family,
            length,
            source_length,
            tos,
            table,
            protocol,
            _,
            kind,
            ..,
        ] = *header;
        let mut route = Self {
            family,
            table: table.into(),
            length,
            kind,
            protocol,
            metric: 0,
            out: Vec::new(),
            is_plain: (source_length, tos) == (0, 0),
        };
        for attribute in attributes {
            match attribute.kind {
                TABLE => route.table = attribute.native()?,
                OUT => route.out.push(attribute.native()?),
                PRIORITY => route.metric = attribute.native()?,
                MULTIPATH => route.out.extend(hops(attribute.payload)?),
                METRICS | CACHE_INFO | PREFERENCE => continue,
                _ => route.is_plain = false,
            }
            route.is_plain &= attribute.kind != MULTIPATH;
        }
        Some(route)
    }
}

/// The interfaces of `struct rtnexthop`s.
fn hops(mut bytes: &[u8]) -> Option<Vec<u32>> {
    const HEADER: usize = 8;
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        if length < HEADER {
            return None;
        }
        out.push(u32_at(header, 4));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(kind: u16, payload: &[u8], of: fn(Message<'_>) -> Option<T>) -> Option<T> {
        of(Message::new(kind, payload))
    }

    #[test]
    fn an_odd_attribute_of_a_driver_is_skipped_and_an_incomplete_message_is_none() {
        let mut link = Header::link().to_vec();
        link[4] = 7;
        assert!(read(kind::NEW_LINK, &link, Link::of).is_none(), "no name");
        netlink::nla::put(&mut link, 55, b"odd");
        netlink::nla::put(&mut link, uapi::link::NAME, b"eth0\0");
        let found = read(kind::NEW_LINK, &link, Link::of).unwrap();
        assert_eq!((found.index, found.name), (7, Some(IfName::eth0())));
        assert!(read(kind::NEW_LINK, &link[..15], Link::of).is_none());
        let mut unprintable = Header::link().to_vec();
        netlink::nla::put(&mut unprintable, uapi::link::NAME, b"\xff\0");
        let found = read(kind::NEW_LINK, &unprintable, Link::of).unwrap();
        assert_eq!(
            found.name, None,
            "no rule can have it, and it hides no other"
        );
        let mut odd = Header::address(uapi::IPV4, 24, 3).to_vec();
        netlink::nla::put(&mut odd, uapi::address::ADDRESS, &[10, 0, 0]);
        assert!(read(kind::NEW_ADDRESS, &odd, address).is_none());
        let mut twice = Header::route(Family::Ipv4, 254, 3, 0, uapi::UNICAST).to_vec();
        let hop = |index: u8| [8, 0, 0, 0, index, 0, 0, 0];
        netlink::nla::put(
            &mut twice,
            uapi::route::MULTIPATH,
            &[hop(3), hop(4)].concat(),
        );
        assert_eq!(
            read(kind::NEW_ROUTE, &twice, Route::of).unwrap().out,
            [3, 4]
        );
        netlink::nla::put(&mut twice, uapi::route::MULTIPATH, &[0; 8]);
        assert!(read(kind::NEW_ROUTE, &twice, Route::of).is_none());
    }
}
