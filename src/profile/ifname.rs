use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::reason::quote;

/// The name of a network interface, at most 15 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The loopback interface.
    pub fn lo() -> Self {
        Self("lo".into())
    }

    /// The pod's primary interface, as every Kubernetes runtime names it.
    pub fn eth0() -> Self {
        Self("eth0".into())
    }

    /// As nftables compares it: padded with zeros to 16 bytes.
    pub fn padded(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..self.0.len()].copy_from_slice(self.0.as_bytes());
        out
    }

    /// A name from the kernel; `None` if it cannot be shown or quoted safely, or would be read as a wildcard.
    pub fn of_kernel(name: &str) -> Option<Self> {
        let sound = (1..=15).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/' | '+' | '*'));
        sound.then(|| Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Istio's grammar for interface names in annotations: `[A-Za-z][A-Za-z0-9_.-]*`.
impl FromStr for IfName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let grammar = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if grammar && text.len() <= 15 {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is not an interface name", quote(text)))
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::of_kernel(&text).ok_or_else(|| format!("{} is not an interface name", quote(&text)))
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
