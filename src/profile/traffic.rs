//! The traffic settings: which connections are redirected. Each setting is one row of a table, from which follow its key, its value
//! in each layer, how layers are merged, and what a MeshProfile may let tenants override.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::{
    IfName, Selection,
    values::{Entry, Value, effect},
};
use crate::{reason::Explanation, words::words};

/// Merges the values that several layers have for a setting.
pub(crate) trait Merge<'a> {
    /// The value of the highest layer that has one.
    fn replaced<T: Value + 'a>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a T>,
        built_in: T,
    ) -> Result<T, Explanation>;

    /// The values of all layers together; the built-in default only if no layer has one.
    fn united<T: Entry + 'a>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a Vec<T>>,
        built_in: Vec<T>,
    ) -> Result<Vec<T>, Explanation>;
}

/// What Istio's injector writes on every pod for a setting: such a value does not count as the pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injected {
    /// Nothing.
    Nothing,
    /// `*`
    All,
    /// The sidecar's status port.
    StatusPort,
}

/// Generates everything that a setting needs from its row:
/// `Key field "name" as Type, merge(built-in default), Injected, [annotations];`
/// The merge is `replaced`, by the highest layer that has a value, or `united`.
macro_rules! traffic_keys {
    ($(
        $(#[doc = $doc:literal])+
        $key:ident $field:ident $name:literal $(| $alias:literal)* as $type:ty,
        $merge:ident($built_in:expr), $injected:ident, [$($annotation:literal),+];
    )+) => {
        words! {
            /// A traffic setting, in the order in which they are read and shown. The word is its key in `meshOptin.traffic`,
            /// `spec.redirect.traffic` and `tenants.mayOverride`.
            pub enum Key("traffic setting") {
                $($(#[doc = $doc])+ $key = $name $(| $alias)*,)+
            }
        }

        impl Key {
            /// The pod annotations that set it; the first that is present counts.
            pub const fn annotations(self) -> &'static [&'static str] {
                match self { $(Self::$key => &[$($annotation),+],)+ }
            }

            /// What it sets, as a sentence.
            #[cfg(feature = "schema")]
            pub(crate) const fn description(self) -> &'static str {
                match self { $(Self::$key => concat!($($doc),+),)+ }
            }

            pub(crate) const fn injected(self) -> Injected {
                match self { $(Self::$key => Injected::$injected,)+ }
            }
        }

        /// The traffic settings of one layer (pod, NAD or profile); `None` if it has no value.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct TrafficSettings {
            $($(#[doc = $doc])+ pub $field: Option<$type>,)+
        }

        impl TrafficSettings {
            /// Sets `key` from text in the annotations' syntax.
            pub fn set(&mut self, key: Key, text: &str) -> Result<(), String> {
                match key { $(Key::$key => self.$field = Some(Value::parse(text)?),)+ }
                Ok(())
            }

            /// Removes the value of `key`.
            pub(crate) fn unset(&mut self, key: Key) {
                match key { $(Key::$key => self.$field = None,)+ }
            }

            /// Whether this layer's value of `key` has another effect than the profile's own settings.
            pub(crate) fn has_effect(&self, key: Key, profile: &Self) -> bool {
                match key {
                    $(Key::$key => self.$field.as_ref().is_some_and(|said| {
                        effect::$merge(said, profile.$field.as_ref(), $built_in)
                    }),)+
                }
            }

            /// This layer's value of `key`, in the annotations' syntax.
            pub fn get(&self, key: Key) -> Option<String> {
                match key { $(Key::$key => self.$field.as_ref().map(Value::text),)+ }
            }
        }

        /// The settings of all layers together.
        pub(crate) struct Resolved {
            $(pub(crate) $field: $type,)+
        }

        impl Resolved {
            /// How many entries all lists have together.
            pub(crate) fn entries(&self) -> usize {
                0 $(+ self.$field.entries())+
            }

            pub(crate) fn of<'a>(layers: &mut impl Merge<'a>) -> Result<Self, Explanation> {
                Ok(Self {
                    $($field: layers.$merge(Key::$key, |said| said.$field.as_ref(), $built_in)?,)+
                })
            }
        }
    };
}

traffic_keys! {
    /// Inbound ports that are captured; `*` means all.
    IncludeInboundPorts include_inbound_ports "includeInboundPorts" as Selection<u16>,
        replaced(Selection::All), All, ["traffic.sidecar.istio.io/includeInboundPorts"];
    /// Inbound ports that are not captured, if all others are.
    ExcludeInboundPorts exclude_inbound_ports "excludeInboundPorts" as Vec<u16>,
        united(vec![]), StatusPort, ["traffic.sidecar.istio.io/excludeInboundPorts"];
    /// Destinations that are captured, as networks; `*` means all.
    IncludeOutboundIPRanges include_outbound_ip_ranges "includeOutboundIPRanges" as Selection<IpNet>,
        replaced(Selection::All), All, ["traffic.sidecar.istio.io/includeOutboundIPRanges"];
    /// Destinations that are not captured, as networks.
    ExcludeOutboundIPRanges exclude_outbound_ip_ranges "excludeOutboundIPRanges" as Vec<IpNet>,
        united(vec![]), Nothing, ["traffic.sidecar.istio.io/excludeOutboundIPRanges"];
    /// Outbound ports that are captured for every destination.
    IncludeOutboundPorts include_outbound_ports "includeOutboundPorts" as Vec<u16>,
        replaced(vec![]), Nothing, ["traffic.sidecar.istio.io/includeOutboundPorts"];
    /// Outbound ports that are not captured.
    ExcludeOutboundPorts exclude_outbound_ports "excludeOutboundPorts" as Vec<u16>,
        united(vec![15020]), Nothing, ["traffic.sidecar.istio.io/excludeOutboundPorts"];
    /// Interfaces that are not captured.
    ExcludeInterfaces exclude_interfaces "excludeInterfaces" as Vec<IfName>,
        united(vec![]), Nothing, ["traffic.sidecar.istio.io/excludeInterfaces"];
    /// Interfaces of virtual machines, whose inbound traffic is treated as the pod's outbound traffic.
    RerouteVirtualInterfaces reroute_virtual_interfaces
        "rerouteVirtualInterfaces" | "kubevirtInterfaces" as Vec<IfName>,
        replaced(vec![]), Nothing,
        ["istio.io/reroute-virtual-interfaces", "traffic.sidecar.istio.io/kubevirtInterfaces"];
}

/// Reads a map of texts, as NADs and profiles have it.
impl<'de> Deserialize<'de> for TrafficSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut settings = Self::default();
        for (key, text) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let key: Key = key.parse().map_err(de::Error::custom)?;
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
                "traffic.excludeOutboundPorts: \"eighty\" is not a port",
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
