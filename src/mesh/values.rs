//! The syntaxes of traffic settings: ports, networks and interfaces, parsed once into numbers, networks and names.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::IfName;
use crate::reason::quote;

/// Most entries of a list: rules stay charged to the runtime's memory as long as the pod lives.
const MOST_ENTRIES: usize = 256;
/// Most interfaces of a list.
const MOST_INTERFACES: usize = 16;

/// Everything (`*`), or only what is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Selection<T> {
    All,
    Only(Vec<T>),
}

impl<T: fmt::Display> fmt::Display for Selection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Only(list) => f.write_str(&comma(list)),
        }
    }
}

/// A list as annotations write it.
pub(crate) fn comma<T: fmt::Display>(list: &[T]) -> String {
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// `*` or what `only` reads.
pub(super) fn selection<T>(
    text: &str,
    only: impl FnOnce(&str) -> Result<Vec<T>, String>,
) -> Result<Selection<T>, String> {
    if text == "*" {
        Ok(Selection::All)
    } else {
        only(text).map(Selection::Only)
    }
}

/// Ports: decimal, 0 to 65535, comma-separated; blank is none.
pub(super) fn ports(text: &str) -> Result<Vec<u16>, String> {
    list(text, MOST_ENTRIES, |e| {
        let digits = !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| u16::from_str(e).ok())
            .flatten()
            .ok_or_else(|| format!("{} is no port from 0 to 65535", quote(e)))
    })
}

/// Networks: `address/length`, comma-separated without white space; host bits are allowed and kept; empty is none.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    // ipnet's own parser takes octets with leading zeros, which iptables would read as octal
    let network = |e: &str| {
        let (address, length) = e.split_once('/')?;
        let digits = length.bytes().all(|b| b.is_ascii_digit())
            && (length == "0" || !length.starts_with('0'));
        IpNet::new(
            address.parse().ok()?,
            length.parse().ok().filter(|_| digits)?,
        )
        .ok()
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    split(text, MOST_ENTRIES, |e| {
        network(e).ok_or_else(|| format!("{} is no network of the form address/length", quote(e)))
    })
}

/// Interface names, comma-separated; blank is none.
pub(super) fn interfaces(text: &str) -> Result<Vec<IfName>, String> {
    list(text, MOST_INTERFACES, IfName::from_str)
}

/// Adds what is not there yet, keeping order.
pub(super) fn unite<T: PartialEq + Clone>(into: &mut Vec<T>, more: &[T]) {
    for entry in more {
        if !into.contains(entry) {
            into.push(entry.clone());
        }
    }
}

fn list<T: PartialEq + Clone>(
    text: &str,
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    if text.trim().is_empty() {
        Ok(Vec::new())
    } else {
        split(text, most, |e| parse(e.trim()))
    }
}

fn split<T: PartialEq + Clone>(
    text: &str,
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    for entry in text.split(',') {
        unite(&mut out, &[parse(entry)?]);
        if out.len() > most {
            return Err(format!("more than {most} entries"));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_once_each() {
        assert_eq!(ports(" 80, 443 ,80,080 ").unwrap(), [80, 443]);
        assert_eq!(ports("0,65535").unwrap(), [0, 65535]);
        assert_eq!(ports("  ").unwrap(), [0u16; 0]);
        for bad in [
            "80,", ",80", "80,,81", "65536", "-1", "+1", "0x50", "80-90", "http", "*", "1_0",
            "８０",
        ] {
            assert!(ports(bad).unwrap_err().contains("is no port"), "{bad}");
        }
        let many = (0..257)
            .map(|p| p.to_string())
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(ports(&many).unwrap_err(), "more than 256 entries");
    }

    #[test]
    fn networks_keep_host_bits_and_need_a_length() {
        assert_eq!(
            comma(&networks("10.1.2.3/8,::1/128,10.1.2.3/8").unwrap()),
            "10.1.2.3/8,::1/128"
        );
        for bad in [
            "10.0.0.1",
            "10.0.0.0/33",
            "010.0.0.0/8",
            "fe80::1%eth0/64",
            "*",
            "10.0.0.0/8,",
            " ",
            "10.0.0.0/8, 11.0.0.0/8",
        ] {
            assert!(
                networks(bad).unwrap_err().contains("address/length"),
                "{bad}"
            );
        }
    }

    #[test]
    fn interface_names_follow_istio_s_grammar() {
        assert_eq!(
            comma(&interfaces("net1,tap-0.5_x").unwrap()),
            "net1,tap-0.5_x"
        );
        for bad in [
            "1net",
            "_x",
            "a@b",
            "eth+",
            "abcdefghijklmnop",
            "a b",
            "a\"b",
            "net1,",
        ] {
            assert!(
                interfaces(bad)
                    .unwrap_err()
                    .contains("is no interface name"),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_the_lone_star_selects_all() {
        assert_eq!(selection("*", ports).unwrap(), Selection::All);
        assert_eq!(selection("", ports).unwrap(), Selection::Only(vec![]));
        assert!(selection("*,80", ports).is_err());
    }
}
