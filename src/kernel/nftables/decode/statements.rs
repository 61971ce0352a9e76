//! What a rule does, as far as it is one of ours.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the packet crate's enums are open, and what is unknown is never ours"
)]

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::nftables::{
    DataAttribute, Immediate, Meta, MetaKey, Register, Verdict as Code, VerdictAttribute,
};

use super::{Loaded, Reader, load_meta, pad};
use crate::{
    kernel::nftables::encode::{
        NF_ACCEPT, NF_DROP, NFT_CT_MARK, NFT_CT_STATE, NFT_CT_ZONE, NFTA_CT_DREG, NFTA_CT_KEY,
        NFTA_CT_SREG, NFTA_REDIR_REG_PROTO_MIN, NFTA_TPROXY_FAMILY, NFTA_TPROXY_REG_PORT, R1,
        nfproto,
    },
    plan::{nft::Statement, packet::Family},
};

const NFTA_REDIR_REG_PROTO_MAX: u16 = 2;
const NFTA_REDIR_FLAGS: u16 = 3;
/// What the kernel says of a redirect to a port.
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;

impl Reader<'_> {
    /// Loads a value, or a verdict.
    pub(super) fn immediate(&mut self, attributes: &[Immediate]) -> Option<()> {
        let (mut register, mut data) = (None, None);
        for attribute in attributes {
            match attribute {
                Immediate::DestinationRegister(r) => register = Some(*r),
                Immediate::Data(d) => data = Some(d),
                _ => return None,
            }
        }
        match (register?, data?) {
            // a second value would be the end of a range of ports
            (R1, DataAttribute::Value(value)) if !matches!(self.loaded, Loaded::Value(..)) => {
                let loaded = Loaded::Value(pad(value)?, value.len());
                self.load(Some(loaded)).then_some(())
            }
            (Register::Verdict, DataAttribute::Verdict(attributes)) => {
                self.done(verdict(attributes))
            }
            _ => None,
        }
    }

    /// Loads a key of the packet, or sets its mark.
    pub(super) fn meta(&mut self, attributes: &[Meta]) -> Option<()> {
        if let [Meta::Key(MetaKey::Mark), Meta::SourceRegister(R1)]
        | [Meta::SourceRegister(R1), Meta::Key(MetaKey::Mark)] = attributes
        {
            let statement = match self.loaded {
                Loaded::Value(mark, 4) => Statement::SetMark(u32::from_ne_bytes(mark)),
                Loaded::CtMark => Statement::RestoreMark,
                _ => return None,
            };
            return self.done(statement);
        }
        self.load(load_meta(attributes)).then_some(())
    }

    /// Loads a key of conntrack, or sets its mark or zone.
    pub(super) fn ct(&mut self, attributes: &[DefaultNla]) -> Option<()> {
        let has = |kind| {
            attributes
                .iter()
                .find(|a| a.kind() == kind)
                .and_then(number)
        };
        let (r1, key) = (
            u32::from(R1),
            has(NFTA_CT_KEY).filter(|_| attributes.len() == 2)?,
        );
        if has(NFTA_CT_SREG) == Some(r1) {
            let statement = match (key, self.loaded) {
                (NFT_CT_MARK, Loaded::Mark) => Statement::SaveMark,
                (NFT_CT_ZONE, Loaded::Value([a, b, ..], 2)) => {
                    Statement::SetZone(u16::from_ne_bytes([a, b]))
                }
                _ => return None,
            };
            return self.done(statement);
        }
        let loaded = match key {
            NFT_CT_STATE => Loaded::CtState,
            NFT_CT_MARK => Loaded::CtMark,
            _ => return None,
        };
        (has(NFTA_CT_DREG) == Some(r1) && self.load(Some(loaded))).then_some(())
    }

    pub(super) fn redir(&mut self, attributes: &[DefaultNla]) -> Option<()> {
        let r1 = u32::from(R1);
        let known = |a: &DefaultNla| match a.kind() {
            NFTA_REDIR_REG_PROTO_MIN | NFTA_REDIR_REG_PROTO_MAX => number(a) == Some(r1),
            NFTA_REDIR_FLAGS => number(a) == Some(NF_NAT_RANGE_PROTO_SPECIFIED),
            _ => false,
        };
        let to_port = attributes
            .iter()
            .any(|a| a.kind() == NFTA_REDIR_REG_PROTO_MIN)
            && attributes.iter().all(known);
        let port = self.port().filter(|_| to_port)?;
        self.done(Statement::Redirect(port))
    }

    pub(super) fn tproxy(&mut self, attributes: &[DefaultNla]) -> Option<()> {
        let has = |kind| {
            attributes
                .iter()
                .find(|a| a.kind() == kind)
                .and_then(number)
        };
        let family = [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .find(|f| has(NFTA_TPROXY_FAMILY) == Some(nfproto(*f).into()))?;
        let to_port = attributes.len() == 2 && has(NFTA_TPROXY_REG_PORT) == Some(R1.into());
        let port = self.port().filter(|_| to_port)?;
        self.done(Statement::Tproxy(family, port))
    }

    fn port(&self) -> Option<u16> {
        if let Loaded::Value([a, b, ..], 2) = self.loaded {
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

fn verdict(attributes: &[VerdictAttribute]) -> Statement {
    let chain = attributes.iter().find_map(|a| {
        if let VerdictAttribute::Chain(chain) = a {
            Some(chain.clone())
        } else {
            None
        }
    });
    let code = attributes.iter().find_map(|a| {
        if let VerdictAttribute::Code(code) = a {
            Some(*code)
        } else {
            None
        }
    });
    match (code, chain) {
        (Some(Code::Return), None) => Statement::Return,
        (Some(Code::Jump), Some(chain)) => Statement::Jump(chain),
        (Some(Code::Other(NF_DROP)), None) => Statement::Drop,
        (Some(Code::Other(NF_ACCEPT)), None) => Statement::Accept,
        (code, chain) => Statement::Other(format!("{code:?} {}", chain.unwrap_or_default())),
    }
}

fn number(attribute: &DefaultNla) -> Option<u32> {
    let mut bytes = [0; 4];
    (attribute.value_len() == 4)
        .then(|| attribute.emit_value(&mut bytes))
        .map(|()| u32::from_be_bytes(bytes))
}
