use std::{collections::BTreeMap, fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::{
    IfName, Selection,
    values::{comma, interfaces, networks, ports, selection},
};
use crate::reason::quote;

/// A traffic setting: which connections are redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are Istio's")]
pub enum Key {
    IncludeInboundPorts,
    ExcludeInboundPorts,
    IncludeOutboundIPRanges,
    ExcludeOutboundIPRanges,
    IncludeOutboundPorts,
    ExcludeOutboundPorts,
    ExcludeInterfaces,
    RerouteVirtualInterfaces,
}

impl Key {
    /// All keys, in the order in which they are read and told.
    pub const ALL: [Self; 8] = [
        Self::IncludeInboundPorts,
        Self::ExcludeInboundPorts,
        Self::IncludeOutboundIPRanges,
        Self::ExcludeOutboundIPRanges,
        Self::IncludeOutboundPorts,
        Self::ExcludeOutboundPorts,
        Self::ExcludeInterfaces,
        Self::RerouteVirtualInterfaces,
    ];

    /// The key in `meshOptin.traffic`, `spec.redirect.traffic` and `tenants.mayOverride`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IncludeInboundPorts => "includeInboundPorts",
            Self::ExcludeInboundPorts => "excludeInboundPorts",
            Self::IncludeOutboundIPRanges => "includeOutboundIPRanges",
            Self::ExcludeOutboundIPRanges => "excludeOutboundIPRanges",
            Self::IncludeOutboundPorts => "includeOutboundPorts",
            Self::ExcludeOutboundPorts => "excludeOutboundPorts",
            Self::ExcludeInterfaces => "excludeInterfaces",
            Self::RerouteVirtualInterfaces => "rerouteVirtualInterfaces",
        }
    }

    /// The pod annotations that set it; the first that is present counts.
    pub const fn annotations(self) -> &'static [&'static str] {
        match self {
            Self::IncludeInboundPorts => &["traffic.sidecar.istio.io/includeInboundPorts"],
            Self::ExcludeInboundPorts => &["traffic.sidecar.istio.io/excludeInboundPorts"],
            Self::IncludeOutboundIPRanges => &["traffic.sidecar.istio.io/includeOutboundIPRanges"],
            Self::ExcludeOutboundIPRanges => &["traffic.sidecar.istio.io/excludeOutboundIPRanges"],
            Self::IncludeOutboundPorts => &["traffic.sidecar.istio.io/includeOutboundPorts"],
            Self::ExcludeOutboundPorts => &["traffic.sidecar.istio.io/excludeOutboundPorts"],
            Self::ExcludeInterfaces => &["traffic.sidecar.istio.io/excludeInterfaces"],
            Self::RerouteVirtualInterfaces => &[
                "istio.io/reroute-virtual-interfaces",
                "traffic.sidecar.istio.io/kubevirtInterfaces",
            ],
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "kubevirtInterfaces" {
            return Ok(Self::RerouteVirtualInterfaces); // Istio's deprecated name
        }
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "{} is no traffic setting; there are {}",
                    quote(text),
                    comma(&Self::ALL)
                )
            })
    }
}

/// What one layer (pod, NAD or profile) says about traffic; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Istio's")]
pub struct TrafficSettings {
    pub include_inbound_ports: Option<Selection<u16>>,
    pub exclude_inbound_ports: Option<Vec<u16>>,
    pub include_outbound_ip_ranges: Option<Selection<IpNet>>,
    pub exclude_outbound_ip_ranges: Option<Vec<IpNet>>,
    pub include_outbound_ports: Option<Vec<u16>>,
    pub exclude_outbound_ports: Option<Vec<u16>>,
    pub exclude_interfaces: Option<Vec<IfName>>,
    pub reroute_virtual_interfaces: Option<Vec<IfName>>,
}

