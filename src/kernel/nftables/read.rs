//! Our table as the kernel has it: its chains, its rules ([`super::decode`] reads them), and of its sets those that the rules name.

use std::collections::BTreeSet;

use super::{
    decode::{RuleText, decode, sets_named},
    sets::{Element, ElementKey, Set, Sets},
    socket::{Extent, Request, RulesetObject, Socket},
    uapi::{self, family, hook_number, message},
    value::value,
};
use crate::kernel::netlink::nla::Attributes;
use crate::{
    kernel::KernelError,
    plan::nft::{Chain, ChainType, Hook, HookPoint, TABLE, Table},
};

/// Most elements of a set: 256 networks are 512, and two of each are read for what was added to them.
const MOST_ELEMENTS: usize = 1024;

/// Reads our table, and the generation that it is of: several dumps, which belong together if that is the same before and after.
pub(super) fn table(socket: &mut Socket) -> Result<(Option<u32>, Option<Table>), KernelError> {
    let generation = read_generation(socket)?;
    let flags_and_use = |table: RulesetObject<'_>| {
        let number = |kind| table.attributes.number(kind).unwrap_or_default();
        let is_table = table.kind == message::NEW_TABLE;
        is_table.then(|| (number(uapi::table::FLAGS), number(uapi::table::USE)))
    };
    let request = Request::of(message::GET_TABLE).with(uapi::table::NAME, TABLE);
    let Some((flags, in_it)) = socket.get("looking for the table", &request, flags_and_use)? else {
        return Ok((generation, None));
    };
    let (mut chains, of_chains) = read_chains(socket)?;
    let (rules, of_rules) = read_rules(socket)?;
    let (sets, named, of_sets) = read_sets(socket, &rules)?;
    for rule in &rules {
        if let Some(chain) = chains.iter_mut().find(|c| c.name == rule.chain) {
            chain.rules.push(decode(rule, &sets));
        }
    }
    if read_generation(socket)? != generation {
        return Err(KernelError::Changing);
    }
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    let is_cut = [of_chains, of_rules, of_sets].contains(&Extent::Cut);
    // the kernel counts chains, sets with names, objects and flowtables; before Linux 6.5 anonymous sets as well
    let counted = in_it.saturating_sub(chains.len() as u32);
    let others = counted.saturating_sub(named);
    let unnamed = if others as usize == sets.len() {
        named
    } else {
        named + others
    };
    Ok((
        generation,
        Some(Table {
            flags,
            chains,
            unnamed,
            is_cut,
        }),
    ))
}

fn read_generation(socket: &mut Socket) -> Result<Option<u32>, KernelError> {
    let request = Request::of(message::GET_GENERATION);
    let id = |object: RulesetObject<'_>| {
        let is_generation = object.kind == message::NEW_GENERATION;
        object
            .attributes
            .number(uapi::generation::ID)
            .filter(|_| is_generation)
    };
    socket.get("reading the generation", &request, id)
}

fn read_chains(socket: &mut Socket) -> Result<(Vec<Chain>, Extent), KernelError> {
    let mut chains = Vec::new();
    let all = Request::of(message::GET_CHAIN);
    let extent = socket.dump(family::INET, "listing chains", &all, &mut |object| {
        chains.extend(
            chain(object)
                .filter(|(table, _)| *table == TABLE)
                .map(|(_, chain)| chain),
        );
    })?;
    Ok((chains, extent))
}

fn read_rules(socket: &mut Socket) -> Result<(Vec<RuleText>, Extent), KernelError> {
    let of_table = Request::of(message::GET_RULE).with(uapi::rule::TABLE, TABLE);
    let mut rules = Vec::new();
    let extent = socket.dump(family::INET, "listing rules", &of_table, &mut |object| {
        rules.extend(RuleText::of(object, TABLE));
    })?;
    Ok((rules, extent))
}

