//! Which packets a foreign rule can match, as far as the rule says so plainly.

use crate::{
    kernel::nftables::{
        decode::{Expression, RuleText},
        uapi::{compare, family, meta, meta_key, operator},
        value::value,
    },
    plan::Plan,
};

/// Whether captured packets may match a rule. What is not understood may be any condition, which they may meet.
pub(super) fn sees(plan: &Plan, rule: &RuleText) -> bool {
    let mut loaded = None;
    for expression in rule.expressions() {
        match expression.name {
            "cmp" if loaded.is_some_and(|key| !may_be(plan, key, &expression)) => return false,
            "cmp" | "counter" => {}
            "meta" => {
                loaded = expression
                    .data
                    .and_then(|d| d.find(meta::TO).and(d.number(meta::KEY)))
            }
            _ => loaded = None,
        }
    }
    true
}

/// Whether what a packet that we capture has there may equal what the rule asks for.
fn may_be(plan: &Plan, key: u32, comparison: &Expression<'_>) -> bool {
    let Some(data) = comparison.data else {
        return true;
    };
    let wanted = data.find(compare::DATA).and_then(value);
    let (Some(operator::EQUAL), Some(wanted)) = (data.number(compare::OP), wanted) else {
        return true;
    };
    match (key, wanted) {
        (meta_key::L4PROTO, [number]) => plan.sees_protocol(*number),
        (meta_key::NFPROTO, [family::IPV6]) => plan.families.ipv6,
        // `enum ethertype`, in network order
        (meta_key::PROTOCOL, [0x86, 0xdd]) => plan.families.ipv6,
        (meta_key::PROTOCOL, [0x08, 0x00]) => true,
        (meta_key::PROTOCOL, [_, _]) => false,
        (meta_key::IIFNAME | meta_key::OIFNAME, name) => {
            let end = name.iter().position(|b| *b == 0);
            // without its end it is the beginning of a name
            end.and_then(|end| std::str::from_utf8(&name[..end]).ok())
                .is_none_or(|name| plan.sees_interface(name))
        }
        _ => true,
    }
}
