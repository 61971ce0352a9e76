use super::{PodNetwork, packet::Family};
use crate::{
    mesh::{Intent, IpFamilies},
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

/// Which families are captured: eth0 and the sidecar alone decide, never a secondary network nor the order of a dump.
pub(super) fn captured(
    intent: &Intent,
    network: &PodNetwork,
) -> Result<(Families, Vec<Explanation>), Explanation> {
    if !network.ipv4 && !network.ipv6 {
        return Err(Reason::NoPrimaryInterface.because("eth0 has no global address"));
    }
    let ipv6 = match intent.ip_families {
        IpFamilies::All => true,
        IpFamilies::Proxy => intent.dual_stack || !network.ipv4,
    };
    let mut warnings = Vec::new();
    if network.ipv6 && !ipv6 {
        warnings.push(Reason::FamilyNotCaptured.because(
            "eth0 has an IPv6 address but the sidecar serves IPv4 only: IPv6 bypasses the mesh",
        ));
    }
    Ok((Families { ipv6 }, warnings))
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
}