/// The sets that these rules name, and how many there are beside them, which decide nothing.
fn read_sets(socket: &mut Socket, rules: &[RuleText]) -> Result<(Sets, u32, Extent), KernelError> {
    let wanted: BTreeSet<String> = rules.iter().flat_map(sets_named).map(Into::into).collect();
    let (mut sets, mut others) = (Sets::new(), 0);
    let of_table = Request::of(message::GET_SET).with(uapi::set::TABLE, TABLE);
    let mut listed = Vec::new();
    let extent = socket.dump(family::INET, "listing sets", &of_table, &mut |object| {
        let name = object.attributes.text(uapi::set::NAME);
        let flags = object
            .attributes
            .number(uapi::set::FLAGS)
            .unwrap_or_default();
        match name.filter(|name| wanted.contains(*name)) {
            Some(name) => listed.push((name.to_owned(), flags)),
            None => others += 1,
        }
    })?;
    // further sets than are ever listed matter only where one that a rule names is among them
    let mut extent = if listed.len() == wanted.len() {
        Extent::Whole
    } else {
        extent
    };
    for (name, flags) in listed {
        let of_set = Request::of(message::GET_ELEMENTS)
            .with(uapi::elements::TABLE, TABLE)
            .with(uapi::elements::SET, &name);
        let mut elements = Some(Vec::new());
        let of_elements = socket.dump(
            family::INET,
            "listing the elements of a set",
            &of_set,
            &mut |object| {
                let list = object
                    .attributes
                    .nested(uapi::elements::LIST)
                    .into_iter()
                    .flatten();
                for entry in list {
                    elements = elements.take().filter(|all| all.len() < MOST_ELEMENTS);
                    elements = elements.take().and_then(|mut all| {
                        all.push(element(entry.nested())?);
                        Some(all)
                    });
                }
            },
        )?;
        if of_elements == Extent::Cut {
            extent = Extent::Cut;
            elements = None;
        }
        // ours are anonymous and constant; any other flag, or more than a key in an element, gives a set another meaning
        const OURS: u32 = uapi::set_flag::ANONYMOUS | uapi::set_flag::CONSTANT;
        let interval = flags & uapi::set_flag::INTERVAL != 0;
        if let Some(elements) = elements.filter(|_| flags & !uapi::set_flag::INTERVAL == OURS) {
            sets.insert(name, Set { interval, elements });
        }
    }
    Ok((sets, others, extent))
}

/// An element of nothing but a key, perhaps the end of an interval.
fn element(attributes: Attributes<'_>) -> Option<Element> {
    let (mut key, mut interval_end) = (None, false);
    for attribute in attributes {
        match attribute.kind {
            uapi::element::KEY => key = ElementKey::read(value(attribute)?),
            uapi::element::FLAGS => match attribute.number()? {
                0 => {}
                uapi::element_flag::INTERVAL_END => interval_end = true,
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(Element {
        key: key?,
        interval_end,
    })
}

/// A chain without its rules, and its table's name.
pub(super) fn chain(object: RulesetObject<'_>) -> Option<(&str, Chain)> {
    if object.kind != message::NEW_CHAIN {
        return None;
    }
    let of = object.attributes;
    let chain = Chain {
        name: of.text(uapi::chain::NAME)?.to_owned(),
        hook: of
            .nested(uapi::chain::HOOK)
            .map(|hook| self::hook(of, hook)),
        rules: vec![],
    };
    Some((of.text(uapi::chain::TABLE)?, chain))
}

fn hook(chain: Attributes<'_>, hook: Attributes<'_>) -> Hook {
    let point = match hook.number(uapi::hook::NUMBER).unwrap_or(u32::MAX) {
        hook_number::PREROUTING => HookPoint::Prerouting,
        hook_number::OUTPUT => HookPoint::Output,
        number => HookPoint::Other(number),
    };
    let kind = match chain.text(uapi::chain::TYPE).unwrap_or_default() {
        "nat" => ChainType::Nat,
        "filter" => ChainType::Filter,
        "route" => ChainType::Route,
        other => ChainType::Other(other.into()),
    };
    let priority = hook.number(uapi::hook::PRIORITY).unwrap_or_default();
    let policy = chain
        .number(uapi::chain::POLICY)
        .unwrap_or(uapi::code::ACCEPT);
    Hook {
        kind,
        point,
        priority: priority.cast_signed(),
        accepts: policy == uapi::code::ACCEPT,
    }
}
