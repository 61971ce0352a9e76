//! The syntaxes of traffic settings: ports, networks and interfaces, parsed once into numbers, networks and names.

use std::{collections::BTreeSet, fmt, str::FromStr};

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

/// A list in the annotations' syntax.
pub(crate) fn comma<T: fmt::Display>(list: &[T]) -> String {
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// The value of a traffic setting.
pub(crate) trait Value: Clone + Sized {
    /// Reads it in the annotations' syntax.
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes it in the annotations' syntax.
    fn text(&self) -> String;
    /// How many entries are listed.
    fn entries(&self) -> usize;
    /// Whether both mean the same.
    fn is_same(&self, other: &Self) -> bool;
}

/// An entry of a list.
pub(crate) trait Entry: Clone + Ord + fmt::Display {
    /// Most entries of a list, and of all layers' lists together.
    const MOST: usize;
    /// Reads a list in the annotations' syntax.
    fn list(text: &str) -> Result<Vec<Self>, String>;

    /// Whether all of `list` are among `all`.
    fn are_in(list: &[Self], all: &[Self]) -> bool {
        let all: BTreeSet<&Self> = all.iter().collect();
        list.iter().all(|entry| all.contains(entry))
    }
}

impl<T: Entry> Value for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        T::list(text)
    }

    fn text(&self) -> String {
        comma(self)
    }

    fn entries(&self) -> usize {
        self.len()
    }

    fn is_same(&self, other: &Self) -> bool {
        T::are_in(self, other) && T::are_in(other, self)
    }
}

impl<T: Entry> Value for Selection<T> {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::All),
            _ => T::list(text).map(Self::Only),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn entries(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Only(list) => list.len(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Only(list), Self::Only(other)) => list.is_same(other),
            (Self::All, Self::Only(_)) | (Self::Only(_), Self::All) => false,
        }
    }
}

/// A port: decimal, 0 to 65535. A list is comma-separated; blank is none.
impl Entry for u16 {
    const MOST: usize = MOST_ENTRIES;

    fn list(text: &str) -> Result<Vec<Self>, String> {
        list(text, Self::MOST, |e| {
            let digits = !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit());
            let port = digits.then(|| Self::from_str(e).ok()).flatten();
            port.ok_or_else(|| format!("{} is not a port from 0 to 65535", quote(e)))
        })
    }
}

/// A network: `address/length`; host bits are allowed and kept. A list is comma-separated without white space; empty is none.
impl Entry for IpNet {
    const MOST: usize = MOST_ENTRIES;

    fn list(text: &str) -> Result<Vec<Self>, String> {
        // ipnet's own parser takes octets with leading zeros, which iptables would read as octal
        let network = |e: &str| {
            let (address, length) = e.split_once('/')?;
            let digits = length.bytes().all(|b| b.is_ascii_digit())
                && (length == "0" || !length.starts_with('0'));
            let length = length.parse().ok().filter(|_| digits)?;
            Self::new(address.parse().ok()?, length).ok()
        };
        if text.is_empty() {
            return Ok(Vec::new());
        }
        split(text, Self::MOST, |e| {
            network(e)
                .ok_or_else(|| format!("{} is not a network of the form address/length", quote(e)))
        })
    }

    /// Compares by containment: several networks may equal one.
    fn are_in(list: &[Self], all: &[Self]) -> bool {
        let all = Self::aggregate(&all.iter().map(Self::trunc).collect());
        list.iter()
            .all(|network| all.iter().any(|wider| wider.contains(&network.trunc())))
    }
}

/// An interface's name. A list is comma-separated; blank is none.
impl Entry for IfName {
    const MOST: usize = MOST_INTERFACES;

    fn list(text: &str) -> Result<Vec<Self>, String> {
        list(text, Self::MOST, Self::from_str)
    }
}

/// Appends what is missing, keeping the order.
pub(crate) fn unite<T: Entry>(into: &mut Vec<T>, more: &[T]) {
    if into.is_empty() {
        into.extend_from_slice(more); // a list has each entry once
        return;
    }
    let mut seen: BTreeSet<T> = into.iter().cloned().collect();
    into.extend(
        more.iter()
            .filter(|entry| seen.insert((*entry).clone()))
            .cloned(),
    );
}

