//! The kernel's objects as the plan's own types. Ignored: the order of attributes, handles, counters' values. Filled in by the kernel:
//! the upper port and flags of `redir`, `op` of a bitwise, flags of a lookup.

#![expect(clippy::wildcard_enum_match_arm, reason = "the packet crate's enums are open, and what is unknown is never ours")]

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{Ipv4Net, Ipv6Net};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as HookAttribute, HookNumber,
    Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, RuleAttribute, RuleMessage,
    SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage, SetMessage, TableAttribute, TableMessage,
    Verdict as Code, VerdictAttribute,
};

use super::{
    encode::{
        CT_ATTRIBUTES, CT_STATE_INVALID, DESTINATION_PORT_OFFSET, IPPROTO_TCP, NFPROTO_IPV4, NFPROTO_IPV6, NFT_PAYLOAD_NETWORK_HEADER,
        NFT_PAYLOAD_TRANSPORT_HEADER, address_field,
    },
    sets::{Element, networks},
    socket::Socket,
};
use crate::{
    kernel::KernelError,
    mesh::IfName,
    plan::nft::{Chain, ChainType, Direction, Family, Hook, HookPoint, Match, Networks, Rule, Side, TABLE, Table, Verdict},
};

type Sets = BTreeMap<String, Vec<Element>>;

/// Reads our table.
pub(super) fn read(socket: &mut Socket) -> Result<Option<Table>, KernelError> {
    let name = TableMessage { attributes: vec![TableAttribute::Name(TABLE.into())] };
    if socket.get("looking for the table", NfTablesMessage::GetTable(name))?.is_none() {
        return Ok(None);
    }
    let sets = read_sets(socket)?;
    let mut chains = Vec::new();
    for object in socket.dump("listing chains", NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }))? {
        if let NfTablesMessage::NewChain(message) = object {
            chains.extend(chain(message));
        }
    }
    let of_table = RuleMessage { attributes: vec![RuleAttribute::Table(TABLE.into())] };
    for object in socket.dump("listing rules", NfTablesMessage::GetRule(of_table))? {
        if let NfTablesMessage::NewRule(message) = object
            && let Some((name, rule)) = rule(&message, &sets)
            && let Some(chain) = chains.iter_mut().find(|c| c.name == name)
        {
            chain.rules.push(rule);
        }
    }
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(Table { chains }))
}

fn read_sets(socket: &mut Socket) -> Result<Sets, KernelError> {
    let of_table = SetMessage { attributes: vec![SetAttribute::Table(TABLE.into())] };
    let mut sets = Sets::new();
    for object in socket.dump("listing sets", NfTablesMessage::GetSet(of_table))? {
        let NfTablesMessage::NewSet(set) = object else { continue };
        let Some(name) = set.attributes.into_iter().find_map(|a| if let SetAttribute::Name(name) = a { Some(name) } else { None }) else {
            continue;
        };
        let of_set = SetElementMessage { attributes: vec![SetElementList::Table(TABLE.into()), SetElementList::Set(name.clone())] };
        let mut all = Vec::new();
        for object in socket.dump("listing the elements of a set", NfTablesMessage::GetSetElement(of_set))? {
            let NfTablesMessage::NewSetElement(message) = object else { continue };
            for attribute in message.attributes {
                if let SetElementList::Elements(list) = attribute {
                    all.extend(list.into_iter().filter_map(element));
                }
            }
        }
        sets.insert(name, all);
    }
    Ok(sets)
}

fn element(attribute: ListAttribute<SetElementAttribute>) -> Option<Element> {
    let ListAttribute::Element(attributes) = attribute else { return None };
    let mut out = Element { key: vec![], interval_end: false };
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => out.key = key,
            SetElementAttribute::Flags(flags) => out.interval_end = flags.contains(SetElementFlags::IntervalEnd),
            _ => {}
        }
    }
    Some(out)
}

/// A chain without its rules; `None` if it is of another table.
fn chain(message: ChainMessage) -> Option<Chain> {
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
    (table.as_deref() == Some(TABLE)).then_some(Chain { name: name?, hook, rules: vec![] })
}

