//! From an Intent and what eth0 has to the rules and addresses that carry it out. Pure: plain values in, plain values out.

mod captures;
mod compare;
mod families;
mod lower;
pub mod nft;
mod text;

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use compare::{Difference, compare, summary};
pub use families::Families;

use crate::{
    mesh::{Backend, IfName, Intent, InterceptionMode, Interfaces},
    reason::{Explanation, Reason},
};

/// What the pod's network namespace has, as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetwork {
    /// eth0 has a global IPv4 address.
    pub ipv4: bool,
    /// eth0 has a global IPv6 address.
    pub ipv6: bool,
    /// eth0 and every interface that holds a default route.
    pub primary: BTreeSet<IfName>,
}

/// How a pod's traffic is redirected. Both backends carry out the same plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is wanted.
    pub intent: Intent,
    /// The captured families.
    pub families: Families,
    /// With `interfaces: Primary`, the interfaces that are not left alone (lo among them).
    pub only_interfaces: Option<BTreeSet<IfName>>,
    /// What someone should know although the pod is redirected.
    pub warnings: Vec<Explanation>,
}

impl Plan {
    /// Plans, or says what cannot be done.
    pub fn new(intent: &Intent, network: &PodNetwork) -> Result<Self, Explanation> {
        let (families, warnings) = families::captured(intent, network)?;
        supported(intent)?;
        let only_interfaces = match intent.interfaces {
            Interfaces::All => None,
            Interfaces::Primary => Some(network.primary.iter().cloned().chain([IfName::lo()]).collect()),
        };
        Ok(Self { intent: intent.clone(), families, only_interfaces, warnings })
    }

    /// The addresses that the redirection needs on `lo`, beside what the pod has.
    pub fn addresses_on_lo(&self) -> Vec<IpNet> {
        if self.families.ipv6 { vec![IpNet::V6(PASSTHROUGH_V6)] } else { Vec::new() }
    }

    /// The nftables form.
    pub fn nftables(&self) -> nft::Table {
        lower::table(self)
    }

    /// What is captured and who bypasses, in sentences.
    pub fn captures(&self) -> Vec<String> {
        captures::sentences(self)
    }
}

/// `::6/128`: the source of the sidecar's passthrough connections, and the destination of istio-validation's probe. It must be on `lo`;
/// its IPv4 twin 127.0.0.6 needs no address.
const PASSTHROUGH_V6: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6), 128);

fn supported(intent: &Intent) -> Result<(), Explanation> {
    let missing = if intent.mode == InterceptionMode::Tproxy {
        "interceptionMode TPROXY"
    } else if intent.dns_capture {
        "DNS capture (ISTIO_META_DNS_CAPTURE)"
    } else if intent.backend == Backend::Iptables {
        "the iptables backend"
    } else {
        return Ok(());
    };
    Err(Reason::NotSupported.because(format!("{missing} is not supported by this version")))
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use crate::mesh::{Attachment, Container, Decision, Metadata, Namespace, Pod, PodSpec, Profile, annotation, decide};

    /// The Intent of a pod that Istio injected with these annotations and proxy environment.
    pub(crate) fn intent(annotations: &[(&str, &str)], env: &[(&str, &str)]) -> Intent {
        let mut pod = Pod { metadata: Metadata::default(), spec: PodSpec::default(), ..Pod::default() };
        pod.metadata.labels.insert("sidecar.istio.io/inject".into(), "true".into());
        pod.metadata.annotations = annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        pod.metadata.annotations.insert(annotation::STATUS.into(), "{}".into());
        let env = env.iter().map(|(k, v)| crate::mesh::EnvVar { name: (*k).into(), value: (*v).into() }).collect();
        pod.spec.containers.push(Container { name: "istio-proxy".into(), env, ..Container::default() });
        match decide(&pod, &Namespace::default(), &Profile::built_in(), &Attachment::default()).decision {
            Decision::Redirect(intent) => *intent,
            Decision::Skip(e) | Decision::Refuse(e) => panic!("{e}"),
        }
    }

    /// A pod network of these families, eth0 its only interface.
    pub(crate) fn network(ipv4: bool, ipv6: bool) -> PodNetwork {
        PodNetwork { ipv4, ipv6, primary: [IfName::eth0()].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::{fixtures::*, *};

    #[test]
    fn what_is_not_built_yet_is_refused_and_never_half_done() {
        let mut tproxy = intent(&[("sidecar.istio.io/interceptionMode", "TPROXY")], &[]);
        for intent in [tproxy.clone(), intent(&[], &[("ISTIO_META_DNS_CAPTURE", "true")])] {
            assert_eq!(Plan::new(&intent, &network(true, false)).unwrap_err().reason, Reason::NotSupported);
        }
        tproxy.mode = InterceptionMode::Redirect;
        assert!(Plan::new(&tproxy, &network(true, false)).is_ok());
        tproxy.backend = Backend::Iptables;
        assert_eq!(Plan::new(&tproxy, &network(true, false)).unwrap_err().reason, Reason::NotSupported);
    }

    #[test]
    fn only_interfaces_there_at_the_start_are_captured_with_primary() {
        let mut intent = intent(&[], &[]);
        assert_eq!(Plan::new(&intent, &network(true, false)).unwrap().only_interfaces, None);
        intent.interfaces = Interfaces::Primary;
        let plan = Plan::new(&intent, &network(true, false)).unwrap();
        assert_eq!(plan.only_interfaces.unwrap(), [IfName::eth0(), IfName::lo()].into());
    }
}
