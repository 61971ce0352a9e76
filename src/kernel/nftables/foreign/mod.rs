//! Foreign base chains that packets may meet before ours, and what they may decide.

mod effect;
mod reach;

use std::collections::BTreeSet;

use nix::errno::Errno;

use self::{
    effect::{Effect, effect_of},
    reach::sees,
};
use super::{
    decode::RuleText,
    read::chain,
    socket::{Extent, Request, RulesetObject, Socket},
    uapi::{self, family, message},
};
use crate::{
    kernel::KernelError,
    mesh::InterceptionMode,
    plan::{
        Form, Plan, Preempting,
        nft::{Chain, Hook, HookPoint, TABLE},
    },
};

/// `NFT_TABLE_F_DORMANT`
const DORMANT: u32 = 1;

/// `NF_INET_INGRESS`
const INGRESS: HookPoint = HookPoint::Other(5);

/// A foreign base chain.
struct Foreign {
    family: u8,
    table: String,
    chain: Chain,
    hook: Hook,
    /// Of one at devices.
    devices: Vec<String>,
}

/// What comes before the plan's chains, which are at these hooks, by hook and priority: at the same priority it may. What `form` itself
/// makes is left out.
pub(super) fn in_front<'a>(
    socket: &mut Socket,
    plan: &Plan,
    hooks: impl Iterator<Item = &'a Hook> + Clone,
    form: Form,
) -> Result<Vec<Preempting>, KernelError> {
    let latest = |hook: &Hook| {
        let at_it = hooks.clone().filter(|h| h.point == hook.point);
        at_it.map(|h| h.priority).max()
    };
    let mut foreign = Vec::new();
    each_chain(socket, &mut |object| foreign.extend(base_chain(object)))?;
    foreign.retain(|c| !c.is_made_by(form) && c.sees(plan));
    foreign.retain(|c| {
        c.is_early() || latest(&c.hook).is_some_and(|latest| c.hook.priority <= latest)
    });
    if foreign.is_empty() {
        return Ok(Vec::new());
    }
    let dormant = dormant_tables(socket)?;
    let mut out = Vec::new();
    for chain in &foreign {
        if !dormant.contains(&(chain.family, chain.table.clone())) {
            out.extend(chain.preempting(socket, plan)?);
        }
    }
    Ok(out)
}

/// Whether any table has a chain that istio-cni or its init container makes: `ISTIO_...` of iptables-nft, `istio-...` of its native form.
pub(super) fn has_chains_of_istio(socket: &mut Socket) -> Result<bool, KernelError> {
    let mut is_there = false;
    each_chain(socket, &mut |object| {
        is_there |= chain(object).is_some_and(|(table, chain)| {
            chain.name.starts_with("ISTIO_") || table.starts_with("istio-proxy")
        });
    })?;
    Ok(is_there)
}