impl TrafficSettings {
    /// Sets `key` from text in the annotations' syntax.
    pub fn set(&mut self, key: Key, text: &str) -> Result<(), String> {
        match key {
            Key::IncludeInboundPorts => self.include_inbound_ports = Some(selection(text, ports)?),
            Key::ExcludeInboundPorts => self.exclude_inbound_ports = Some(ports(text)?),
            Key::IncludeOutboundIPRanges => {
                self.include_outbound_ip_ranges = Some(selection(text, networks)?)
            }
            Key::ExcludeOutboundIPRanges => self.exclude_outbound_ip_ranges = Some(networks(text)?),
            Key::IncludeOutboundPorts => self.include_outbound_ports = Some(ports(text)?),
            Key::ExcludeOutboundPorts => self.exclude_outbound_ports = Some(ports(text)?),
            Key::ExcludeInterfaces => self.exclude_interfaces = Some(interfaces(text)?),
            Key::RerouteVirtualInterfaces => {
                self.reroute_virtual_interfaces = Some(interfaces(text)?)
            }
        }
        Ok(())
    }

    /// What this layer says of `key`, in the annotations' syntax.
    pub fn get(&self, key: Key) -> Option<String> {
        match key {
            Key::IncludeInboundPorts => {
                self.include_inbound_ports.as_ref().map(ToString::to_string)
            }
            Key::ExcludeInboundPorts => self.exclude_inbound_ports.as_deref().map(comma),
            Key::IncludeOutboundIPRanges => self
                .include_outbound_ip_ranges
                .as_ref()
                .map(ToString::to_string),
            Key::ExcludeOutboundIPRanges => self.exclude_outbound_ip_ranges.as_deref().map(comma),
            Key::IncludeOutboundPorts => self.include_outbound_ports.as_deref().map(comma),
            Key::ExcludeOutboundPorts => self.exclude_outbound_ports.as_deref().map(comma),
            Key::ExcludeInterfaces => self.exclude_interfaces.as_deref().map(comma),
            Key::RerouteVirtualInterfaces => self.reroute_virtual_interfaces.as_deref().map(comma),
        }
    }
}

/// From a map of texts, as NADs and profiles write it.
impl<'de> Deserialize<'de> for TrafficSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut settings = Self::default();
        for (key, text) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let key = key.parse().map_err(de::Error::custom)?;
            if settings.get(key).is_some() {
                return Err(de::Error::custom(format!("traffic.{key} is given twice")));
            }
            settings
                .set(key, &text)
                .map_err(|e| de::Error::custom(format!("traffic.{key}: {e}")))?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_round_trips_through_its_name_and_its_value() {
        let text = |k: Key| match k {
            Key::ExcludeInterfaces | Key::RerouteVirtualInterfaces => "net1,tap0",
            Key::IncludeOutboundIPRanges | Key::ExcludeOutboundIPRanges => "10.0.0.0/8,fd00::/64",
            Key::IncludeInboundPorts
            | Key::ExcludeInboundPorts
            | Key::IncludeOutboundPorts
            | Key::ExcludeOutboundPorts => "1,22",
        };
        let mut settings = TrafficSettings::default();
        for key in Key::ALL {
            assert_eq!(key.as_str().parse(), Ok(key));
            assert_eq!(settings.get(key), None);
            settings.set(key, text(key)).unwrap();
            assert_eq!(settings.get(key).unwrap(), text(key));
        }
    }

    #[test]
    fn an_unknown_key_a_wrong_type_and_a_bad_value_are_named() {
        for (json, part) in [
            (r#"{"excludeOutboundPort":"80"}"#, "excludeOutboundPort"),
            (r#"{"excludeOutboundPorts":80}"#, "expected a string"),
            (
                r#"{"excludeOutboundPorts":"eighty"}"#,
                "traffic.excludeOutboundPorts: \"eighty\" is no port",
            ),
            (
                r#"{"kubevirtInterfaces":"a","rerouteVirtualInterfaces":"b"}"#,
                "given twice",
            ),
        ] {
            let error = serde_json::from_str::<TrafficSettings>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
