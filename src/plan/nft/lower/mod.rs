//! The nftables form of a plan. Equal in behavior to the iptables form that Istio programs; rows are cited by its chain and the
//! purpose they have there.
//!
//! Istio's rules `! --uid-owner` match a packet without a socket, `skuid !=` does not. So nothing here negates an owner: what an owner
//! rule leaves over falls through to the next rule, which says the same of all packets alike.

mod mangle;
mod nat;
mod raw;
mod rules;

use super::Table;
use crate::{mesh::InterceptionMode, plan::Plan};

pub(in crate::plan) fn table(plan: &Plan) -> Table {
    let chains = [
        nat::prerouting(plan),
        Some(nat::output(plan)),
        Some(nat::outbound(plan)),
        mangle::prerouting(plan),
    ];
    let mut chains: Vec<_> = chains.into_iter().flatten().collect();
    if plan.intent.mode == InterceptionMode::Tproxy {
        chains.extend([mangle::inbound(plan), mangle::output(plan)]);
    }
    if plan.intent.dns_capture {
        chains.extend([raw::prerouting(plan), raw::output(plan)]);
    }
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    Table {
        flags: 0,
        chains,
        unnamed: 0,
        is_cut: false,
    }
}
