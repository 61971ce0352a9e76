use super::{
    encode::Encoder,
    socket::{Header, of_subsystem, push},
    uapi::{self, SUBSYSTEM, batch_begin, control, family, hook, hook_number, message},
};
use crate::{
    kernel::netlink::{add_flags, flag, nla},
    plan::nft::{Chain, ChainType, Hook, HookPoint, Rule, TABLE, Table},
};

/// One transaction that creates a table, or replaces what is in it.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The sequence number of its begin.
    pub(super) first: u32,
    /// The sequence number of its last message, which alone asks for an acknowledgement (over 256 of them: ENOBUFS).
    pub(super) last: u32,
    /// What each message after the begin does.
    steps: Vec<MessageStep>,
    /// Where the last message starts.
    start_of_last: usize,
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
            flag::CREATE
        } else {
            flag::CREATE | flag::EXCL
        };
        let mut batch = Self {
            bytes: Vec::with_capacity(8192),
            first,
            last: first,
            steps: Vec::with_capacity(64),
            start_of_last: 0,
        };
        batch.control(control::BATCH_BEGIN, first, |m| {
            if let Some(generation) = generation {
                nla::put_number(m, batch_begin::GENERATION, generation);
            }
        });
        if found.is_some() && !stays {
            batch.push(MessageStep::Clearing, message::DELETE_TABLE, 0, |m| {
                nla::put_text(m, uapi::table::NAME, TABLE);
            });
        }
        batch.push(MessageStep::Table, message::NEW_TABLE, flags, |m| {
            nla::put_text(m, uapi::table::NAME, TABLE);
            nla::put_number(m, uapi::table::FLAGS, 0);
        });
        for (at, chain) in table.chains.iter().enumerate() {
            let step = MessageStep::Chain(at);
            batch.push(step, message::NEW_CHAIN, flags, |m| write_chain(chain, m));
        }
        if stays {
            batch.push(MessageStep::Clearing, message::DELETE_RULE, 0, |m| {
                nla::put_text(m, uapi::rule::TABLE, TABLE);
            });
        }
        let mut encoder = Encoder::default();
        for (of_chain, chain) in table.chains.iter().enumerate() {
            for (at, rule) in chain.rules.iter().enumerate() {
                let step = MessageStep::Rule(of_chain, at);
                let encoded = encoder.rule(rule);
                for set in &encoded.sets {
                    batch.push(step, message::NEW_SET, flag::CREATE, |m| set.write(m));
                    batch.push(step, message::NEW_ELEMENTS, flag::CREATE, |m| {
                        set.write_elements(m)
                    });
                }
                let flags = flag::CREATE | flag::APPEND;
                batch.push(step, message::NEW_RULE, flags, |m| {
                    nla::put_text(m, uapi::rule::TABLE, TABLE);
                    nla::put_text(m, uapi::rule::CHAIN, &chain.name);
                    nla::put_nested(m, uapi::rule::EXPRESSIONS, |m| {
                        m.extend_from_slice(&encoded.expressions);
                    });
                });
            }
        }
        add_flags(&mut batch.bytes[batch.start_of_last..], flag::ACK);
        batch.control(control::BATCH_END, batch.last + 1, |_| {});
        batch
    }

    /// Its begin, or its end.
    fn control(&mut self, kind: u16, sequence: u32, attributes: impl FnOnce(&mut Vec<u8>)) {
        let header = Header {
            kind,
            flags: 0,
            family: family::UNSPECIFIED,
            resource: SUBSYSTEM,
            sequence,
        };
        push(&mut self.bytes, header, attributes);
    }

    fn push(
        &mut self,
        step: MessageStep,
        kind: u8,
        flags: u16,
        attributes: impl FnOnce(&mut Vec<u8>),
    ) {
        self.steps.push(step);
        self.last += 1;
        self.start_of_last = self.bytes.len();
        let header = Header {
            kind: of_subsystem(kind),
            flags,
            family: family::INET,
            resource: 0,
            sequence: self.last,
        };
        push(&mut self.bytes, header, attributes);
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

/// The attributes of the message that adds a chain.
fn write_chain(chain: &Chain, m: &mut Vec<u8>) {
    nla::put_text(m, uapi::chain::TABLE, TABLE);
    nla::put_text(m, uapi::chain::NAME, &chain.name);
    if let Some(Hook {
        kind,
        point,
        priority,
        accepts,
    }) = &chain.hook
    {
        nla::put_nested(m, uapi::chain::HOOK, |m| {
            nla::put_number(m, hook::NUMBER, number_of(*point));
            nla::put_number(m, hook::PRIORITY, priority.cast_unsigned());
        });
        nla::put_text(m, uapi::chain::TYPE, type_name(kind));
        nla::put_number(m, uapi::chain::POLICY, u32::from(*accepts));
    }
}

fn number_of(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => hook_number::PREROUTING,
        HookPoint::Output => hook_number::OUTPUT,
        HookPoint::Other(number) => number,
    }
}

fn type_name(kind: &ChainType) -> &str {
    match kind {
        ChainType::Nat => "nat",
        ChainType::Filter => "filter",
        ChainType::Route => "route",
        ChainType::Other(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
    };

    /// Two networks and two ports, which become sets, and both families.
    #[test]
    fn the_bytes_of_a_transaction_are_those_that_kernels_were_given_before() {
        let annotations = [
            ("traffic.sidecar.istio.io/excludeOutboundPorts", "80,443"),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.0.0.0/8,192.0.2.1/32,fd00::/64",
            ),
        ];
        let plan = Plan::new(&intent(&annotations, &[]), &network(true, true)).unwrap();
        let table = plan.nftables();
        let batch = Batch::of(&table, None, Some(7), 1);
        let lines = batch.bytes.chunks(32).map(|line| {
            line.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        });
        insta::assert_snapshot!("transaction", lines.collect::<Vec<_>>().join("\n"));
    }
}
