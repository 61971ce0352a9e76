//! The kernel's table, chains and sets; [`super::decode`] reads the rules.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open, and what is unknown is never ours"
)]

use netlink_packet_netfilter::NetfilterProtoFamily::Inet;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenAttribute, GenMessage, Hook as HookAttribute,
    HookNumber, InetHookNumber, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
    SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage,
    SetFlags, SetMessage, TableAttribute, TableMessage,
};

use super::{
    decode::rule,
    sets::{Element, Set, Sets},
    socket::Socket,
};
use crate::{
    kernel::KernelError,
    plan::nft::{Chain, ChainType, Hook, HookPoint, TABLE, Table},
};

/// Reads our table, and the generation that it is of: several dumps, which belong together if that is the same before and after.
pub(super) fn table(socket: &mut Socket) -> Result<(Option<u32>, Option<Table>), KernelError> {
    let generation = read_generation(socket)?;
    let name = TableMessage {
        attributes: vec![TableAttribute::Name(TABLE.into())],
    };
    let Some(NfTablesMessage::NewTable(message)) =
        socket.get("looking for the table", NfTablesMessage::GetTable(name))?
    else {
        return Ok((generation, None));
    };
    let flags = message.attributes.iter().find_map(|a| {
        if let TableAttribute::Flags(flags) = a {
            Some(flags.bits())
        } else {
            None
        }
    });
    let sets = read_sets(socket)?;
    let mut chains = Vec::new();
    for (_, object) in socket.dump(
        Inet,
        "listing chains",
        NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }),
    )? {
        if let NfTablesMessage::NewChain(message) = object {
            chains.extend(
                chain(message)
                    .filter(|(table, _)| table == TABLE)
                    .map(|(_, chain)| chain),
            );
        }
    }
    let of_table = RuleMessage {
        attributes: vec![RuleAttribute::Table(TABLE.into())],
    };
    for (_, object) in socket.dump(Inet, "listing rules", NfTablesMessage::GetRule(of_table))? {
        if let NfTablesMessage::NewRule(message) = object
            && let Some((name, rule)) = rule(&message, &sets)
            && let Some(chain) = chains.iter_mut().find(|c| c.name == name)
        {
            chain.rules.push(rule);
        }
    }
    if read_generation(socket)? != generation {
        return Err(KernelError::Changing);
    }
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((
        generation,
        Some(Table {
            flags: flags.unwrap_or_default(),
            chains,
        }),
    ))
}

fn read_generation(socket: &mut Socket) -> Result<Option<u32>, KernelError> {
    let Some(NfTablesMessage::NewGen(message)) = socket.get(
        "reading the generation",
        NfTablesMessage::GetGen(GenMessage { attributes: vec![] }),
    )?
    else {
        return Ok(None);
    };
    Ok(message.attributes.iter().find_map(|a| {
        if let GenAttribute::Id(id) = a {
            Some(*id)
        } else {
            None
        }
    }))
}

fn read_sets(socket: &mut Socket) -> Result<Sets, KernelError> {
    let of_table = SetMessage {
        attributes: vec![SetAttribute::Table(TABLE.into())],
    };
    let mut sets = Sets::new();
    for (_, object) in socket.dump(Inet, "listing sets", NfTablesMessage::GetSet(of_table))? {
        let NfTablesMessage::NewSet(message) = object else {
            continue;
        };
        let (mut name, mut flags) = (None, SetFlags::empty());
        for attribute in message.attributes {
            match attribute {
                SetAttribute::Name(n) => name = Some(n),
                SetAttribute::Flags(f) => flags = f,
                _ => {}
            }
        }
        let Some(name) = name else { continue };
        let of_set = SetElementMessage {
            attributes: vec![
                SetElementList::Table(TABLE.into()),
                SetElementList::Set(name.clone()),
            ],
        };
        let mut elements = Some(Vec::new());
        for (_, object) in socket.dump(
            Inet,
            "listing the elements of a set",
            NfTablesMessage::GetSetElement(of_set),
        )? {
            let NfTablesMessage::NewSetElement(message) = object else {
                continue;
            };
            for attribute in message.attributes {
                if let (SetElementList::Elements(list), Some(all)) = (attribute, &mut elements) {
                    match list.into_iter().map(element).collect::<Option<Vec<_>>>() {
                        Some(more) => all.extend(more),
                        None => elements = None,
                    }
                }
            }
        }
        // ours are anonymous and constant; any other flag, or more than a key in an element, gives a set another meaning
        let ours = SetFlags::Anonymous | SetFlags::Constant;
        let interval = flags.contains(SetFlags::Interval);
        if let Some(elements) = elements.filter(|_| flags.difference(SetFlags::Interval) == ours) {
            sets.insert(name, Set { interval, elements });
        }
    }
    Ok(sets)
}

/// An element of nothing but a key, perhaps the end of an interval.
fn element(attribute: ListAttribute<SetElementAttribute>) -> Option<Element> {
    let ListAttribute::Element(attributes) = attribute else {
        return None;
    };
    let mut out = Element {
        key: vec![],
        interval_end: false,
    };
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => out.key = key,
            SetElementAttribute::Flags(flags) if flags == SetElementFlags::IntervalEnd => {
                out.interval_end = true
            }
            SetElementAttribute::Flags(flags) if flags.is_empty() => {}
            _ => return None,
        }
    }
    Some(out)
}

/// A chain without its rules, and its table's name.
pub(super) fn chain(message: ChainMessage) -> Option<(String, Chain)> {
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
    let hook = hook.map(|attributes| hook_of(attributes, kind, policy));
    Some((
        table?,
        Chain {
            name: name?,
            hook,
            rules: vec![],
        },
    ))
}

fn hook_of(attributes: Vec<HookAttribute>, kind: Option<String>, policy: u32) -> Hook {
    let (mut point, mut priority) = (HookPoint::Other(u32::MAX), 0);
    for attribute in attributes {
        match attribute {
            HookAttribute::Number(HookNumber::Inet(InetHookNumber::PreRouting)) => {
                point = HookPoint::Prerouting
            }
            HookAttribute::Number(HookNumber::Inet(InetHookNumber::LocalOut)) => {
                point = HookPoint::Output
            }
            HookAttribute::Number(number) => point = HookPoint::Other(number.into()),
            HookAttribute::Priority(p) => priority = p.cast_signed(),
            _ => {}
        }
    }
    let kind = match kind.as_deref() {
        Some("nat") => ChainType::Nat,
        Some("filter") => ChainType::Filter,
        Some("route") => ChainType::Route,
        other => ChainType::Other(other.unwrap_or_default().into()),
    };
    Hook {
        kind,
        point,
        priority,
        accepts: policy == 1,
    }
}
