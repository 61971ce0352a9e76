//! Anonymous sets: the elements of a match of more than one value, as the kernel keeps them.

mod elements;

use std::collections::BTreeMap;

pub(super) use self::elements::*;

/// The sets of the table that are of our kind, by name.
pub(super) type Sets = BTreeMap<String, Set>;

/// An anonymous, constant set.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) interval: bool,
    pub(super) elements: Vec<Element>,
}

/// What a set's keys are: nft's number for it (so that `nft list` can show them) and the length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyType {
    pub(super) number: u32,
    pub(super) length: u32,
    /// nftables' `enum byteorder`: 1 host, 2 network.
    byte_order: u32,
}

impl KeyType {
    /// What nft keeps with a set to show its keys: `NFTNL_UDATA_SET_KEYBYTEORDER`, a length, the byte order.
    pub(super) fn user_data(self) -> Vec<u8> {
        [&[0, 4][..], &self.byte_order.to_ne_bytes()].concat()
    }
}

/// Numbers of `enum datatypes` in nftables' include/datatype.h.
pub(super) const IPV4: KeyType = KeyType {
    number: 7,
    length: 4,
    byte_order: 2,
};

pub(super) const IPV6: KeyType = KeyType {
    number: 8,
    length: 16,
    byte_order: 2,
};

pub(super) const SERVICE: KeyType = KeyType {
    number: 13,
    length: 2,
    byte_order: 2,
};

pub(super) const GROUP: KeyType = KeyType {
    number: 25,
    length: 4,
    byte_order: 1,
};

pub(super) const INTERFACE: KeyType = KeyType {
    number: 41,
    length: 16,
    byte_order: 1,
};
