//! The nine worked examples.

use mesh_optin::plan::packet::Family;
use serde_json::{Value, json};

use super::{DNS, DROP, DUAL, Dump, TPROXY, dump};
use crate::support::data::data;

/// A pod, and the rules that Istio makes for it, in tests/data/worked.
pub struct Example {
    pub name: &'static str,
    pub annotations: Vec<(&'static str, &'static str)>,
    pub env: Vec<(&'static str, &'static str)>,
    pub ids: (u32, u32),
    pub ips: &'static [&'static str],
    /// Rules that Istio does not have there: table, chain, rule. Their places are the second test's.
    pub corrected: Vec<(&'static str, &'static str, &'static str)>,
}

/// The nine.
pub fn examples() -> Vec<Example> {
    let example = |name| Example {
        name,
        annotations: vec![],
        env: vec![],
        ids: (1337, 1337),
        ips: &["10.244.0.5"],
        corrected: vec![],
    };
    let traffic = |settings: &[(&'static str, &'static str)]| settings.to_vec();
    let tunnel = (
        "mangle",
        "ISTIO_INBOUND",
        "-p tcp -m tcp --dport 15008 -j RETURN",
    );
    vec![
        example("6.1"),
        Example {
            annotations: vec![TPROXY],
            ids: (0, 1337),
            corrected: vec![tunnel],
            ..example("6.2")
        },
        Example {
            env: vec![DNS],
            ..example("6.3")
        },
        Example {
            annotations: traffic(&[
                ("traffic.sidecar.istio.io/includeInboundPorts", "8080,9090"),
                ("traffic.sidecar.istio.io/excludeInboundPorts", "9999"),
                ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306,6379"),
                ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
                (
                    "traffic.sidecar.istio.io/includeOutboundIPRanges",
                    "10.96.0.0/12,10.244.0.0/16",
                ),
                (
                    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                    "10.96.0.10/32",
                ),
            ]),
            ..example("6.4")
        },
        Example {
            ips: &["fd00:244::5"],
            ..example("6.5")
        },
        Example {
            annotations: traffic(&[
                (
                    "traffic.sidecar.istio.io/includeOutboundIPRanges",
                    "10.0.0.0/8,fd00::/8",
                ),
                (
                    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                    "10.1.2.3/32,fd00:1::/64",
                ),
            ]),
            env: vec![DUAL, DNS],
            ips: &["10.244.0.5", "fd00:244::5"],
            ..example("6.6")
        },
        Example {
            annotations: traffic(&[
                ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
                ("istio.io/reroute-virtual-interfaces", "tap0,tap1"),
            ]),
            ..example("6.7")
        },
        Example {
            env: vec![DROP],
            ids: (1_000_670_000, 1_000_670_001),
            ..example("6.8")
        },
        Example {
            annotations: traffic(&[
                TPROXY,
                ("traffic.sidecar.istio.io/includeInboundPorts", "8080"),
                ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
                ("istio.io/reroute-virtual-interfaces", "tap0"),
            ]),
            env: vec![DNS, DUAL, DROP],
            ips: &["10.244.0.5", "fd00:244::5"],
            corrected: vec![tunnel, ("mangle", "PREROUTING", "-i tap0 -j RETURN")],
            ..example("6.9")
        },
    ]
}

impl Example {
    /// The pod of the example and its namespace.
    pub fn pod(&self) -> (Value, Value) {
        let (mut pod, namespace) = data("defaults");
        pod["metadata"]["annotations"] = json!({"sidecar.istio.io/status": "{}"});
        for (key, value) in &self.annotations {
            pod["metadata"]["annotations"][*key] = json!(value);
        }
        pod["status"]["podIPs"] = self.ips.iter().map(|ip| json!({"ip": ip})).collect();
        let containers = pod["spec"]["containers"].as_array_mut().unwrap();
        let proxy = containers
            .iter_mut()
            .find(|c| c["name"] == "istio-proxy")
            .unwrap();
        proxy["securityContext"] = json!({"runAsUser": self.ids.0, "runAsGroup": self.ids.1});
        proxy["env"] = self
            .env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        (pod, namespace)
    }

    /// The captured families, each with the rules that iptables-save shows with Istio.
    pub fn expected(&self) -> Vec<(Family, Dump)> {
        let expected = |(family, name): (Family, &str)| {
            let path = format!(
                "{}/tests/data/worked/{}.{name}",
                env!("CARGO_MANIFEST_DIR"),
                self.name
            );
            Some((family, dump(&std::fs::read_to_string(path).ok()?)))
        };
        [(Family::Ipv4, "v4"), (Family::Ipv6, "v6")]
            .into_iter()
            .filter_map(expected)
            .collect()
    }

    /// Takes the rules away that Istio does not have.
    pub fn uncorrected(&self, mut ours: Dump) -> Dump {
        for (table, chain, rule) in &self.corrected {
            let rules = ours.get_mut(&((*table).into(), (*chain).into())).unwrap();
            let at = rules
                .iter()
                .position(|r| r == rule)
                .unwrap_or_else(|| panic!("{}: no {rule}", self.name));
            rules.remove(at);
        }
        ours
    }
}
