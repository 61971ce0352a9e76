//! Table raw.

use super::{
    Chain, INBOUND, Lower, Match, OUTPUT, OUTPUT_DNS, PREROUTING, Rule, Target, jump, owned, port,
    with_rules,
};
use crate::plan::packet::{
    APPLICATION_ZONE, DNS,
    Protocol::Udp,
    RESOLVER_ZONE,
    Side::{Destination, Source},
};

impl Lower<'_> {
    pub(super) fn raw(&self) -> Vec<Chain> {
        if !self.plan.intent.dns_capture {
            return vec![];
        }
        let to_resolver = || port(Udp, Destination, DNS);
        let mut output = Vec::new();
        for owner in self.owners() {
            let by_proxy = |matches: Vec<Match>, zone| {
                Rule::new(
                    matches.into_iter().chain([owned(false, owner)]),
                    Target::SetZone(zone),
                )
            };
            output.push(by_proxy(to_resolver(), RESOLVER_ZONE));
            output.push(by_proxy(
                port(Udp, Source, self.plan.intent.ports.dns),
                APPLICATION_ZONE,
            ));
        }
        output.push(Rule::new(to_resolver(), Target::SetZone(APPLICATION_ZONE)));
        with_rules(vec![
            (
                PREROUTING,
                self.on_each(Match::of_in, || Rule::new([], jump(INBOUND))),
            ),
            (
                OUTPUT,
                self.on_each(Match::of_out, || Rule::new([], jump(OUTPUT_DNS))),
            ),
            (
                INBOUND,
                vec![Rule::new(
                    port(Udp, Source, DNS),
                    Target::SetZone(RESOLVER_ZONE),
                )],
            ),
            (OUTPUT_DNS, output),
        ])
    }
}
