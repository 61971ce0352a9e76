//! Turns an Intent and the pod's network into rules, addresses and routes. Pure: plain values in, plain values out.

mod captures;
mod compare;
mod families;
mod form;
pub mod ipt;
pub mod nft;
pub mod packet;
mod preempting;
pub mod routing;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use self::packet::{Family, Protocol};
pub use self::{
    compare::{Difference, summary},
    families::Families,
    form::{Form, Variant},
    preempting::Preempting,
    routing::Routing,
};
use crate::{
    mesh::Intent,
    profile::{IfName, Interfaces, Selection},
    reason::Explanation,
};

/// What the pod's network namespace has, as far as a plan depends on it. It is part of the record. Persisted: a new field needs a default that means what was before it, and a fixture (`tests/pure/compat`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetwork {
    /// eth0 has a global IPv4 address.
    pub ipv4: bool,
    /// eth0 has a global IPv6 address.
    pub ipv6: bool,
    /// eth0 and every interface that holds the best default route of a family.
    pub primary: BTreeSet<IfName>,
    /// eth0, or an interface that holds a default route, has a global IPv6 address and no IPv4 address. Version 0.1.0 looked at eth0 alone.
    #[serde(default)]
    pub needs_ipv6: bool,
    /// The interfaces that have a global IPv6 address. Version 0.1.0 looked at eth0 alone.
    #[serde(default)]
    pub with_ipv6: BTreeSet<IfName>,
    /// The interfaces that have a global address, with their indexes: a name may become another's. Version 0.1.0 kept none.
    #[serde(default)]
    pub addressed: BTreeMap<IfName, u32>,
}

impl PodNetwork {
    /// Of a pod whose only interface is eth0.
    pub fn of_eth0(ipv4: bool, ipv6: bool) -> Self {
        let eth0 = BTreeSet::from([IfName::eth0()]);
        Self {
            ipv4,
            ipv6,
            needs_ipv6: ipv6 && !ipv4,
            with_ipv6: if ipv6 { eth0.clone() } else { BTreeSet::new() },
            primary: eth0,
            addressed: BTreeMap::new(),
        }
    }

    /// Whether any interface has a global IPv6 address.
    fn has_ipv6(&self) -> bool {
        self.ipv6 || !self.with_ipv6.is_empty()
    }
}

/// The format of the rules that plans are lowered to. A change that gives another rule, chain, address or route for an Intent raises it: then
/// whether rules of the previous format stay is decided in [`may_be_right`]. `tests/pure/lowered` keeps the rules of each format.
///
/// 2: the policy rule has priority 100. What 1 was is the same to a comparison, which looks at what comes before the rule.
pub const FORMAT: u32 = 2;

/// Whether rules of this format may be correct although this program would create others. Those of the previous format are compared like
/// this one's.
pub fn may_be_right(format: u32) -> bool {
    format > FORMAT
}

/// How a pod's traffic is redirected. Both backends carry out the same plan; each lowers it to rules of its own.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is wanted.
    pub intent: Intent,
    /// The captured families.
    pub families: Families,
    /// An interface has an IPv6 address. Where none has, IPv6 may be switched off, or the kernel may have none.
    pub ipv6_in_use: bool,
    /// With `interfaces: Primary`, the interfaces that are not left alone (lo among them).
    pub only_interfaces: Option<BTreeSet<IfName>>,
    /// What someone should know although the pod is redirected.
    pub warnings: Vec<Explanation>,
}

impl Plan {
    /// Plans the redirection; the error says what cannot be done.
    pub fn new(intent: &Intent, network: &PodNetwork) -> Result<Self, Explanation> {
        let (families, warnings) = families::captured(intent, network)?;
        let only_interfaces = match intent.interfaces {
            Interfaces::All => None,
            Interfaces::Primary => Some(
                network
                    .primary
                    .iter()
                    .cloned()
                    .chain([IfName::lo()])
                    .collect(),
            ),
        };
        Ok(Self {
            intent: intent.clone(),
            families,
            ipv6_in_use: network.has_ipv6(),
            only_interfaces,
            warnings,
        })
    }

