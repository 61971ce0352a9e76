//! What a foreign rule does to a packet.

use crate::{
    kernel::nftables::{
        decode::{Expression, NftVerdict},
        uapi::{code, ct, ct_key, immediate, lookup, meta, payload, payload_base, target},
    },
    plan::ipt::HARMLESS,
};

/// What an expression does with a packet, seen from our chains.
pub(super) enum Effect {
    GoesOn,
    /// Its way through this table ends; our chains still see it.
    Ends(String),
    Decides(String),
    LeadsTo(String),
}

pub(super) fn effect_of(expression: &Expression<'_>, marks: bool) -> Effect {
    let has = |kind| {
        expression
            .data
            .is_some_and(|data| data.find(kind).is_some())
    };
    let decides = |what: &str| Effect::Decides(what.to_owned());
    match expression.name {
        "immediate" => {
            let data = expression.data.and_then(|data| data.find(immediate::DATA));
            data.and_then(NftVerdict::of)
                .map_or(Effect::GoesOn, of_verdict)
        }
        // its elements may be any verdict
        "lookup" if has(lookup::TO) => decides("a map"),
        "meta" if has(meta::FROM) && marks => decides("meta set"),
        "payload" if has(payload::FROM) && !is_type_of_service(expression) => {
            decides("a change of the packet")
        }
        "ct" if has(ct::FROM) && (marks || !is_mark(expression)) => decides("ct set"),
        name @ ("redir" | "nat" | "masq" | "tproxy" | "notrack" | "reject" | "queue"
        | "synproxy" | "fwd") => decides(name),
        "target" => {
            let name = expression.data.and_then(|data| data.text(target::NAME));
            match name.unwrap_or_default() {
                "MARK" | "CONNMARK" if !marks => Effect::GoesOn,
                harmless if HARMLESS.contains(&harmless) => Effect::GoesOn,
                target => decides(target),
            }
        }
        _ => Effect::GoesOn,
    }
}

/// Whether it writes no more than an IP header's first two bytes, as `ip dscp set` does.
fn is_type_of_service(expression: &Expression<'_>) -> bool {
    let number = |kind| expression.data.and_then(|data| data.number(kind));
    let end = number(payload::OFFSET)
        .zip(number(payload::LENGTH))
        .map(|(at, length)| at.saturating_add(length));
    number(payload::BASE) == Some(payload_base::NETWORK_HEADER) && end.is_some_and(|end| end <= 2)
}

/// Whether it writes conntrack's mark.
fn is_mark(expression: &Expression<'_>) -> bool {
    expression.data.and_then(|data| data.number(ct::KEY)) == Some(ct_key::MARK)
}

fn of_verdict(verdict: NftVerdict<'_>) -> Effect {
    match (verdict.code, verdict.chain) {
        (_, Some(chain)) => Effect::LeadsTo(chain.to_owned()),
        // back to the caller, or to the policy, which accepts
        (code::RETURN | code::CONTINUE, None) => Effect::GoesOn,
        (code::ACCEPT, None) => Effect::Ends("accept".into()),
        (code::DROP, None) => Effect::Decides("drop".into()),
        (code, None) => Effect::Decides(format!("verdict {}", code.cast_signed())),
    }
}
