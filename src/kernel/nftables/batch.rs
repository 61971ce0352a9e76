use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::{
    NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Hook as HookAttribute, InetHookNumber, NfTablesMessage,
        RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage,
    },
    none::ControlMessage,
};

use super::{encode::Encoder, socket::push};
use crate::plan::nft::{Chain, ChainType, Hook, HookPoint, Rule, TABLE, Table};

/// `NFNL_SUBSYS_NFTABLES` of linux/netfilter/nfnetlink.h: what a batch is for.
const SUBSYSTEM: u16 = 10;

/// Of linux/netfilter/nfnetlink.h: the generation for which a batch was made.
const NFNL_BATCH_GENID: u16 = 1;
/// The crate's own begin takes no attributes.
const NFNL_MSG_BATCH_BEGIN: u8 = 16;

/// One transaction that creates a table, or replaces what is in it.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The sequence number of its begin.
    pub(super) first: u32,
    /// The sequence number of its last message, which alone asks for an acknowledgement (over 256 of them: ENOBUFS).
    pub(super) last: u32,
    /// What each message after the begin does.
    steps: Vec<MessageStep>,
}

/// What a message does; chains and rules by their index.
#[derive(Clone, Copy)]
enum MessageStep {
    Clearing,
    Table,
    Chain(usize),
    Rule(usize, usize),
}

impl Batch {
    /// In the place of what was found. `generation`: refuse it unless this is still the tables' generation.
    pub(super) fn of(
        table: &Table,
        found: Option<&Table>,
        generation: Option<u32>,
        first: u32,
    ) -> Self {
        // a base chain that stays lets no new connection through; one that is deleted and recreated does, even within a transaction
        let stays = found.is_some_and(|found| has_same_chains(table, found));
        let flags = if stays {
            NLM_F_CREATE
        } else {
            NLM_F_CREATE | NLM_F_EXCL
        };
        let mut messages = Vec::new();
        if found.is_some() && !stays {
            messages.push((
                MessageStep::Clearing,
                NfTablesMessage::DeleteTable(TableMessage {
                    attributes: vec![of_table()],
                }),
                0,
            ));
        }
        messages.push((MessageStep::Table, new_table(), flags));
        for (at, chain) in table.chains.iter().enumerate() {
            messages.push((MessageStep::Chain(at), new_chain(chain), flags));
        }
        if stays {
            let all = RuleMessage {
                attributes: vec![RuleAttribute::Table(TABLE.into())],
            };
            messages.push((MessageStep::Clearing, NfTablesMessage::DeleteRule(all), 0));
        }
        let mut encoder = Encoder::default();
        for (of_chain, chain) in table.chains.iter().enumerate() {
            for (at, rule) in chain.rules.iter().enumerate() {
                let (sets, expressions) = encoder.rule(rule);
                let step = MessageStep::Rule(of_chain, at);
                for set in sets {
                    messages.push((step, set, NLM_F_CREATE));
                }
                let attributes = vec![
                    RuleAttribute::Table(TABLE.into()),
                    RuleAttribute::Chain(chain.name.clone()),
                    RuleAttribute::Expressions(expressions),
                ];
                messages.push((
                    step,
                    NfTablesMessage::NewRule(RuleMessage { attributes }),
                    NLM_F_CREATE | NLM_F_APPEND,
                ));
            }
        }
        let (mut bytes, mut sequence, mut steps) = (
            Vec::with_capacity(8192),
            first,
            Vec::with_capacity(messages.len()),
        );
        let control = |bytes: &mut Vec<u8>, inner: ControlMessage, sequence| {
            push(
                bytes,
                NetfilterProtoFamily::Unspec,
                SUBSYSTEM,
                NetfilterMessageInner::from(inner),
                0,
                sequence,
            );
        };
        control(&mut bytes, begin(generation), sequence);
        let count = messages.len();
        for (at, (step, message, flags)) in messages.into_iter().enumerate() {
            sequence += 1;
            steps.push(step);
            let ack = if at + 1 == count { NLM_F_ACK } else { 0 };
            push(
                &mut bytes,
                NetfilterProtoFamily::Inet,
                0,
                message.into(),
                flags | ack,
                sequence,
            );
        }
        control(&mut bytes, ControlMessage::BatchEnd, sequence + 1);
        Self {
            bytes,
            first,
            last: sequence,
            steps,
        }
    }