fn hook_of(attributes: Vec<HookAttribute>, kind: Option<String>, policy: u32) -> Hook {
    let (mut point, mut priority) = (HookPoint::Other(u32::MAX), 0);
    for attribute in attributes {
        match attribute {
            HookAttribute::Number(HookNumber::Inet(InetHookNumber::PreRouting)) => point = HookPoint::Prerouting,
            HookAttribute::Number(HookNumber::Inet(InetHookNumber::LocalOut)) => point = HookPoint::Output,
            HookAttribute::Number(number) => point = HookPoint::Other(number.into()),
            HookAttribute::Priority(p) => priority = p.cast_signed(),
            _ => {}
        }
    }
    let kind = match kind.as_deref() {
        Some("nat") => ChainType::Nat,
        Some("filter") => ChainType::Filter,
        other => ChainType::Other(other.unwrap_or_default().into()),
    };
    Hook { kind, point, priority, accepts: policy == 1 }
}

/// The chain's name and the rule.
fn rule(message: &RuleMessage, sets: &Sets) -> Option<(String, Rule)> {
    let (mut chain, mut expressions) = (None, &Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(table) if table != TABLE => return None,
            RuleAttribute::Chain(name) => chain = Some(name.clone()),
            RuleAttribute::Expressions(list) => expressions = list,
            _ => {}
        }
    }
    let mut reader = Reader { sets, loaded: Loaded::Nothing, mask: None, matches: vec![], verdict: None };
    for element in expressions {
        let ListAttribute::Element(attributes) = element else { continue };
        for attribute in attributes {
            if let ExpressionAttribute::Data(expression) = attribute {
                reader.expression(expression);
            }
        }
    }
    let verdict = reader.verdict.unwrap_or_else(|| Verdict::Other("continue".into()));
    Some((chain?, Rule { matches: reader.matches, verdict }))
}

/// What register 1 holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loaded {
    Nothing,
    NfProto,
    L4Proto,
    Interface(Direction),
    User,
    Group,
    CtState,
    /// So many bytes of an address.
    Address(Family, Side, u32),
    DestinationPort,
    /// A port for `redir`.
    Port(u16),
}

/// Reads expressions one by one: load, perhaps mask, compare.
struct Reader<'a> {
    sets: &'a Sets,
    loaded: Loaded,
    mask: Option<Vec<u8>>,
    matches: Vec<Match>,
    verdict: Option<Verdict>,
}