/// Every chain of every table.
fn each_chain(
    socket: &mut Socket,
    each: &mut dyn FnMut(RulesetObject<'_>),
) -> Result<(), KernelError> {
    let doing = "listing chains";
    let all = Request::of(message::GET_CHAIN);
    whole(doing, socket.dump(family::UNSPECIFIED, doing, &all, each)?)
}

/// Family and name of the tables that are asleep.
fn dormant_tables(socket: &mut Socket) -> Result<BTreeSet<(u8, String)>, KernelError> {
    let doing = "listing tables";
    let all = Request::of(message::GET_TABLE);
    let mut dormant = BTreeSet::new();
    let extent = socket.dump(family::UNSPECIFIED, doing, &all, &mut |object| {
        let of = object.attributes;
        let is_asleep = of.number(uapi::table::FLAGS).unwrap_or_default() & DORMANT != 0;
        let name = of.text(uapi::table::NAME).filter(|_| is_asleep);
        dormant.extend(name.map(|name| (object.family, name.to_owned())));
    })?;
    whole(doing, extent)?;
    Ok(dormant)
}

/// What comes first in a part cannot be told of the whole.
fn whole(doing: &'static str, extent: Extent) -> Result<(), KernelError> {
    match extent {
        Extent::Whole => Ok(()),
        Extent::Cut => Err(KernelError::of_errno(doing, Errno::E2BIG)),
    }
}

fn base_chain(object: RulesetObject<'_>) -> Option<Foreign> {
    let (table, chain) = chain(object)?;
    let hook = chain.hook.clone()?;
    Some(Foreign {
        family: object.family,
        table: table.to_owned(),
        chain,
        hook,
        devices: devices(object),
    })
}

/// The devices that a chain is attached to, if it is.
fn devices(object: RulesetObject<'_>) -> Vec<String> {
    let Some(hook) = object.attributes.nested(uapi::chain::HOOK) else {
        return Vec::new();
    };
    let several = hook.nested(uapi::hook::DEVICES).into_iter().flatten();
    let one = hook.find(uapi::hook::DEVICE);
    one.into_iter()
        .chain(several)
        .filter_map(|d| d.text().map(str::to_owned))
        .collect()
}

impl Foreign {
    /// Our table; with iptables, what iptables-nft keeps its built-in chains in.
    fn is_made_by(&self, form: Form) -> bool {
        const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];
        const CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
        match form {
            Form::Nftables => self.family == family::INET && self.table == TABLE,
            Form::IptablesLegacy => false,
            Form::IptablesNft | Form::Iptables => {
                let ip = [family::IPV4, family::IPV6].contains(&self.family);
                ip && TABLES.contains(&self.table.as_str())
                    && CHAINS.contains(&self.chain.name.as_str())
            }
        }
    }

    /// Whether it sees packets that we capture.
    fn sees(&self, plan: &Plan) -> bool {
        let is_of_family = match self.family {
            family::IPV4 | family::INET | family::NETDEV => true,
            family::IPV6 => plan.families.ipv6,
            _ => false,
        };
        let at_devices =
            self.devices.is_empty() || self.devices.iter().any(|d| plan.sees_interface(d));
        is_of_family && at_devices
    }

    /// Whether it comes before every chain of ours: at a device.
    fn is_early(&self) -> bool {
        // of a device's chains those at ingress (0): those at egress come after ours
        let at_ingress = self.family == family::NETDEV && self.hook.point == HookPoint::Prerouting;
        at_ingress || self.hook.point == INGRESS
    }

    fn preempting(
        &self,
        socket: &mut Socket,
        plan: &Plan,
    ) -> Result<Option<Preempting>, KernelError> {
        let decision = match self.hook.accepts {
            true => self.decision(socket, plan)?,
            false => Some(("policy drop".to_owned(), true)),
        };
        let Some((rule, decides)) = decision else {
            return Ok(None);
        };
        let family = match self.family {
            family::IPV4 => "ip",
            family::IPV6 => "ip6",
            family::NETDEV => "netdev",
            _ => "inet",
        };
        let place = format!(
            "table {family} {}, chain {} ({})",
            self.table, self.chain.name, self.hook
        );
        Ok(Some(Preempting {
            place,
            rule,
            decides,
            stops: decides,
        }))
    }

    /// The first thing in the chain, or in those that it leads to, that decides on a packet; else what ends its way through this table.
    /// Each chain is looked at once, however many jumps lead to it.
    fn decision(
        &self,
        socket: &mut Socket,
        plan: &Plan,
    ) -> Result<Option<(String, bool)>, KernelError> {
        let marks = plan.intent.mode == InterceptionMode::Tproxy;
        let (mut seen, mut left) = (BTreeSet::new(), vec![self.chain.name.clone()]);
        let mut ends = None;
        while let Some(chain) = left.pop() {
            if !seen.insert(chain.clone()) {
                continue;
            }
            let of_chain = Request::of(message::GET_RULE)
                .with(uapi::rule::TABLE, &self.table)
                .with(uapi::rule::CHAIN, &chain);
            let doing = "listing rules";
            let mut rules = Vec::new();
            let extent = socket.dump(self.family, doing, &of_chain, &mut |object| {
                rules.extend(RuleText::of(object, &self.table));
            })?;
            whole(doing, extent)?;
            for expression in rules
                .iter()
                .filter(|r| sees(plan, r))
                .flat_map(RuleText::expressions)
            {
                match effect_of(&expression, marks) {
                    Effect::GoesOn => {}
                    Effect::Ends(what) => ends = ends.or(Some((what, false))),
                    Effect::Decides(what) => return Ok(Some((what, true))),
                    Effect::LeadsTo(next) => left.push(next),
                }
            }
        }
        Ok(ends)
    }
}
