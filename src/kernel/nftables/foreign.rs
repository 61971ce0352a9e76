//! Somebody else's base chains that packets meet before ours, and what they may decide.
#![expect(clippy::wildcard_enum_match_arm, reason = "the packet crate's enums are open, and what is unknown decides nothing")]

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, NfTablesMessage,
        RuleAttribute, RuleMessage, Verdict, VerdictAttribute,
    },
};

use super::{
    encode::{NF_ACCEPT, NF_DROP},
    read::hook_of,
    socket::Socket,
};
use crate::{
    kernel::KernelError,
    plan::{
        Preempting,
        ipt::HARMLESS,
        nft::{Hook, TABLE, Table},
    },
};

/// `NFTA_TARGET_NAME` of an iptables target.
const NFTA_TARGET_NAME: u16 = 1;
/// The tables of iptables-nft.
const IPTABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// A chain of any table.
struct Chain {
    family: NetfilterProtoFamily,
    table: String,
    name: String,
    hook: Option<Hook>,
}

/// What comes before `ours`, by hook and priority: at the same priority it may. `iptables`: its tables count too.
pub(super) fn in_front(socket: &mut Socket, ours: &Table, iptables: bool) -> Result<Vec<Preempting>, KernelError> {
    let request = NfTablesMessage::GetChain(ChainMessage { attributes: vec![] });
    let chains = socket.dump(NetfilterProtoFamily::Unspec, "listing chains", request)?;
    let chains: Vec<Chain> = chains.into_iter().filter_map(chain).filter(|c| c.table != TABLE).collect();
    let latest =
        |hook: &Hook| ours.chains.iter().filter_map(|c| c.hook.as_ref()).filter(|h| h.point == hook.point).map(|h| h.priority).max();
    let before = |hook: &Hook| latest(hook).is_some_and(|latest| hook.priority <= latest);
    let ip = [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6, NetfilterProtoFamily::Inet];
    let counts = |c: &&Chain| ip.contains(&c.family) && (iptables || !IPTABLES.contains(&c.table.as_str()));
    let candidates: Vec<_> = chains.iter().filter(counts).filter(|c| c.hook.as_ref().is_some_and(before)).collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let request = NfTablesMessage::GetRule(RuleMessage { attributes: vec![] });
    let rules = socket.dump(NetfilterProtoFamily::Unspec, "listing rules", request)?;
    let told = |chain: &Chain| {
        let hook = chain.hook.as_ref()?;
        let decides = if hook.accepts { decision(chain, &chain.name, &rules, 0)? } else { "policy drop".to_owned() };
        let place = format!("table {} {}, chain {} ({hook})", family(chain.family), chain.table, chain.name);
        Some(Preempting { place, rule: decides })
    };
    Ok(candidates.into_iter().filter_map(told).collect())
}

fn family(family: NetfilterProtoFamily) -> &'static str {
    match family {
        NetfilterProtoFamily::IPv4 => "ip",
        NetfilterProtoFamily::IPv6 => "ip6",
        _ => "inet",
    }
}

fn chain((family, object): (NetfilterProtoFamily, NfTablesMessage)) -> Option<Chain> {
    let NfTablesMessage::NewChain(message) = object else { return None };
    let (mut table, mut name, mut kind, mut hook, mut policy) = (None, None, None, None, 1);
    for attribute in message.attributes {
        match attribute {
            ChainAttribute::Table(t) => table = Some(t),
            ChainAttribute::Name(n) => name = Some(n),
            ChainAttribute::Type(t) => kind = Some(t),
            ChainAttribute::Hook(h) => hook = Some(h),
            ChainAttribute::Policy(p) => policy = p,
            _ => {}
        }
    }
    Some(Chain { family, table: table?, name: name?, hook: hook.map(|h| hook_of(h, kind, policy)) })
}

/// The first thing in a chain, or in one that it leads to, that may decide on a packet.
fn decision(of: &Chain, chain: &str, rules: &[(NetfilterProtoFamily, NfTablesMessage)], depth: u32) -> Option<String> {
    const DEEPEST: u32 = 16; // as in the kernel
    let in_chain = rules.iter().filter_map(|(family, object)| match object {
        NfTablesMessage::NewRule(rule) if *family == of.family => expressions(rule, &of.table, chain),
        _ => None,
    });
    for expression in in_chain.flatten() {
        match what(expression) {
            What::GoesOn => {}
            What::Decides(what) => return Some(what),
            What::LeadsTo(next) if depth < DEEPEST => {
                if let Some(decision) = decision(of, &next, rules, depth + 1) {
                    return Some(decision);
                }
            }
            What::LeadsTo(_) => return Some("chains that lead too far".into()),
        }
    }
    None
}

fn expressions<'a>(rule: &'a RuleMessage, table: &str, chain: &str) -> Option<impl Iterator<Item = &'a Vec<ExpressionAttribute>>> {
    let mut found = None;
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Table(t) if t != table => return None,
            RuleAttribute::Chain(c) if c != chain => return None,
            RuleAttribute::Expressions(list) => found = Some(list),
            _ => {}
        }
    }
    let element =
        |e: &'a ListAttribute<ExpressionAttribute>| if let ListAttribute::Element(attributes) = e { Some(attributes) } else { None };
    found.map(|list| list.iter().filter_map(element))
}

enum What {
    GoesOn,
    Decides(String),
    LeadsTo(String),
}

fn what(attributes: &[ExpressionAttribute]) -> What {
    let name = attributes.iter().find_map(|a| if let ExpressionAttribute::Name(name) = a { Some(name.as_str()) } else { None });
    let data = attributes.iter().find_map(|a| if let ExpressionAttribute::Data(data) = a { Some(data) } else { None });
    match (name.unwrap_or_default(), data) {
        ("immediate", Some(Expressions::Immediate(attributes))) => {
            let verdict = attributes.iter().find_map(|a| match a {
                Immediate::Data(DataAttribute::Verdict(verdict)) => Some(verdict),
                _ => None,
            });
            verdict.map_or(What::GoesOn, |v| of_verdict(v))
        }
        (name @ ("redir" | "nat" | "masq" | "tproxy" | "notrack" | "reject" | "queue" | "synproxy" | "fwd"), _) => {
            What::Decides(name.into())
        }
        ("target", Some(Expressions::Other { attributes, .. })) => {
            let target = attributes.iter().find(|a| a.kind() == NFTA_TARGET_NAME).map(text).unwrap_or_default();
            if HARMLESS.contains(&target.as_str()) { What::GoesOn } else { What::Decides(target) }
        }
        _ => What::GoesOn,
    }
}

fn of_verdict(attributes: &[VerdictAttribute]) -> What {
    let chain = attributes.iter().find_map(|a| if let VerdictAttribute::Chain(chain) = a { Some(chain.clone()) } else { None });
    let code = attributes.iter().find_map(|a| if let VerdictAttribute::Code(code) = a { Some(*code) } else { None });
    match (code, chain) {
        (_, Some(chain)) => What::LeadsTo(chain),
        (Some(Verdict::Return), None) => What::GoesOn, // back to the caller, or to the policy, which accepts
        (Some(Verdict::Other(NF_ACCEPT)), None) => What::Decides("accept".into()),
        (Some(Verdict::Other(NF_DROP)), None) => What::Decides("drop".into()),
        (code, None) => What::Decides(format!("{code:?}")),
    }
}

fn text(attribute: &DefaultNla) -> String {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}
