use std::collections::BTreeSet;

use super::{PodNetwork, packet::Family};
use crate::{
    mesh::Intent,
    profile::{IfName, Interfaces, IpFamilies, comma},
    reason::{Explanation, Reason},
};

/// The captured address families. IPv4 always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv6 is captured too.
    pub ipv6: bool,
}

impl Families {
    /// Those that are captured.
    pub fn captured(self) -> impl Iterator<Item = Family> {
        [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .take(if self.ipv6 { 2 } else { 1 })
    }
}

/// Which families are captured. An interface more can only add to them.
pub(super) fn captured(
    intent: &Intent,
    network: &PodNetwork,
) -> Result<(Families, Vec<Explanation>), Explanation> {
    if !network.ipv4 && !network.ipv6 {
        return Err(Reason::NoPrimaryInterface.because("eth0 has no global address"));
    }
    let ipv6 = match intent.ip_families {
        IpFamilies::All => true,
        IpFamilies::Proxy => intent.dual_stack || !network.ipv4 || network.needs_ipv6,
    };
    let mut warnings = Vec::new();
    let bypassing = with_ipv6(intent, network);
    if !ipv6 && !bypassing.is_empty() {
        let (names, have) = (
            comma(&bypassing),
            if bypassing.len() == 1 { "has" } else { "have" },
        );
        warnings.push(Reason::FamilyNotCaptured.because(format!(
            "{names} {have} an IPv6 address but the sidecar serves IPv4 only: IPv6 bypasses the mesh"
        )));
    }
    Ok((Families { ipv6 }, warnings))
}

/// The captured interfaces that have a global IPv6 address.
fn with_ipv6(intent: &Intent, network: &PodNetwork) -> Vec<IfName> {
    let is_captured = |name: &&IfName| {
        let is_primary = intent.interfaces == Interfaces::All || network.primary.contains(*name);
        is_primary && !intent.exclude_interfaces.contains(*name)
    };
    let eth0 = network.ipv6.then(IfName::eth0);
    let all: BTreeSet<_> = network
        .with_ipv6
        .iter()
        .chain(&eth0)
        .filter(is_captured)
        .cloned()
        .collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{intent, network};

    #[test]
    fn eth0_and_the_sidecar_decide_on_ipv6() {
        for (dual_stack, all, v4, v6, expected, warned) in [
            (false, false, true, false, false, false),
            (false, false, true, true, false, true),
            (false, false, false, true, true, false),
            (true, false, true, true, true, false),
            (true, false, true, false, true, false),
            (false, true, true, false, true, false),
        ] {
            let mut intent = intent(
                &[],
                &[(
                    "ISTIO_DUAL_STACK",
                    if dual_stack { "true" } else { "false" },
                )],
            );
            intent.ip_families = if all {
                IpFamilies::All
            } else {
                IpFamilies::Proxy
            };
            let (families, warnings) = captured(&intent, &network(v4, v6)).unwrap();
            assert_eq!(
                (families.ipv6, !warnings.is_empty()),
                (expected, warned),
                "dual {dual_stack} all {all} v4 {v4} v6 {v6}"
            );
        }
        assert_eq!(
            captured(&intent(&[], &[]), &network(false, false))
                .unwrap_err()
                .reason,
            Reason::NoPrimaryInterface
        );
    }

    #[test]
    fn every_captured_interface_with_ipv6_is_reported_and_no_other() {
        let mut network = network(true, true);
        network
            .with_ipv6
            .extend(["net1", "net2"].map(|n| n.parse().unwrap()));
        let warned = |annotations: &[(&str, &str)], interfaces| {
            let intent = Intent {
                interfaces,
                ..intent(annotations, &[])
            };
            let (_, warnings) = captured(&intent, &network).unwrap();
            warnings
                .first()
                .map(|w| w.cause.split(" an").next().unwrap().to_owned())
        };
        let excluded = [("traffic.sidecar.istio.io/excludeInterfaces", "net2,eth0")];
        assert_eq!(warned(&[], Interfaces::All).unwrap(), "eth0,net1,net2 have");
        assert_eq!(warned(&excluded, Interfaces::All).unwrap(), "net1 has");
        assert_eq!(warned(&[], Interfaces::Primary).unwrap(), "eth0 has");
        assert_eq!(warned(&excluded, Interfaces::Primary), None);
    }
}
