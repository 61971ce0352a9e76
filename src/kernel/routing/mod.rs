//! What a plan needs beside rules: an address on `lo`, policy rules and routes, by rtnetlink.

mod messages;

use futures_util::TryStreamExt;
use nix::errno::Errno;

use self::messages::{
    Policy, address_message, any_route, local_route, policy_rule, route, rule_message, version,
};
use super::{Interfaces, KernelError, interfaces::LO_INDEX};
use crate::plan::{
    Preempting, Routing,
    packet::Family,
    routing::{Entry, LocalRoute, PolicyRule, TABLE},
};

/// `RT_TABLE_LOCAL` of linux/rtnetlink.h
const RT_TABLE_LOCAL: u32 = 255;

impl Interfaces {
    /// What there is of the kinds that are planned.
    pub fn routing(&self, planned: &Routing) -> Result<Routing, KernelError> {
        let mut found = Routing::default();
        if !planned.addresses.is_empty() {
            found.addresses = self
                .addresses_of(LO_INDEX)?
                .into_iter()
                .filter(|a| planned.addresses.contains(a))
                .collect();
        }
        for family in planned.rules.iter().map(Entry::family) {
            let rules = self.policy_rules(family)?;
            found.rules.extend(rules.into_iter().filter_map(|p| {
                if let Policy::Ours(entry) = p {
                    Some(entry)
                } else {
                    None
                }
            }));
            let routes = self.list(
                family,
                "listing routes",
                self.handle
                    .route()
                    .get(any_route(family))
                    .execute()
                    .try_collect(),
            )?;
            found
                .routes
                .extend(routes.iter().filter_map(|message| route(family, message)));
        }
        Ok(found)
    }

    /// Policy rules of somebody else that come before ours.
    pub fn policy_rules_in_front(&self, planned: &Routing) -> Result<Vec<Preempting>, KernelError> {
        let mut out = Vec::new();
        for family in planned.rules.iter().map(Entry::family) {
            let in_front = |p| {
                if let Policy::InFront(rule) = p {
                    Some(rule)
                } else {
                    None
                }
            };
            let rules = self.policy_rules(family)?.into_iter().filter_map(in_front);
            out.extend(rules.map(|rule| Preempting {
                place: format!("{family} policy rules"),
                rule,
                decides: true,
            }));
        }
        Ok(out)
    }

    fn policy_rules(&self, family: Family) -> Result<Vec<Policy>, KernelError> {
        let request = self
            .handle
            .rule()
            .get(version(family))
            .execute()
            .try_collect();
        let messages = self.list(family, "listing policy rules", request)?;
        Ok(messages
            .iter()
            .map(|message| policy_rule(family, message))
            .collect())
    }

    /// Adds what is missing; gives back what was added. Where something fails, nothing stays added. `ipv6_in_use`: eth0 has an IPv6
    /// address; where it has none, IPv6 may be switched off.
    pub fn add_routing(
        &self,
        missing: &Routing,
        ipv6_in_use: bool,
    ) -> Result<Routing, KernelError> {
        let mut added = Routing::default();
        self.add_all(missing, ipv6_in_use, &mut added)
            .inspect_err(|_| self.remove_routing(&added))
            .map(|()| added)
    }

    fn add_all(
        &self,
        missing: &Routing,
        ipv6_in_use: bool,
        added: &mut Routing,
    ) -> Result<(), KernelError> {
        let switched_off = |family| family == Family::Ipv6 && !ipv6_in_use;
        for address in &missing.addresses {
            let request = self
                .handle
                .address()
                .add(LO_INDEX, address.addr(), address.prefix_len())
                .execute();
            if self.added(
                format!("adding {address} to lo"),
                request,
                switched_off(Family::of(address)),
            )? {
                added.addresses.push(*address);
            }
        }
        for route in &missing.routes {
            let Entry::Ours(family, LocalRoute) = route else {
                continue;
            };
            let request = self.handle.route().add(local_route(*family)).execute();
            if self.added(
                format!("adding the {family} route {route} to table {TABLE}"),
                request,
                switched_off(*family),
            )? {
                added.routes.push(route.clone());
            }
        }
        for rule in &missing.rules {
            let Entry::Ours(family, PolicyRule { priority }) = rule else {
                continue;
            };
            let mut request = self.handle.rule().add();
            *request.message_mut() = rule_message(*family, *priority);
            if self.added(
                format!("adding the {family} policy rule {rule}"),
                request.execute(),
                switched_off(*family),
            )? {
                added.rules.push(rule.clone());
            }
        }
        Ok(())
    }

    /// Takes back what was added; what cannot be is of no harm without the rules.
    pub fn remove_routing(&self, added: &Routing) {
        for address in &added.addresses {
            self.wait(
                "removing an address".into(),
                self.handle
                    .address()
                    .del(address_message(address))
                    .execute(),
            )
            .ok();
        }
        for route in &added.routes {
            self.wait(
                "removing a route".into(),
                self.handle
                    .route()
                    .del(local_route(route.family()))
                    .execute(),
            )
            .ok();
        }
        for rule in &added.rules {
            if let Entry::Ours(family, PolicyRule { priority }) = rule {
                let message = rule_message(*family, *priority);
                self.wait(
                    "removing a policy rule".into(),
                    self.handle.rule().del(message).execute(),
                )
                .ok();
            }
        }
    }

    /// Whether it was added; not if it was there already, or need not be.
    fn added(
        &self,
        doing: String,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
        switched_off: bool,
    ) -> Result<bool, KernelError> {
        match self.wait(doing, request) {
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
            ) if switched_off => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A dump; nothing where the kernel does not have the family.
    fn list<T>(
        &self,
        family: Family,
        doing: &str,
        request: impl Future<Output = Result<Vec<T>, rtnetlink::Error>>,
    ) -> Result<Vec<T>, KernelError> {
        match self.wait(format!("{doing} of {family}"), request) {
            Err(KernelError::Unsupported { .. }) if family == Family::Ipv6 => Ok(Vec::new()),
            other => other,
        }
    }
}
