//! The parts of a plan besides rules: an address on `lo`, policy rules and routes.

use ipnet::IpNet;
use nix::errno::Errno;

use super::{
    Header, Network,
    policy::{PolicyRuleKind, entry, local_route, policy_rule},
    read::number,
    uapi::{self, kind},
};
use crate::{
    kernel::{
        Bypass, KernelError, Routes,
        netlink::{flag, nla},
    },
    plan::{
        Preempting, Routing,
        packet::Family,
        routing::{PRIORITY, RoutingEntry, TABLE},
    },
};

impl Routes for Network {
    fn routing(&self, planned: &Routing) -> Result<Routing, KernelError> {
        let mut found = Routing::default();
        if !planned.addresses.is_empty() {
            let of_lo = match self.addresses(Some(uapi::LO)) {
                // what cannot be found among more than is ever read is not there
                Err(KernelError::Refused {
                    errno: Errno::E2BIG,
                    ..
                }) => Vec::new(),
                addresses => addresses?,
            };
            let of_lo = of_lo.into_iter().map(|(_, address)| address);
            found.addresses = of_lo.filter(|a| planned.addresses.contains(a)).collect();
        }
        for family in planned.rules.iter().map(RoutingEntry::family) {
            let ours = |policy| match policy {
                PolicyRuleKind::Ours(entry) => Some(entry),
                PolicyRuleKind::Local | PolicyRuleKind::Foreign(..) => None,
            };
            match self.policies(family) {
                Ok(policies) => found.rules.extend(policies.into_iter().filter_map(ours)),
                Err(KernelError::Refused {
                    errno: Errno::E2BIG,
                    ..
                }) => found.rules.push(more(family)),
                Err(error) => return Err(error),
            }
            match self.routes(family, TABLE) {
                Ok(routes) => found
                    .routes
                    .extend(routes.iter().map(|route| entry(family, route))),
                Err(KernelError::Refused {
                    errno: Errno::E2BIG,
                    ..
                }) => found.routes.push(more(family)),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn add_routing(&self, missing: &Routing, ipv6_in_use: bool) -> Result<Routing, KernelError> {
        let mut added = Routing::default();
        self.add_all(missing, ipv6_in_use, &mut added)
            .inspect_err(|_| self.remove_routing(&added))
            .map(|()| added)
    }

    fn remove_routing(&self, added: &Routing) {
        for address in &added.addresses {
            self.change(kind::DELETE_ADDRESS, 0, &address_of_lo(address))
                .ok();
        }
        for route in &added.routes {
            self.change(kind::DELETE_ROUTE, 0, &local_route(route.family()))
                .ok();
        }
        for rule in &added.rules {
            self.change(kind::DELETE_RULE, 0, &policy_rule(rule.family()))
                .ok();
        }
    }

    fn policy_rules_in_front(&self, planned: &Routing) -> Result<Vec<Preempting>, KernelError> {
        let mut out = Vec::new();
        for family in planned.rules.iter().map(RoutingEntry::family) {
            let policies = self.policies(family)?;
            let ours = policies
                .iter()
                .position(|p| matches!(p, PolicyRuleKind::Ours(RoutingEntry::Ours(..))));
            for (at, policy) in policies.iter().enumerate() {
                let PolicyRuleKind::Foreign(priority, rule) = policy else {
                    continue;
                };
                if ours.map_or(*priority <= PRIORITY, |ours| at < ours) {
                    out.push(Preempting {
                        place: format!("{family} policy rules"),
                        rule: rule.clone(),
                        decides: true,
                        stops: true,
                    });
                }
            }
        }
        Ok(out)
    }

    fn find_bypasses(&self, of: &[u32]) -> Result<Vec<(u32, Bypass)>, KernelError> {
        self.bypasses_of(of)
    }
}

impl Network {
    /// In the order in which they are asked.
    fn policies(&self, family: Family) -> Result<Vec<PolicyRuleKind>, KernelError> {
        let header = Header::rule(family, 0, 0);
        self.dump(kind::GET_RULE, &header, |message| {
            PolicyRuleKind::of(family, message)
        })
        .or_else(|errno| self.lacking(family, "policy rules", errno))
    }

    fn add_all(
        &self,
        missing: &Routing,
        ipv6_in_use: bool,
        added: &mut Routing,
    ) -> Result<(), KernelError> {
        let add = |doing: String, kind, payload: &[u8], family| {
            let result = self.change(kind, flag::CREATE | flag::EXCL, payload);
            is_added(doing, result, family == Family::Ipv6 && !ipv6_in_use)
        };
        for address in &missing.addresses {
            let doing = format!("adding {address} to lo");
            if add(
                doing,
                kind::NEW_ADDRESS,
                &address_of_lo(address),
                Family::of(address),
            )? {
                added.addresses.push(*address);
            }
        }
        for route in missing
            .routes
            .iter()
            .filter(|route| matches!(route, RoutingEntry::Ours(..)))
        {
            let family = route.family();
            let doing = format!("adding the {family} route of table {TABLE}");
            if add(doing, kind::NEW_ROUTE, &local_route(family), family)? {
                added.routes.push(route.clone());
            }
        }
        for rule in missing
            .rules
            .iter()
            .filter(|rule| matches!(rule, RoutingEntry::Ours(..)))
        {
            let family = rule.family();
            let doing = format!("adding the {family} policy rule");
            if add(doing, kind::NEW_RULE, &policy_rule(family), family)? {
                added.rules.push(rule.clone());
            }
        }
        Ok(())
    }
}

/// What stands for more than is ever read.
fn more<T>(family: Family) -> RoutingEntry<T> {
    RoutingEntry::Other(family, "more than is ever read".into())
}

fn address_of_lo(address: &IpNet) -> Vec<u8> {
    let mut payload =
        Header::address(number(Family::of(address)), address.prefix_len(), uapi::LO).to_vec();
    match address {
        IpNet::V4(v4) => nla::put(&mut payload, uapi::address::LOCAL, &v4.addr().octets()),
        IpNet::V6(v6) => nla::put(&mut payload, uapi::address::LOCAL, &v6.addr().octets()),
    }
    payload
}

/// Whether it was added; not if it was there already, or need not be.
fn is_added(
    doing: String,
    result: Result<(), Errno>,
    may_be_switched_off: bool,
) -> Result<bool, KernelError> {
    match result.map_err(|errno| KernelError::of_errno(doing, errno)) {
        Ok(()) => Ok(true),
        // an earlier ADD did it
        Err(KernelError::Refused {
            errno: Errno::EEXIST,
            ..
        }) => Ok(false),
        // disable_ipv6 is set on lo, or the kernel has no IPv6: then there is no packet that needs it
        Err(
            KernelError::Refused {
                errno: Errno::EACCES,
                ..
            }
            | KernelError::Unsupported { .. },
        ) if may_be_switched_off => Ok(false),
        Err(error) => Err(error),
    }
}
