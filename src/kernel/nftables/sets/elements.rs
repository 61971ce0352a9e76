//! Elements of sets: single keys, and networks as intervals.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use super::{IPV4, IPV6, KeyType};
use crate::plan::nft::Networks;

/// A key: a port, a group, an address, or the name of an interface. A set of 256 networks has 512, so none is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kernel::nftables) struct ElementKey {
    bytes: [u8; LONGEST_KEY],
    length: usize,
}

/// Of an IPv6 address, and of an interface's name with its padding, in bytes.
const LONGEST_KEY: usize = 16;

impl ElementKey {
    /// `None` where it is longer than any of ours.
    pub(in crate::kernel::nftables) fn read(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST_KEY];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self {
            bytes,
            length: key.len(),
        })
    }
}

impl<const N: usize> From<[u8; N]> for ElementKey {
    fn from(key: [u8; N]) -> Self {
        const { assert!(N <= LONGEST_KEY) };
        let mut bytes = [0; LONGEST_KEY];
        bytes[..N].copy_from_slice(&key);
        Self { bytes, length: N }
    }
}

impl std::ops::Deref for ElementKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// An element: a key, or the first key behind an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kernel::nftables) struct Element {
    pub(in crate::kernel::nftables) key: ElementKey,
    pub(in crate::kernel::nftables) interval_end: bool,
}

impl Element {
    pub(in crate::kernel::nftables) fn key(key: impl Into<ElementKey>) -> Self {
        Self {
            key: key.into(),
            interval_end: false,
        }
    }
}

/// Networks as disjoint intervals that do not touch; one that reaches the last address has no end.
pub(in crate::kernel::nftables) fn intervals(networks: &Networks) -> (KeyType, Vec<Element>) {
    match networks {
        Networks::V4(list) => {
            let ranges = list
                .iter()
                .map(|n| (n.network().to_bits().into(), n.broadcast().to_bits().into()));
            (
                IPV4,
                elements(
                    merge(ranges),
                    |a: u128| Ipv4Addr::from_bits(a as u32).octets().into(),
                    u128::from(u32::MAX),
                ),
            )
        }
        Networks::V6(list) => {
            let ranges = list
                .iter()
                .map(|n| (n.network().to_bits(), n.broadcast().to_bits()));
            (
                IPV6,
                elements(
                    merge(ranges),
                    |a: u128| Ipv6Addr::from_bits(a).octets().into(),
                    u128::MAX,
                ),
            )
        }
    }
}

fn merge(ranges: impl Iterator<Item = (u128, u128)>) -> Vec<(u128, u128)> {
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(start) => *last = end,
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn elements(
    ranges: Vec<(u128, u128)>,
    key: impl Fn(u128) -> ElementKey,
    highest: u128,
) -> Vec<Element> {
    let mut out = Vec::with_capacity(ranges.len() * 2);
    for (start, end) in ranges {
        out.push(Element::key(key(start)));
        if end != highest {
            out.push(Element {
                key: key(end + 1),
                interval_end: true,
            });
        }
    }
    out
}

/// The reverse: networks from the intervals that the kernel lists, in any order.
pub(in crate::kernel::nftables) fn networks(elements: &[Element]) -> Option<Networks> {
    let mut elements = elements.to_vec();
    // at the same key, the end of one interval comes before the start of the next
    elements.sort_by(|a, b| a.key.cmp(&b.key).then(b.interval_end.cmp(&a.interval_end)));
    let length = elements.first()?.key.len();
    let value = |key: &[u8]| {
        key.iter()
            .fold(0u128, |all, byte| all << 8 | u128::from(*byte))
    };
    let highest = if length == 4 {
        u128::from(u32::MAX)
    } else {
        u128::MAX
    };
    let (mut ranges, mut open) = (Vec::new(), None);
    for element in elements.iter().filter(|e| e.key.len() == length) {
        match (open, element.interval_end) {
            (None, false) => open = Some(value(&element.key)),
            (Some(start), true) => {
                ranges.push((start, value(&element.key).checked_sub(1)?));
                open = None;
            }
            (None, true) => {} // nft itself marks the gap before the first interval
            (Some(_), false) => return None,
        }
    }
    ranges.extend(open.map(|start| (start, highest)));
    match length {
        4 => {
            let subnets = |(start, end): &(u128, u128)| {
                Ipv4Subnets::new(
                    Ipv4Addr::from_bits(*start as u32),
                    Ipv4Addr::from_bits(*end as u32),
                    0,
                )
            };
            Networks::v4(&ranges.iter().flat_map(subnets).collect::<Vec<Ipv4Net>>())
        }
        16 => {
            let subnets = |(start, end): &(u128, u128)| {
                Ipv6Subnets::new(Ipv6Addr::from_bits(*start), Ipv6Addr::from_bits(*end), 0)
            };
            Networks::v6(&ranges.iter().flat_map(subnets).collect::<Vec<Ipv6Net>>())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn touching_networks_are_one_interval_and_the_last_has_no_end() {
        let networks = Networks::v4(&[
            "10.0.1.0/24".parse().unwrap(),
            "10.0.2.0/24".parse().unwrap(),
            "240.0.0.0/4".parse().unwrap(),
        ])
        .unwrap();
        let keys: Vec<_> = intervals(&networks)
            .1
            .into_iter()
            .map(|e| (e.key.to_vec(), e.interval_end))
            .collect();
        assert_eq!(
            keys,
            [
                (vec![10, 0, 1, 0], false),
                (vec![10, 0, 3, 0], true),
                (vec![240, 0, 0, 0], false)
            ]
        );
    }

    proptest! {
        #[test]
        fn intervals_read_back_as_the_same_networks(v4 in proptest::collection::vec((any::<u32>(), 0u8..=32), 1..20), v6 in proptest::collection::vec((any::<u128>(), 0u8..=128), 1..20)) {
            let v4: Vec<_> = v4.into_iter().map(|(a, l)| Ipv4Net::new(Ipv4Addr::from_bits(a), l).unwrap()).collect();
            let v6: Vec<_> = v6.into_iter().map(|(a, l)| Ipv6Net::new(Ipv6Addr::from_bits(a), l).unwrap()).collect();
            for canonical in [Networks::v4(&v4).unwrap(), Networks::v6(&v6).unwrap()] {
                let mut elements = intervals(&canonical).1;
                elements.reverse();
                prop_assert_eq!(super::networks(&elements), Some(canonical));
            }
        }
    }
}