fn list<T: Entry>(
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

fn split<T: Entry>(
    text: &str,
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    for entry in text.split(',') {
        let entry = parse(entry)?;
        if seen.insert(entry.clone()) {
            out.push(entry);
        }
        if out.len() > most {
            return Err(format!("more than {most} entries"));
        }
    }
    Ok(out)
}

/// Whether a tenant's value has an effect besides the profile's or, without one, the built-in default. Named like the merges.
pub(super) mod effect {
    use super::{Entry, Value};

    pub(in crate::profile) fn replaced<T: Value>(
        said: &T,
        profile: Option<&T>,
        built_in: T,
    ) -> bool {
        !said.is_same(profile.unwrap_or(&built_in))
    }

    pub(in crate::profile) fn united<T: Entry>(
        said: &[T],
        profile: Option<&Vec<T>>,
        built_in: Vec<T>,
    ) -> bool {
        !T::are_in(said, profile.unwrap_or(&built_in))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_once_each() {
        assert_eq!(u16::list(" 80, 443 ,80,080 ").unwrap(), [80, 443]);
        assert_eq!(u16::list("0,65535").unwrap(), [0, 65535]);
        assert_eq!(u16::list("  ").unwrap(), [0u16; 0]);
        for bad in [
            "80,", ",80", "80,,81", "65536", "-1", "+1", "0x50", "80-90", "http", "*", "1_0",
            "８０",
        ] {
            assert!(
                u16::list(bad).unwrap_err().contains("is not a port"),
                "{bad}"
            );
        }
        let many = (0..257)
            .map(|p| p.to_string())
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(u16::list(&many).unwrap_err(), "more than 256 entries");
    }

    #[test]
    fn networks_keep_host_bits_and_need_a_length() {
        assert_eq!(
            comma(&IpNet::list("10.1.2.3/8,::1/128,10.1.2.3/8").unwrap()),
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
                IpNet::list(bad).unwrap_err().contains("address/length"),
                "{bad}"
            );
        }
    }

    #[test]
    fn interface_names_follow_the_grammar_of_istio() {
        assert_eq!(
            comma(&IfName::list("net1,tap-0.5_x").unwrap()),
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
                IfName::list(bad)
                    .unwrap_err()
                    .contains("is not an interface name"),
                "{bad}"
            );
        }
    }

    #[test]
    fn networks_compare_by_what_they_contain_and_ports_as_sets() {
        let is_same = |a, b| {
            let [a, b] = [a, b].map(|text| Selection::<IpNet>::parse(text).unwrap());
            assert_eq!(a.is_same(&b), b.is_same(&a));
            a.is_same(&b)
        };
        assert!(is_same("10.1.2.3/8", "10.128.0.0/9,10.0.0.0/9,10.5.0.0/16"));
        assert!(is_same("*", "*") && is_same("", ""));
        assert!(!is_same("10.0.0.0/8", "10.0.0.0/8,fd00::/8") && !is_same("*", "0.0.0.0/0,::/0"));
        let networks = |text| IpNet::list(text).unwrap();
        assert!(IpNet::are_in(
            &networks("10.7.0.0/16"),
            &networks("10.0.0.0/9,10.128.0.0/9")
        ));
        assert!(!IpNet::are_in(
            &networks("10.0.0.0/7"),
            &networks("10.0.0.0/8")
        ));
        assert!(vec![80_u16, 443].is_same(&vec![443, 80]) && !vec![80_u16].is_same(&vec![]));
    }

    #[test]
    fn only_the_lone_star_selects_all() {
        assert_eq!(Selection::<u16>::parse("*").unwrap(), Selection::All);
        assert_eq!(
            Selection::<u16>::parse("").unwrap(),
            Selection::Only(vec![])
        );
        assert!(Selection::<u16>::parse("*,80").is_err());
    }
}
