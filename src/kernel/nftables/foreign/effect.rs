//! What a foreign rule does to a packet.

use crate::{
    kernel::nftables::{
        decode::{Expression, Verdict},
        uapi::{code, ct, immediate, lookup, meta, payload, target},
    },
    plan::ipt::HARMLESS,
};

/// What an expression does with a packet, seen from our chains.
pub(super) enum What {
    GoesOn,
    /// Its way through this table ends; our chains still see it.
    Ends(String),
    Decides(String),
    LeadsTo(String),
}

pub(super) fn what(expression: &Expression<'_>, marks: bool) -> What {
    let has = |kind| {
        expression
            .data
            .is_some_and(|data| data.find(kind).is_some())
    };
    let decides = |what: &str| What::Decides(what.to_owned());
    match expression.name {
        "immediate" => {
            let data = expression.data.and_then(|data| data.find(immediate::DATA));
            data.and_then(Verdict::of).map_or(What::GoesOn, of_verdict)
        }
        // its elements may be any verdict
        "lookup" if has(lookup::TO) => decides("a map"),
        "meta" if has(meta::FROM) && marks => decides("meta set"),
        "payload" if has(payload::FROM) => decides("a change of the packet"),
        "ct" if has(ct::FROM) => decides("ct set"),
        name @ ("redir" | "nat" | "masq" | "tproxy" | "notrack" | "reject" | "queue"
        | "synproxy" | "fwd") => decides(name),
        "target" => {
            let name = expression.data.and_then(|data| data.text(target::NAME));
            match name.unwrap_or_default() {
                "MARK" | "CONNMARK" if !marks => What::GoesOn,
                harmless if HARMLESS.contains(&harmless) => What::GoesOn,
                target => decides(target),
            }
        }
        _ => What::GoesOn,
    }
}

fn of_verdict(verdict: Verdict<'_>) -> What {
    match (verdict.code, verdict.chain) {
        (_, Some(chain)) => What::LeadsTo(chain.to_owned()),
        // back to the caller, or to the policy, which accepts
        (code::RETURN | code::CONTINUE, None) => What::GoesOn,
        (code::ACCEPT, None) => What::Ends("accept".into()),
        (code::DROP, None) => What::Decides("drop".into()),
        (code, None) => What::Decides(format!("verdict {}", code.cast_signed())),
    }
}
