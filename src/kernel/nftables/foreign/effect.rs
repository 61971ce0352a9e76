//! What a foreign rule does to a packet.

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    NfTablesMessage, Payload, RuleAttribute, Verdict, VerdictAttribute,
};

use crate::{
    kernel::nftables::encode::{NF_ACCEPT, NF_DROP, NFTA_CT_SREG},
    plan::ipt::HARMLESS,
};

/// `NFTA_TARGET_NAME` of an iptables target.
const NFTA_TARGET_NAME: u16 = 1;

pub(super) fn expressions(
    object: &NfTablesMessage,
) -> impl Iterator<Item = &Vec<ExpressionAttribute>> {
    let attributes = if let NfTablesMessage::NewRule(rule) = object {
        rule.attributes.as_slice()
    } else {
        &[]
    };
    let lists = attributes.iter().filter_map(|a| {
        if let RuleAttribute::Expressions(list) = a {
            Some(list)
        } else {
            None
        }
    });
    lists.flatten().filter_map(|e| {
        if let ListAttribute::Element(attributes) = e {
            Some(attributes)
        } else {
            None
        }
    })
}

/// What an expression does with a packet, seen from our chains.
pub(super) enum What {
    GoesOn,
    /// Its way through this table ends; our chains still see it.
    Ends(String),
    Decides(String),
    LeadsTo(String),
}

pub(super) fn what(attributes: &[ExpressionAttribute], marks: bool) -> What {
    let name = attributes.iter().find_map(|a| {
        if let ExpressionAttribute::Name(name) = a {
            Some(name.as_str())
        } else {
            None
        }
    });
    let data = attributes.iter().find_map(|a| {
        if let ExpressionAttribute::Data(data) = a {
            Some(data)
        } else {
            None
        }
    });
    let decides = |what: &str| What::Decides(what.to_owned());
    match (name.unwrap_or_default(), data) {
        (_, Some(Expressions::Immediate(attributes))) => {
            let verdict = |a: &Immediate| {
                if let Immediate::Data(DataAttribute::Verdict(v)) = a {
                    Some(of_verdict(v))
                } else {
                    None
                }
            };
            attributes.iter().find_map(verdict).unwrap_or(What::GoesOn)
        }
        // its elements may be any verdict
        (_, Some(Expressions::Lookup(attributes))) => {
            if attributes
                .iter()
                .any(|a| matches!(a, Lookup::DestinationRegister(_)))
            {
                decides("a map")
            } else {
                What::GoesOn
            }
        }
        (_, Some(Expressions::Meta(attributes)))
            if attributes
                .iter()
                .any(|a| matches!(a, Meta::SourceRegister(_))) =>
        {
            if marks {
                decides("meta set")
            } else {
                What::GoesOn
            }
        }
        (_, Some(Expressions::Payload(attributes)))
            if attributes
                .iter()
                .any(|a| matches!(a, Payload::SourceRegister(_))) =>
        {
            decides("a change of the packet")
        }
        ("ct", Some(Expressions::Other { attributes, .. }))
            if attributes.iter().any(|a| a.kind() == NFTA_CT_SREG) =>
        {
            decides("ct set")
        }
        (
            name @ ("redir" | "nat" | "masq" | "tproxy" | "notrack" | "reject" | "queue"
            | "synproxy" | "fwd"),
            _,
        ) => decides(name),
        ("target", Some(Expressions::Other { attributes, .. })) => {
            let target = attributes
                .iter()
                .find(|a| a.kind() == NFTA_TARGET_NAME)
                .map(text)
                .unwrap_or_default();
            match target.as_str() {
                "MARK" | "CONNMARK" if !marks => What::GoesOn,
                harmless if HARMLESS.contains(&harmless) => What::GoesOn,
                _ => What::Decides(target),
            }
        }
        _ => What::GoesOn,
    }
}

pub(super) fn of_verdict(attributes: &[VerdictAttribute]) -> What {
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
        (_, Some(chain)) => What::LeadsTo(chain),
        // back to the caller, or to the policy, which accepts
        (Some(Verdict::Return | Verdict::Continue), None) => What::GoesOn,
        (Some(Verdict::Other(NF_ACCEPT)), None) => What::Ends("accept".into()),
        (Some(Verdict::Other(NF_DROP)), None) => What::Decides("drop".into()),
        (code, None) => What::Decides(format!("{code:?}")),
    }
}

pub(super) fn text(attribute: &DefaultNla) -> String {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    String::from_utf8_lossy(&bytes)
        .trim_end_matches('\0')
        .to_owned()
}