    /// What the message with this sequence number was doing.
    pub(super) fn describe(&self, table: &Table, sequence: u32) -> String {
        match self.step(sequence) {
            None => "sending the nf_tables transaction".into(),
            Some(MessageStep::Clearing) => format!("clearing table inet {TABLE}"),
            Some(MessageStep::Table) => format!("adding table inet {TABLE}"),
            Some(MessageStep::Chain(at)) => format!("adding chain {}", table.chains[at].name),
            Some(MessageStep::Rule(chain, at)) => {
                let chain = &table.chains[chain];
                format!(
                    "adding to chain {} the rule {:?}",
                    chain.name,
                    chain.rules[at].to_string()
                )
            }
        }
    }

    /// The rule that it was making, if it was one.
    pub(super) fn rule<'t>(&self, table: &'t Table, sequence: u32) -> Option<&'t Rule> {
        match self.step(sequence)? {
            MessageStep::Rule(chain, at) => Some(&table.chains[chain].rules[at]),
            MessageStep::Clearing | MessageStep::Table | MessageStep::Chain(_) => None,
        }
    }

    fn step(&self, sequence: u32) -> Option<MessageStep> {
        let at = sequence.checked_sub(self.first + 1)?;
        self.steps.get(at as usize).copied()
    }
}

fn begin(generation: Option<u32>) -> ControlMessage {
    match generation {
        None => ControlMessage::BatchBegin,
        Some(generation) => ControlMessage::Other {
            message_type: NFNL_MSG_BATCH_BEGIN,
            attributes: vec![DefaultNla::new(
                NFNL_BATCH_GENID,
                generation.to_be_bytes().to_vec(),
            )],
        },
    }
}

/// Whether rules, and the sets that they alone hold, are all that may differ.
fn has_same_chains(table: &Table, found: &Table) -> bool {
    let frame = |table: &Table| {
        (
            table.flags,
            table.unnamed,
            table
                .chains
                .iter()
                .map(|c| (c.name.clone(), c.hook.clone()))
                .collect::<Vec<_>>(),
        )
    };
    frame(table) == frame(found)
}

fn of_table() -> TableAttribute {
    TableAttribute::Name(TABLE.into())
}

fn new_table() -> NfTablesMessage {
    let attributes = vec![of_table(), TableAttribute::Flags(TableFlags::empty())];
    NfTablesMessage::NewTable(TableMessage { attributes })
}

fn new_chain(chain: &Chain) -> NfTablesMessage {
    let mut attributes = vec![
        ChainAttribute::Table(TABLE.into()),
        ChainAttribute::Name(chain.name.clone()),
    ];
    if let Some(hook) = &chain.hook {
        attributes.push(ChainAttribute::Hook(hook_attributes(hook)));
        attributes.push(ChainAttribute::Type(chain_type(&hook.kind).into()));
        attributes.push(ChainAttribute::Policy(u32::from(hook.accepts)));
    }
    NfTablesMessage::NewChain(ChainMessage { attributes })
}

fn hook_attributes(hook: &Hook) -> Vec<HookAttribute> {
    let number = match hook.point {
        HookPoint::Prerouting => InetHookNumber::PreRouting,
        HookPoint::Output => InetHookNumber::LocalOut,
        HookPoint::Other(number) => InetHookNumber::Other(number),
    };
    vec![
        HookAttribute::Number(number.into()),
        HookAttribute::Priority(hook.priority.cast_unsigned()),
    ]
}

fn chain_type(kind: &ChainType) -> &str {
    match kind {
        ChainType::Nat => "nat",
        ChainType::Filter => "filter",
        ChainType::Route => "route",
        ChainType::Other(name) => name,
    }
}
