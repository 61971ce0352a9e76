//! The kernel's expressions as the plan's own types. Strict: an expression that is not understood to the last attribute is
//! `Match::Other` or `Statement::Other`, which nothing planned equals.
//!
//! Ignored: the order of attributes, counters. Filled in by the kernel: the upper port and flags of `redir`, `op` of a bitwise, flags of
//! a lookup.

mod conditions;
mod statements;

pub(super) use self::statements::NftVerdict;

use super::{
    sets::Sets,
    socket::RulesetObject,
    uapi::{self, expression, lookup, register::R1},
};
use crate::kernel::netlink::nla::{Attribute, Attributes};
use crate::plan::{
    nft::{Match, Rule, Statement},
    packet::{Direction, Family, Side},
};

/// A rule as the kernel wrote it: its expressions are read when the sets that they name are known.
pub(super) struct RuleText {
    pub(super) chain: String,
    expressions: Vec<u8>,
}

impl RuleText {
    /// Of a rule in this table.
    pub(super) fn of(object: RulesetObject<'_>, table: &str) -> Option<Self> {
        let of = object.attributes;
        let is_rule =
            object.kind == uapi::message::NEW_RULE && of.text(uapi::rule::TABLE) == Some(table);
        let chain = of.text(uapi::rule::CHAIN).filter(|_| is_rule)?.to_owned();
        let expressions = of.find(uapi::rule::EXPRESSIONS).map(|a| a.payload.to_vec());
        Some(Self {
            chain,
            expressions: expressions.unwrap_or_default(),
        })
    }

    /// The name of each expression, and its data. Some (notrack) have a name and no data.
    pub(super) fn expressions(&self) -> impl Iterator<Item = Expression<'_>> {
        Attributes(&self.expressions).map(|element| Expression::of(element.nested()))
    }
}

/// An expression: what a rule is made of.
pub(super) struct Expression<'a> {
    pub(super) name: &'a str,
    pub(super) data: Option<Attributes<'a>>,
}

impl<'a> Expression<'a> {
    pub(super) fn of(element: Attributes<'a>) -> Self {
        Self {
            name: element.text(expression::NAME).unwrap_or_default(),
            data: element.nested(expression::DATA),
        }
    }
}

/// The sets that a rule looks its keys up in.
pub(super) fn sets_named(rule: &RuleText) -> impl Iterator<Item = &str> {
    let lookups = rule.expressions().filter(|e| e.name == "lookup");
    lookups.filter_map(|e| e.data?.text(lookup::SET))
}

/// The rule, with the sets that it names.
pub(super) fn decode(rule: &RuleText, sets: &Sets) -> Rule {
    let mut reader = Reader {
        sets,
        loaded: Register::Nothing,
        mask: None,
        matches: vec![],
        statements: vec![],
    };
    for expression in rule.expressions() {
        reader.element(&expression);
    }
    Rule {
        matches: reader.matches,
        statements: reader.statements,
    }
}

/// What register 1 holds; we use no other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Register {
    Nothing,
    NfProto,
    L4Proto,
    Interface(Direction),
    User,
    Group,
    CtState,
    /// An address: its first bytes, this number of them.
    Address(Family, Side, u32),
    Port(Side),
    Mark,
    CtMark,
    /// A value for a statement: its first bytes, this number of them.
    Value([u8; 4], usize),
}

/// Reads expressions one by one: load, perhaps mask, compare.
struct Reader<'a> {
    sets: &'a Sets,
    loaded: Register,
    mask: Option<Vec<u8>>,
    matches: Vec<Match>,
    statements: Vec<Statement>,
}

impl Reader<'_> {
    fn element(&mut self, expression: &Expression<'_>) {
        let ended = self.statements.last().is_some_and(|s| {
            matches!(
                s,
                Statement::Return
                    | Statement::Accept
                    | Statement::Drop
                    | Statement::Jump(_)
                    | Statement::Redirect(_)
            )
        });
        let (matches, statements) = (self.matches.len(), self.statements.len());
        let data = expression.data.filter(|_| !ended);
        let understood = data.and_then(|data| self.expression(expression.name, data));
        // a condition after a statement is not ours either
        if understood.is_none() || (statements > 0 && self.matches.len() > matches) {
            self.load(None);
            let name = expression.name.to_owned();
            self.statements.push(Statement::Other(name));
        }
    }

    /// `None` where it was not understood.
    fn expression(&mut self, name: &str, data: Attributes<'_>) -> Option<()> {
        match name {
            "meta" => self.meta(data),
            "payload" => self.payload(data),
            "bitwise" => self.bitwise(data),
            "cmp" => {
                let condition = self.cmp(data)?;
                self.matches.push(condition);
                Some(())
            }
            "lookup" => {
                let condition = self.lookup(data)?;
                self.matches.push(condition);
                Some(())
            }
            "immediate" => self.immediate(data),
            "ct" => self.ct(data),
            "redir" => self.redir(data),
            "tproxy" => self.tproxy(data),
            "counter" => Some(()),
            _ => None,
        }
    }

    fn load(&mut self, what: Option<Register>) -> Option<()> {
        self.loaded = what.unwrap_or(Register::Nothing);
        self.mask = None;
        what.map(|_| ())
    }
}

/// Whether an attribute names register 1.
fn is_r1(attribute: Attribute<'_>) -> bool {
    attribute.number() == Some(R1)
}

/// The leading bytes of a longer value.
fn pad<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(out)
}