impl Reader<'_> {
    fn expression(&mut self, expression: &Expressions) {
        if self.verdict.is_some() {
            self.verdict = Some(Verdict::Other(format!("something after the verdict: {expression:?}")));
            return;
        }
        let understood = match expression {
            Expressions::Meta(attributes) => self.load(load_meta(attributes)),
            Expressions::Payload(attributes) => self.load(load_payload(attributes)),
            Expressions::Other { expression_type, attributes } if expression_type == "ct" => {
                let (_, key, state) = CT_ATTRIBUTES;
                let loads_state = attributes.iter().any(|a| netlink_packet_core::Nla::kind(a) == key && number(a) == Some(state));
                self.load(loads_state.then_some(Loaded::CtState))
            }
            Expressions::Bitwise(attributes) => self.bitwise(attributes),
            Expressions::Cmp(attributes) => self.cmp(attributes).map(|m| self.matches.push(m)).is_some(),
            Expressions::Lookup(attributes) => self.lookup(attributes).map(|m| self.matches.push(m)).is_some(),
            Expressions::Immediate(attributes) => self.immediate(attributes),
            Expressions::Other { expression_type, .. } if expression_type == "redir" => match self.loaded {
                Loaded::Port(port) => self.decide(Verdict::Redirect(port)),
                _ => false,
            },
            Expressions::Other { expression_type, .. } if expression_type == "counter" => true,
            _ => false,
        };
        if !understood {
            self.matches.push(Match::Other(format!("{expression:?}")));
        }
    }

    fn load(&mut self, what: Option<Loaded>) -> bool {
        self.loaded = what.unwrap_or(Loaded::Nothing);
        self.mask = None;
        what.is_some()
    }

    fn decide(&mut self, verdict: Verdict) -> bool {
        self.verdict = Some(verdict);
        true
    }

    fn bitwise(&mut self, attributes: &[Bitwise]) -> bool {
        let mut plain = true;
        for attribute in attributes {
            match attribute {
                Bitwise::Mask(DataAttribute::Value(mask)) => self.mask = Some(mask.clone()),
                Bitwise::Xor(DataAttribute::Value(xor)) => plain &= xor.iter().all(|b| *b == 0),
                Bitwise::Op(op) => plain &= *op == 0,
                _ => {}
            }
        }
        plain && self.mask.is_some()
    }

    fn cmp(&mut self, attributes: &[Cmp]) -> Option<Match> {
        let (mut not, mut value) = (None, None);
        for attribute in attributes {
            match attribute {
                Cmp::Op(Operator::Equal) => not = Some(false),
                Cmp::Op(Operator::NotEqual) => not = Some(true),
                Cmp::Data(DataAttribute::Value(v)) => value = Some(v.as_slice()),
                _ => {}
            }
        }
        let (not, value) = (not?, value?);
        let mask = self.mask.take();
        match self.loaded {
            Loaded::CtState => {
                let invalid = mask? == CT_STATE_INVALID.to_ne_bytes() && not && value == [0; 4];
                invalid.then_some(Match::Invalid)
            }
            Loaded::Address(family, side, length) => {
                let networks = one_network(family, value, mask.as_deref(), length)?;
                Some(Match::Address { side, not, networks })
            }
            _ if mask.is_some() => None,
            Loaded::NfProto => match value {
                [NFPROTO_IPV4] if !not => Some(Match::Family(Family::Ipv4)),
                [NFPROTO_IPV6] if !not => Some(Match::Family(Family::Ipv6)),
                _ => None,
            },
            Loaded::L4Proto => (value == [IPPROTO_TCP] && !not).then_some(Match::Tcp),
            Loaded::User => (!not).then_some(Match::SocketUser(u32::from_ne_bytes(value.try_into().ok()?))),
            Loaded::Interface(_) | Loaded::Group | Loaded::DestinationPort => self.one_of(not, vec![Element::key(value)]),
            Loaded::Nothing | Loaded::Port(_) => None,
        }
    }

    fn lookup(&mut self, attributes: &[Lookup]) -> Option<Match> {
        let (mut not, mut set) = (false, None);
        for attribute in attributes {
            match attribute {
                Lookup::Flags(flags) => not = *flags & 1 == 1,
                Lookup::Set(name) => set = self.sets.get(name),
                _ => {}
            }
        }
        let elements = set?.clone();
        match self.loaded {
            _ if self.mask.is_some() => None,
            Loaded::Address(family, side, length) if length == address_field(family, side).1 => {
                Some(Match::Address { side, not, networks: networks(elements)? })
            }
            Loaded::Interface(_) | Loaded::Group | Loaded::DestinationPort => self.one_of(not, elements),
            _ => None,
        }
    }

    fn one_of(&self, not: bool, elements: Vec<Element>) -> Option<Match> {
        let keys = || elements.iter().map(|e| e.key.as_slice());
        match self.loaded {
            Loaded::Interface(direction) => {
                let names =
                    keys().map(|k| IfName::of_kernel(std::str::from_utf8(k).ok()?.trim_end_matches('\0'))).collect::<Option<_>>()?;
                Some(Match::Interface { direction, not, names })
            }
            Loaded::DestinationPort => {
                let ports = keys().map(|k| Some(u16::from_be_bytes(k.try_into().ok()?))).collect::<Option<BTreeSet<_>>>()?;
                Some(Match::DestinationPort { not, ports })
            }
            Loaded::Group if !not => {
                let gids = keys().map(|k| Some(u32::from_ne_bytes(k.try_into().ok()?))).collect::<Option<BTreeSet<_>>>()?;
                Some(Match::SocketGroup(gids))
            }
            _ => None,
        }
    }

    fn immediate(&mut self, attributes: &[Immediate]) -> bool {
        let data = attributes.iter().find_map(|a| if let Immediate::Data(data) = a { Some(data) } else { None });
        match data {
            Some(DataAttribute::Value(port)) => {
                let port = port.as_slice().try_into().map(u16::from_be_bytes).ok();
                self.load(port.map(Loaded::Port))
            }
            Some(DataAttribute::Verdict(attributes)) => self.decide(verdict(attributes)),
            _ => false,
        }
    }
}