    /// The nftables form: one table for both families.
    pub fn nftables(&self) -> nft::Table {
        nft::table(self)
    }

    /// The iptables form of one family.
    pub fn iptables(&self, family: Family) -> ipt::Ruleset {
        ipt::ruleset(self, family)
    }

    /// The addresses, policy rules and routes.
    pub fn routing(&self) -> Routing {
        Routing::of(self)
    }

    /// Whether packets of this interface may be captured.
    pub fn sees_interface(&self, name: &str) -> bool {
        let is_only = |only: &BTreeSet<IfName>| only.iter().any(|n| n.as_str() == name);
        let is_excluded = self
            .intent
            .exclude_interfaces
            .iter()
            .any(|n| n.as_str() == name);
        !is_excluded && self.only_interfaces.as_ref().is_none_or(is_only)
    }

    /// Whether packets of this protocol, as IP numbers it, may be captured: TCP, and UDP for DNS.
    pub fn sees_protocol(&self, number: u8) -> bool {
        let is = |protocol: Protocol| number == protocol.number();
        is(Protocol::Tcp) || (is(Protocol::Udp) && self.intent.dns_capture)
    }

    /// What is captured and who bypasses, in sentences.
    pub fn captures(&self) -> Vec<String> {
        captures::sentences(self)
    }

    /// Whether some captured range, of either family, starts at a loopback address: then connections to loopback addresses are captured
    /// as well.
    fn captures_loopback(&self) -> bool {
        match &self.intent.outbound.include_ranges {
            Selection::All => false,
            Selection::Only(list) => list
                .iter()
                .any(|n: &IpNet| n.addr().to_canonical().is_loopback()),
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use crate::{
        mesh::{
            Attachment, Container, Decision, Metadata, Namespace, Pod, PodSpec, annotation, decide,
        },
        profile::Profile,
    };

    /// The Intent of a pod that Istio injected with these annotations and proxy environment.
    pub(crate) fn intent(annotations: &[(&str, &str)], env: &[(&str, &str)]) -> Intent {
        let mut pod = Pod {
            metadata: Metadata::default(),
            spec: PodSpec::default(),
            ..Pod::default()
        };
        pod.metadata
            .labels
            .insert("sidecar.istio.io/inject".into(), "true".into());
        pod.metadata.annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        pod.metadata
            .annotations
            .insert(annotation::STATUS.into(), "{}".into());
        let env = env
            .iter()
            .map(|(k, v)| crate::mesh::EnvVar {
                name: (*k).into(),
                value: (*v).into(),
            })
            .collect();
        pod.spec.containers.push(Container {
            name: "istio-proxy".into(),
            env,
            ..Container::default()
        });
        match decide(
            &pod,
            &Namespace::default(),
            Ok(&Profile::built_in()),
            &Attachment::default(),
        )
        .decision
        {
            Decision::Redirect(intent) => *intent,
            Decision::Skip(e) | Decision::Refuse(e) => panic!("{e}"),
        }
    }

    /// A pod network of these families, eth0 its only interface.
    pub(crate) fn network(ipv4: bool, ipv6: bool) -> PodNetwork {
        PodNetwork::of_eth0(ipv4, ipv6)
    }
}

#[cfg(test)]
mod tests {
    use super::{fixtures::*, *};

    #[test]
    fn only_interfaces_there_at_the_start_are_captured_with_primary() {
        let mut intent = intent(&[], &[]);
        assert_eq!(
            Plan::new(&intent, &network(true, false))
                .unwrap()
                .only_interfaces,
            None
        );
        intent.interfaces = Interfaces::Primary;
        let plan = Plan::new(&intent, &network(true, false)).unwrap();
        assert_eq!(
            plan.only_interfaces.unwrap(),
            [IfName::eth0(), IfName::lo()].into()
        );
    }
}
