//! Decodes the statements of a rule, as far as we write them ourselves.

use super::{Reader, Register, is_r1, pad};
use crate::kernel::netlink::nla::{Attribute, Attributes};
use crate::{
    kernel::nftables::{
        encode::nfproto,
        uapi::{
            code, ct, ct_key, data, immediate, meta, meta_key, redir, register, tproxy, verdict,
        },
        value::value,
    },
    plan::{nft::Statement, packet::Family},
};

/// What the kernel says of a redirect to a port.
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;

impl Reader<'_> {
    /// Loads a value, or a verdict.
    pub(super) fn immediate(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let (mut register, mut loaded) = (None, None);
        for attribute in attributes {
            match attribute.kind {
                immediate::REGISTER => register = attribute.number(),
                immediate::DATA => loaded = Some(attribute),
                _ => return None,
            }
        }
        match (register?, loaded?) {
            // a second value would be the end of a range of ports
            (register::R1, data) if !matches!(self.loaded, Register::Value(..)) => {
                let value = value(data)?;
                self.load(Some(Register::Value(pad(value)?, value.len())))
            }
            (register::VERDICT, data) => self.done(statement(NftVerdict::of(data)?)),
            _ => None,
        }
    }

    /// Loads a key of the packet, or sets its mark.
    pub(super) fn meta(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let key = attributes.number(meta::KEY)?;
        let has_r1 = |kind| attributes.find(kind).is_some_and(is_r1);
        if attributes.count() != 2 {
            return None;
        }
        if has_r1(meta::FROM) && key == meta_key::MARK {
            let statement = if let Register::Value(mark, 4) = self.loaded {
                Statement::SetMark(u32::from_ne_bytes(mark))
            } else if self.loaded == Register::CtMark {
                Statement::RestoreMark
            } else {
                return None;
            };
            return self.done(statement);
        }
        has_r1(meta::TO).then(|| self.load_meta(key)).flatten()
    }

    /// Loads a key of conntrack, or sets its mark or zone.
    pub(super) fn ct(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let key = attributes.number(ct::KEY)?;
        let has_r1 = |kind| attributes.find(kind).is_some_and(is_r1);
        if attributes.count() != 2 {
            return None;
        }
        if has_r1(ct::FROM) {
            let statement = match (key, self.loaded) {
                (ct_key::MARK, Register::Mark) => Statement::SaveMark,
                (ct_key::ZONE, Register::Value([a, b, ..], 2)) => {
                    Statement::SetZone(u16::from_ne_bytes([a, b]))
                }
                _ => return None,
            };
            return self.done(statement);
        }
        let loaded = match key {
            ct_key::STATE => Register::CtState,
            ct_key::MARK => Register::CtMark,
            _ => return None,
        };
        has_r1(ct::TO).then(|| self.load(Some(loaded))).flatten()
    }

    pub(super) fn redir(&mut self, mut attributes: Attributes<'_>) -> Option<()> {
        let is_known = |a: Attribute<'_>| match a.kind {
            redir::PORT | redir::LAST_PORT => is_r1(a),
            redir::FLAGS => a.number() == Some(NF_NAT_RANGE_PROTO_SPECIFIED),
            _ => false,
        };
        let to_port = attributes.find(redir::PORT).is_some() && attributes.all(is_known);
        let port = self.port().filter(|_| to_port)?;
        self.done(Statement::Redirect(port))
    }

    pub(super) fn tproxy(&mut self, attributes: Attributes<'_>) -> Option<()> {
        let number = attributes.number(tproxy::FAMILY)?;
        let family = [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .find(|f| number == u32::from(nfproto(*f)))?;
        let to_port = attributes.find(tproxy::PORT).is_some_and(is_r1) && attributes.count() == 2;
        let port = self.port().filter(|_| to_port)?;
        self.done(Statement::Tproxy(family, port))
    }

    fn port(&self) -> Option<u16> {
        if let Register::Value([a, b, ..], 2) = self.loaded {
            Some(u16::from_be_bytes([a, b]))
        } else {
            None
        }
    }

    /// A statement; it used up what was loaded.
    fn done(&mut self, statement: Statement) -> Option<()> {
        let masked = self.mask.is_some();
        self.load(None);
        (!masked).then(|| self.statements.push(statement))
    }
}

/// What becomes of a packet: a code, and the chain that it leads to.
pub(in crate::kernel::nftables) struct NftVerdict<'a> {
    pub(in crate::kernel::nftables) code: u32,
    pub(in crate::kernel::nftables) chain: Option<&'a str>,
}

impl<'a> NftVerdict<'a> {
    /// Of an immediate's data.
    pub(in crate::kernel::nftables) fn of(data: Attribute<'a>) -> Option<Self> {
        let of = data.nested().nested(data::VERDICT)?;
        Some(Self {
            code: of.number(verdict::CODE)?,
            chain: of.text(verdict::CHAIN),
        })
    }
}

fn statement(verdict: NftVerdict<'_>) -> Statement {
    match (verdict.code, verdict.chain) {
        (code::RETURN, None) => Statement::Return,
        (code::JUMP, Some(chain)) => Statement::Jump(chain.into()),
        (code::DROP, None) => Statement::Drop,
        (code::ACCEPT, None) => Statement::Accept,
        (code, chain) => {
            let code = code.cast_signed();
            Statement::Other(format!("verdict {code} {}", chain.unwrap_or_default()))
        }
    }
}