fn load_meta(attributes: &[Meta]) -> Option<Loaded> {
    attributes.iter().find_map(|a| match a {
        Meta::Key(MetaKey::Nfproto) => Some(Loaded::NfProto),
        Meta::Key(MetaKey::L4Proto) => Some(Loaded::L4Proto),
        Meta::Key(MetaKey::Iifname) => Some(Loaded::Interface(Direction::In)),
        Meta::Key(MetaKey::Oifname) => Some(Loaded::Interface(Direction::Out)),
        Meta::Key(MetaKey::SocketUserId) => Some(Loaded::User),
        Meta::Key(MetaKey::SocketGroupId) => Some(Loaded::Group),
        _ => None,
    })
}

fn load_payload(attributes: &[Payload]) -> Option<Loaded> {
    let (mut base, mut offset, mut length) = (None, None, None);
    for attribute in attributes {
        match attribute {
            Payload::Base(b) => base = Some(*b),
            Payload::Offset(o) => offset = Some(*o),
            Payload::Len(l) => length = Some(*l),
            Payload::SourceRegister(_) => return None,
            _ => {}
        }
    }
    match (base?, offset?, length?) {
        (NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, 2) => Some(Loaded::DestinationPort),
        (NFT_PAYLOAD_NETWORK_HEADER, offset, length) => [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .flat_map(|f| [Side::Source, Side::Destination].map(|s| (f, s)))
            .find(|(f, s)| address_field(*f, *s).0 == offset && length <= address_field(*f, *s).1)
            .map(|(f, s)| Loaded::Address(f, s, length)),
        _ => None,
    }
}

/// `value` under `mask`, or the leading bytes of an address, which is how nft writes a prefix of whole bytes.
fn one_network(family: Family, value: &[u8], mask: Option<&[u8]>, loaded: u32) -> Option<Networks> {
    if value.len() != loaded as usize {
        return None;
    }
    let length = match mask {
        Some(mask) => {
            let ones: u32 = mask.iter().map(|b| b.leading_ones()).sum();
            let contiguous = mask.iter().map(|b| b.count_ones()).sum::<u32>() == ones
                && mask.iter().skip_while(|b| **b == 0xff).skip(1).all(|b| *b == 0);
            contiguous.then_some(ones)?
        }
        None => loaded * 8,
    };
    let length = u8::try_from(length).ok()?;
    match family {
        Family::Ipv4 => Networks::v4(&[Ipv4Net::new(pad::<4>(value)?.into(), length).ok()?]),
        Family::Ipv6 => Networks::v6(&[Ipv6Net::new(pad::<16>(value)?.into(), length).ok()?]),
    }
}

fn pad<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(out)
}

fn verdict(attributes: &[VerdictAttribute]) -> Verdict {
    let chain = attributes.iter().find_map(|a| if let VerdictAttribute::Chain(chain) = a { Some(chain.clone()) } else { None });
    let code = attributes.iter().find_map(|a| if let VerdictAttribute::Code(code) = a { Some(*code) } else { None });
    match (code, chain) {
        (Some(Code::Return), None) => Verdict::Return,
        (Some(Code::Jump), Some(chain)) => Verdict::Jump(chain),
        (Some(Code::Other(0)), None) => Verdict::Drop,
        (Some(Code::Other(1)), None) => Verdict::Other("accept".into()),
        (code, chain) => Verdict::Other(format!("{code:?} {}", chain.unwrap_or_default())),
    }
}

fn number(attribute: &netlink_packet_core::DefaultNla) -> Option<u32> {
    use netlink_packet_core::Nla;
    let mut bytes = [0; 4];
    (attribute.value_len() == 4).then(|| attribute.emit_value(&mut bytes)).map(|()| u32::from_be_bytes(bytes))
}
