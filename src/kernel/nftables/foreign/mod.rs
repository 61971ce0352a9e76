//! Somebody else's base chains that packets may meet before ours, and what they may decide.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open, and what is unknown goes on"
)]

mod effect;

use std::collections::BTreeSet;

use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{
        ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
    },
};

use self::effect::{What, expressions, what};
use super::{read::chain, socket::Socket};
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

type Objects = Vec<(NetfilterProtoFamily, NfTablesMessage)>;

/// A base chain of somebody else.
struct Foreign {
    family: NetfilterProtoFamily,
    table: String,
    chain: Chain,
    hook: Hook,
}

/// What comes before the plan's chains, by hook and priority: at the same priority it may. What `form` itself makes is left out.
pub(super) fn in_front(
    socket: &mut Socket,
    plan: &Plan,
    form: Form,
) -> Result<Vec<Preempting>, KernelError> {
    let any = NetfilterProtoFamily::Unspec;
    let chains = socket.dump(
        any,
        "listing chains",
        NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }),
    )?;
    let ours = plan.nftables();
    let latest = |hook: &Hook| {
        ours.chains
            .iter()
            .filter_map(|c| c.hook.as_ref())
            .filter(|h| h.point == hook.point)
            .map(|h| h.priority)
            .max()
    };
    let mut foreign: Vec<_> = chains.into_iter().filter_map(base_chain).collect();
    foreign.retain(|c| !c.is_made_by(form) && c.sees(plan.families.ipv6));
    foreign.retain(|c| {
        c.is_early() || latest(&c.hook).is_some_and(|latest| c.hook.priority <= latest)
    });
    if foreign.is_empty() {
        return Ok(Vec::new());
    }
    let tables = socket.dump(
        any,
        "listing tables",
        NfTablesMessage::GetTable(TableMessage { attributes: vec![] }),
    )?;
    let marks = plan.intent.mode == InterceptionMode::Tproxy;
    let mut out = Vec::new();
    for chain in foreign.iter().filter(|c| !c.is_dormant(&tables)) {
        out.extend(chain.told(socket, marks)?);
    }
    Ok(out)
}

/// Whether any table has a chain that istio-cni or its init container makes: `ISTIO_...` of iptables-nft, `istio-...` of its native form.
pub(super) fn has_chains_of_istio(socket: &mut Socket) -> Result<bool, KernelError> {
    let all = NfTablesMessage::GetChain(ChainMessage { attributes: vec![] });
    let chains = socket.dump(NetfilterProtoFamily::Unspec, "listing chains", all)?;
    let of_istio = |(_, object): (NetfilterProtoFamily, NfTablesMessage)| match object {
        NfTablesMessage::NewChain(message) => chain(message).is_some_and(|(table, chain)| {
            chain.name.starts_with("ISTIO_") || table.starts_with("istio-proxy")
        }),
        _ => false,
    };
    Ok(chains.into_iter().any(of_istio))
}

fn base_chain((family, object): (NetfilterProtoFamily, NfTablesMessage)) -> Option<Foreign> {
    let NfTablesMessage::NewChain(message) = object else {
        return None;
    };
    let (table, chain) = chain(message)?;
    let hook = chain.hook.clone()?;
    Some(Foreign {
        family,
        table,
        chain,
        hook,
    })
}

impl Foreign {
    /// Our table; with iptables, what iptables-nft keeps its built-in chains in.
    fn is_made_by(&self, form: Form) -> bool {
        const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];
        const CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
        match form {
            Form::Nftables => self.family == NetfilterProtoFamily::Inet && self.table == TABLE,
            Form::IptablesLegacy => false,
            Form::IptablesNft | Form::Iptables => {
                let ip =
                    [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6].contains(&self.family);
                ip && TABLES.contains(&self.table.as_str())
                    && CHAINS.contains(&self.chain.name.as_str())
            }
        }
    }

    /// Whether it sees packets that we capture.
    fn sees(&self, ipv6: bool) -> bool {
        match self.family {
            NetfilterProtoFamily::IPv4
            | NetfilterProtoFamily::Inet
            | NetfilterProtoFamily::NetDev => true,
            NetfilterProtoFamily::IPv6 => ipv6,
            _ => false,
        }
    }

    /// Whether it comes before every chain of ours: at a device.
    fn is_early(&self) -> bool {
        self.family == NetfilterProtoFamily::NetDev || self.hook.point == INGRESS
    }

    /// Whether its table is asleep.
    fn is_dormant(&self, tables: &Objects) -> bool {
        let named = |message: &TableMessage| {
            message
                .attributes
                .iter()
                .any(|a| matches!(a, TableAttribute::Name(n) if *n == self.table))
        };
        let asleep = |message: &TableMessage| {
            message
                .attributes
                .iter()
                .any(|a| matches!(a, TableAttribute::Flags(f) if f.bits() & DORMANT != 0))
        };
        tables.iter().any(|(family, object)| match object {
            NfTablesMessage::NewTable(message) => {
                *family == self.family && named(message) && asleep(message)
            }
            _ => false,
        })
    }

    fn told(&self, socket: &mut Socket, marks: bool) -> Result<Option<Preempting>, KernelError> {
        let decision = match self.hook.accepts {
            true => self.decision(socket, marks)?,
            false => Some(("policy drop".to_owned(), true)),
        };
        let Some((rule, decides)) = decision else {
            return Ok(None);
        };
        let family = match self.family {
            NetfilterProtoFamily::IPv4 => "ip",
            NetfilterProtoFamily::IPv6 => "ip6",
            NetfilterProtoFamily::NetDev => "netdev",
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
        }))
    }

    /// The first thing in the chain, or in those that it leads to, that decides on a packet; else what ends its way through this table.
    /// Each chain is looked at once, however many jumps lead to it.
    fn decision(
        &self,
        socket: &mut Socket,
        marks: bool,
    ) -> Result<Option<(String, bool)>, KernelError> {
        let (mut seen, mut left) = (BTreeSet::new(), vec![self.chain.name.clone()]);
        let mut ends = None;
        while let Some(chain) = left.pop() {
            if !seen.insert(chain.clone()) {
                continue;
            }
            let of_chain = RuleMessage {
                attributes: vec![
                    RuleAttribute::Table(self.table.clone()),
                    RuleAttribute::Chain(chain),
                ],
            };
            let rules = socket.dump(
                self.family,
                "listing rules",
                NfTablesMessage::GetRule(of_chain),
            )?;
            for expression in rules.iter().flat_map(|(_, object)| expressions(object)) {
                match what(expression, marks) {
                    What::GoesOn => {}
                    What::Ends(what) => ends = ends.or(Some((what, false))),
                    What::Decides(what) => return Ok(Some((what, true))),
                    What::LeadsTo(next) => left.push(next),
                }
            }
        }
        Ok(ends)
    }
}
