//! Table mangle.

use super::{
    Chain, INBOUND, Lower, Match, OUTPUT, PREROUTING, Rule, Target, address, corrections, jump,
    mark, owned, port, tcp, with_rules,
};
use crate::{
    mesh::InterceptionMode,
    plan::packet::{
        CtState, LOOP_MARK,
        Protocol::Tcp,
        Side::{Destination, Source},
        TPROXY_MARK,
    },
    profile::Selection,
};

const DIVERT: &str = "ISTIO_DIVERT";
const TPROXY: &str = "ISTIO_TPROXY";
const ISTIO_DROP: &str = "ISTIO_DROP";

impl Lower<'_> {
    pub(super) fn mangle(&self) -> Vec<Chain> {
        let mut chains = vec![(PREROUTING, self.mangle_prerouting())];
        if self.mode == InterceptionMode::Tproxy {
            chains.push((OUTPUT, self.mangle_output()));
            if self.captures_inbound() {
                chains.push((
                    DIVERT,
                    vec![
                        Rule::new([], Target::SetMark(TPROXY_MARK)),
                        Rule::new([], Target::Accept),
                    ],
                ));
            }
        }
        if self.plan.intent.drop_invalid {
            chains.push((ISTIO_DROP, vec![Rule::new([], Target::Drop)]));
        }
        if self.mode == InterceptionMode::Tproxy {
            chains.push((INBOUND, self.mangle_inbound()));
            if self.captures_inbound() {
                let tproxy =
                    Target::Tproxy(self.family, self.plan.intent.ports.inbound, TPROXY_MARK);
                chains.push((
                    TPROXY,
                    vec![Rule::new([self.not_loopback(), tcp()], tproxy)],
                ));
            }
        }
        with_rules(chains)
    }

    fn mangle_prerouting(&self) -> Vec<Rule> {
        let (intent, tproxy) = (&self.plan.intent, self.mode == InterceptionMode::Tproxy);
        let mut rules = if tproxy {
            self.excluded_interfaces(Match::of_in)
        } else {
            vec![]
        };
        if intent.drop_invalid {
            rules.extend(self.on_each(Match::of_in, || {
                Rule::new([Match::CtState(CtState::Invalid)], jump(ISTIO_DROP))
            }));
        }
        if tproxy {
            rules.extend(corrections::virtual_interfaces(&intent.reroute_interfaces));
            if self.captures_inbound() {
                rules.extend(self.on_each(Match::of_in, || Rule::new([tcp()], jump(INBOUND))));
            }
            rules.extend(self.on_each(Match::of_in, || {
                Rule::new([tcp(), mark(false, TPROXY_MARK)], Target::SaveMark)
            }));
        }
        rules
    }

    fn mangle_inbound(&self) -> Vec<Rule> {
        let passthrough = [
            address(Source, false, self.family.passthrough()),
            Match::of_in(&self.lo),
            tcp(),
        ];
        let mut rules = vec![
            Rule::new([tcp(), mark(false, TPROXY_MARK)], Target::Return),
            Rule::new(passthrough, Target::Return),
            Rule::new(
                [Match::of_in(&self.lo), tcp(), mark(true, LOOP_MARK)],
                Target::Return,
            ),
        ];
        rules.extend(corrections::tunnel(self.tunnel()));
        let known = Match::CtState(CtState::RelatedOrEstablished);
        match &self.plan.intent.inbound.include {
            Selection::All => {
                rules.extend(self.not_inbound());
                rules.push(Rule::new([tcp(), known], jump(DIVERT)));
                rules.push(Rule::new([tcp()], jump(TPROXY)));
            }
            Selection::Only(ports) => {
                for p in ports {
                    rules.push(Rule::new(
                        port(Tcp, Destination, *p)
                            .into_iter()
                            .chain([known.clone()]),
                        jump(DIVERT),
                    ));
                    rules.push(Rule::new(port(Tcp, Destination, *p), jump(TPROXY)));
                }
            }
        }
        rules
    }

    fn mangle_output(&self) -> Vec<Rule> {
        let mut rules = self.excluded_interfaces(Match::of_out);
        rules.push(Rule::new(
            [self.out_lo(), tcp(), mark(false, TPROXY_MARK)],
            Target::Return,
        ));
        let looped = |owner| {
            Rule::new(
                [
                    self.not_loopback(),
                    self.out_lo(),
                    tcp(),
                    owned(false, owner),
                ],
                Target::SetMark(LOOP_MARK),
            )
        };
        rules.extend(self.owners().map(looped));
        rules.extend(self.on_each(Match::of_out, || {
            Rule::new([tcp(), Match::ConnMark(TPROXY_MARK)], Target::RestoreMark)
        }));
        rules
    }
}
