//! Policy rules and routes, as values and text.

use std::fmt;

use super::super::packet::{Family, TPROXY_MARK};
use super::{PRIORITY, TABLE};

/// One of ours, or something else that was found in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutingEntry<T> {
    /// As it is planned.
    Ours(Family, T),
    /// Not ours; said as far as it was understood.
    Other(Family, String),
}

/// `from all fwmark 0x539 lookup 133`. Which number it has says nothing: what comes before it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRule;

/// `local default dev lo table 133`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalRoute;

impl<T> RoutingEntry<T> {
    /// Its family.
    pub fn family(&self) -> Family {
        match self {
            Self::Ours(family, _) | Self::Other(family, _) => *family,
        }
    }
}

impl fmt::Display for RoutingEntry<PolicyRule> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(..) => write!(
                f,
                "{PRIORITY}: from all fwmark {TPROXY_MARK:#x} lookup {TABLE}"
            ),
            Self::Other(_, what) => f.write_str(what),
        }
    }
}

impl fmt::Display for RoutingEntry<LocalRoute> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(..) => f.write_str("local default dev lo"),
            Self::Other(_, what) => f.write_str(what),
        }
    }
}
