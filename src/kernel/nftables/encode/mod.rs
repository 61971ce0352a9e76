//! The plan's rules as the kernel's expressions and sets.

mod expressions;

pub(super) use self::expressions::{address_field, ct_state_bits, nfproto, port_offset};

use netlink_packet_netfilter::nftables::{
    DataAttribute, ExpressionAttribute, Expressions, ListAttribute, MetaKey, NfTablesMessage,
    Register, SetFlags, Verdict as Code, VerdictAttribute,
};

use super::{
    sets::{Element, GROUP, INTERFACE, KeyType, SERVICE, intervals},
    uapi,
};
use crate::plan::{
    nft::{Match, Networks, Rule, Statement},
    packet::{Direction, Protocol, Side},
};

pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;
pub(super) const IPPROTO_TCP: u8 = 6;
pub(super) const IPPROTO_UDP: u8 = 17;
pub(super) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
pub(super) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
pub(super) const NFT_LOOKUP_F_INV: u32 = 1;
pub(super) const NFT_CT_STATE: u32 = 0;
pub(super) const NFT_CT_MARK: u32 = 3;
pub(super) const NFT_CT_ZONE: u32 = 17;
/// The template of an anonymous set's name.
const ANONYMOUS: &str = "__set%d";
const R1: Register = Register::Reg1;

/// The expressions of a rule.
pub(super) type Encoded = Vec<ListAttribute<ExpressionAttribute>>;

/// Encodes rules one after the other; numbers their sets.
#[derive(Default)]
pub(super) struct Encoder {
    sets: u32,
}

impl Encoder {
    /// The messages that make the rule's sets, which must come before it, and its expressions.
    pub(super) fn rule(&mut self, rule: &Rule) -> (Vec<NfTablesMessage>, Encoded) {
        let mut out = RuleEncoder {
            encoder: self,
            messages: vec![],
            expressions: vec![],
        };
        for condition in &rule.matches {
            out.condition(condition);
        }
        for statement in &rule.statements {
            out.statement(statement);
        }
        (
            out.messages,
            out.expressions.into_iter().map(Into::into).collect(),
        )
    }
}

struct RuleEncoder<'a> {
    encoder: &'a mut Encoder,
    messages: Vec<NfTablesMessage>,
    expressions: Vec<Expressions>,
}

impl RuleEncoder<'_> {
    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Family(family) => {
                self.load_meta(MetaKey::Nfproto);
                self.compare(false, vec![nfproto(*family)]);
            }
            Match::Protocol(protocol) => {
                self.load_meta(MetaKey::L4Proto);
                self.compare(
                    false,
                    vec![match protocol {
                        Protocol::Tcp => IPPROTO_TCP,
                        Protocol::Udp => IPPROTO_UDP,
                    }],
                );
            }
            Match::Interface {
                direction,
                not,
                names,
            } => {
                self.load_meta(match direction {
                    Direction::In => MetaKey::Iifname,
                    Direction::Out => MetaKey::Oifname,
                });
                self.one_of(
                    *not,
                    INTERFACE,
                    names.iter().map(|n| Element::key(n.padded())).collect(),
                );
            }
            Match::Address {
                side,
                not,
                networks,
            } => self.address(*side, *not, networks),
            Match::Port { side, not, ports } => {
                self.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(*side), 2);
                self.one_of(
                    *not,
                    SERVICE,
                    ports
                        .iter()
                        .map(|p| Element::key(p.to_be_bytes()))
                        .collect(),
                );
            }
            Match::SocketUser(uid) => {
                self.load_meta(MetaKey::SocketUserId);
                self.compare(false, uid.to_ne_bytes().to_vec());
            }
            Match::SocketGroup(gids) => {
                self.load_meta(MetaKey::SocketGroupId);
                self.one_of(
                    false,
                    GROUP,
                    gids.iter().map(|g| Element::key(g.to_ne_bytes())).collect(),
                );
            }
            Match::CtState(state) => {
                self.load_ct(NFT_CT_STATE);
                self.mask(ct_state_bits(*state).to_ne_bytes().to_vec());
                self.compare(true, vec![0; 4]);
            }
            Match::Mark { not, mark } => {
                self.load_meta(MetaKey::Mark);
                self.compare(*not, mark.to_ne_bytes().to_vec());
            }
            Match::CtMark(mark) => {
                self.load_ct(NFT_CT_MARK);
                self.compare(false, mark.to_ne_bytes().to_vec());
            }
            Match::Other(_) => self.never(),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        let code = |code| vec![VerdictAttribute::Code(code)];
        let verdict = match statement {
            Statement::Return => code(Code::Return),
            Statement::Accept => code(Code::Other(uapi::code::ACCEPT)),
            Statement::Drop => code(Code::Other(uapi::code::DROP)),
            Statement::Jump(chain) => vec![
                VerdictAttribute::Code(Code::Jump),
                VerdictAttribute::Chain(chain.clone()),
            ],
            Statement::Redirect(port) => {
                self.immediate(R1, DataAttribute::Value(port.to_be_bytes().to_vec()));
                return self.other("redir", &[(uapi::redir::PORT, R1.into())]);
            }
            Statement::Tproxy(family, port) => {
                self.immediate(R1, DataAttribute::Value(port.to_be_bytes().to_vec()));
                return self.other(
                    "tproxy",
                    &[
                        (uapi::tproxy::FAMILY, nfproto(*family).into()),
                        (uapi::tproxy::PORT, R1.into()),
                    ],
                );
            }
            Statement::SetMark(mark) => {
                self.immediate(R1, DataAttribute::Value(mark.to_ne_bytes().to_vec()));
                return self.set_meta(MetaKey::Mark);
            }
            Statement::SaveMark => {
                self.load_meta(MetaKey::Mark);
                return self.set_ct(NFT_CT_MARK);
            }
            Statement::RestoreMark => {
                self.load_ct(NFT_CT_MARK);
                return self.set_meta(MetaKey::Mark);
            }
            Statement::SetZone(zone) => {
                self.immediate(R1, DataAttribute::Value(zone.to_ne_bytes().to_vec()));
                return self.set_ct(NFT_CT_ZONE);
            }
            Statement::Other(_) => return self.never(),
        };
        self.immediate(Register::Verdict, DataAttribute::Verdict(verdict));
    }

    fn address(&mut self, side: Side, not: bool, networks: &Networks) {
        let (offset, length) = address_field(networks.family(), side);
        self.load_payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length);
        let one = match networks {
            Networks::V4(list) => {
                if let [n] = list.as_slice() {
                    Some((
                        n.addr().octets().to_vec(),
                        n.netmask().octets().to_vec(),
                        n.prefix_len() == 32,
                    ))
                } else {
                    None
                }
            }
            Networks::V6(list) => {
                if let [n] = list.as_slice() {
                    Some((
                        n.addr().octets().to_vec(),
                        n.netmask().octets().to_vec(),
                        n.prefix_len() == 128,
                    ))
                } else {
                    None
                }
            }
        };
        match one {
            Some((address, mask, host)) => {
                if !host {
                    self.mask(mask);
                }
                self.compare(not, address);
            }
            None => {
                let (kind, elements) = intervals(networks);
                self.lookup(not, kind, SetFlags::Interval, elements);
            }
        }
    }

    /// One value is compared, several are looked up.
    fn one_of(&mut self, not: bool, kind: KeyType, elements: Vec<Element>) {
        match <[Element; 1]>::try_from(elements) {
            Ok([one]) => self.compare(not, one.key.to_vec()),
            Err(several) => self.lookup(not, kind, SetFlags::empty(), several),
        }
    }
}
