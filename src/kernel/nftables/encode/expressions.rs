//! Expressions of nf_tables, one by one.

use super::{
    super::uapi::{
        bitwise, compare, ct, data, expression, immediate, list, lookup, lookup_flag, meta,
        operator, payload, register, verdict,
    },
    ANONYMOUS, RuleEncoder,
};
use crate::kernel::netlink::nla;

impl RuleEncoder<'_> {
    /// Loads a value into register 1.
    pub(super) fn load_value(&mut self, value: &[u8]) {
        self.immediate(register::R1, |m| nla::put(m, data::VALUE, value));
    }

    /// Decides; a jump with the chain that it leads to.
    pub(super) fn decide(&mut self, code: u32, chain: Option<&str>) {
        self.immediate(register::VERDICT, |m| {
            nla::put_nested(m, data::VERDICT, |m| {
                nla::put_number(m, verdict::CODE, code);
                if let Some(chain) = chain {
                    nla::put_text(m, verdict::CHAIN, chain);
                }
            });
        });
    }

    fn immediate(&mut self, register: u32, data: impl FnOnce(&mut Vec<u8>)) {
        self.expression("immediate", |m| {
            nla::put_number(m, immediate::REGISTER, register);
            nla::put_nested(m, immediate::DATA, data);
        });
    }

    /// Looks register 1 up in the anonymous set of this number: names are the kernel's, so only the number tells two sets of one rule apart.
    pub(super) fn look_up(&mut self, not: bool, id: u32) {
        self.expression("lookup", |m| {
            nla::put_text(m, lookup::SET, ANONYMOUS);
            nla::put_number(m, lookup::FROM, register::R1);
            nla::put_number(m, lookup::SET_ID, id);
            if not {
                nla::put_number(m, lookup::FLAGS, lookup_flag::INVERTED);
            }
        });
    }

    pub(super) fn load_meta(&mut self, key: u32) {
        self.numbers("meta", &[(meta::KEY, key), (meta::TO, register::R1)]);
    }

    pub(super) fn set_meta(&mut self, key: u32) {
        self.numbers("meta", &[(meta::KEY, key), (meta::FROM, register::R1)]);
    }

    pub(super) fn load_ct(&mut self, key: u32) {
        self.numbers("ct", &[(ct::KEY, key), (ct::TO, register::R1)]);
    }

    pub(super) fn set_ct(&mut self, key: u32) {
        self.numbers("ct", &[(ct::KEY, key), (ct::FROM, register::R1)]);
    }

    pub(super) fn load_payload(&mut self, base: u32, offset: u32, length: u32) {
        let attributes = [
            (payload::TO, register::R1),
            (payload::BASE, base),
            (payload::OFFSET, offset),
            (payload::LENGTH, length),
        ];
        self.numbers("payload", &attributes);
    }

    /// Masks register 1, with a mask of at most 16 bytes.
    pub(super) fn mask(&mut self, mask: &[u8]) {
        self.expression("bitwise", |m| {
            nla::put_number(m, bitwise::FROM, register::R1);
            nla::put_number(m, bitwise::TO, register::R1);
            nla::put_number(m, bitwise::LENGTH, mask.len() as u32);
            nla::put_nested(m, bitwise::XOR, |m| {
                nla::put(m, data::VALUE, &[0; 16][..mask.len()]);
            });
            nla::put_nested(m, bitwise::MASK, |m| nla::put(m, data::VALUE, mask));
        });
    }

    /// Compares register 1.
    pub(super) fn compare(&mut self, not: bool, value: &[u8]) {
        let how = if not {
            operator::NOT_EQUAL
        } else {
            operator::EQUAL
        };
        self.expression("cmp", |m| {
            nla::put_number(m, compare::FROM, register::R1);
            nla::put_number(m, compare::OP, how);
            nla::put_nested(m, compare::DATA, |m| nla::put(m, data::VALUE, value));
        });
    }

    /// An expression whose attributes are numbers.
    pub(super) fn numbers(&mut self, name: &str, attributes: &[(u16, u32)]) {
        self.expression(name, |m| {
            for (kind, number) in attributes {
                nla::put_number(m, *kind, *number);
            }
        });
    }

    /// What was read from a kernel and is not ours is never written: the kernel refuses an expression of no name.
    pub(super) fn never(&mut self) {
        self.numbers("", &[]);
    }

    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
        nla::put_nested(&mut self.expressions, list::ENTRY, |m| {
            nla::put_text(m, expression::NAME, name);
            nla::put_nested(m, expression::DATA, data);
        });
    }
}
