//! The iptables form of a plan, row for row as Istio programs it; [`super::corrections`] has what differs.

mod mangle;
mod nat;
mod raw;

use ipnet::IpNet;

use super::{Chain, Match, Rule, Ruleset, SocketOwner, Table, TableName, Target, corrections};
use crate::{
    mesh::InterceptionMode,
    plan::{
        Plan,
        packet::{
            Family,
            Protocol::{self, Tcp},
            Side::{self, Destination},
        },
    },
    profile::{IfName, Selection},
};

const PREROUTING: &str = "PREROUTING";
const OUTPUT: &str = "OUTPUT";
const INBOUND: &str = "ISTIO_INBOUND";
const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";

/// The rules of one family.
pub(in crate::plan) fn ruleset(plan: &Plan, family: Family) -> Ruleset {
    let lower = Lower {
        plan,
        family,
        mode: plan.intent.mode,
        lo: IfName::lo(),
    };
    let tables = [
        (TableName::Mangle, lower.mangle()),
        (TableName::Nat, lower.nat()),
        (TableName::Raw, lower.raw()),
    ];
    let tables = tables
        .into_iter()
        .filter(|(_, chains)| !chains.is_empty())
        .map(|(name, chains)| Table { name, chains });
    Ruleset {
        family,
        tables: tables.collect(),
    }
}

struct Lower<'a> {
    plan: &'a Plan,
    family: Family,
    mode: InterceptionMode,
    lo: IfName,
}

impl Lower<'_> {
    /// The rule; with `interfaces: Primary`, once for each interface that is not left alone. Istio knows no such choice.
    fn on_each(&self, by: impl Fn(&IfName) -> Match, of_all: impl Fn() -> Rule) -> Vec<Rule> {
        match &self.plan.only_interfaces {
            None => vec![of_all()],
            Some(names) => {
                let on = |name| {
                    let Rule { matches, target } = of_all();
                    Rule {
                        matches: [by(name)].into_iter().chain(matches).collect(),
                        target,
                    }
                };
                names.iter().map(on).collect()
            }
        }
    }

    fn excluded_interfaces(&self, by: impl Fn(&IfName) -> Match) -> Vec<Rule> {
        self.plan
            .intent
            .exclude_interfaces
            .iter()
            .map(|e| Rule::new([by(e)], Target::Return))
            .collect()
    }

    fn captures_inbound(&self) -> bool {
        self.plan.intent.inbound.include != Selection::Only(vec![])
    }

    fn tunnel(&self) -> Rule {
        Rule::new(
            port(Tcp, Destination, self.plan.intent.ports.tunnel),
            Target::Return,
        )
    }

    fn not_inbound(&self) -> impl Iterator<Item = Rule> {
        self.plan
            .intent
            .inbound
            .exclude
            .iter()
            .map(|p| Rule::new(port(Tcp, Destination, *p), Target::Return))
    }

    fn owners(&self) -> [SocketOwner; 2] {
        let proxy = &self.plan.intent.proxy;
        [SocketOwner::User(proxy.uid), SocketOwner::Group(proxy.gid)]
    }

    fn out_lo(&self) -> Match {
        Match::of_out(&self.lo)
    }

    fn not_loopback(&self) -> Match {
        address(Destination, true, self.family.loopback())
    }

    /// The matches of captured destinations: one without any for "all".
    fn destinations(&self, ranges: &Selection<IpNet>) -> Vec<Vec<Match>> {
        match ranges {
            Selection::All => vec![vec![]],
            Selection::Only(list) => self.networks(list),
        }
    }

    /// The matches of listed destinations of this family, each once.
    fn networks(&self, list: &[IpNet]) -> Vec<Vec<Match>> {
        let mut out: Vec<Vec<Match>> = Vec::new();
        for network in list
            .iter()
            .map(IpNet::trunc)
            .filter(|n| Family::of(n) == self.family)
        {
            let everything = network.prefix_len() == 0;
            let matches = if everything {
                vec![]
            } else {
                vec![address(Destination, false, network)]
            };
            if !out.contains(&matches) {
                out.push(matches);
            }
        }
        out
    }
}

fn with_rules(chains: Vec<(&str, Vec<Rule>)>) -> Vec<Chain> {
    let chain = |(name, rules): (&str, _)| {
        let policy = [PREROUTING, OUTPUT]
            .contains(&name)
            .then(|| "ACCEPT".to_owned());
        Chain {
            name: name.into(),
            policy,
            rules,
        }
    };
    chains
        .into_iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(chain)
        .collect()
}

fn tcp() -> Match {
    Match::Protocol(Tcp)
}

fn port(protocol: Protocol, side: Side, port: u16) -> Vec<Match> {
    vec![
        Match::Protocol(protocol),
        Match::Port {
            protocol,
            side,
            not: false,
            port,
        },
    ]
}

fn address(side: Side, not: bool, network: IpNet) -> Match {
    Match::Address { side, not, network }
}

fn owned(not: bool, owner: SocketOwner) -> Match {
    Match::Owner { not, owner }
}

fn mark(not: bool, mark: u32) -> Match {
    Match::Mark { not, mark }
}

fn jump(chain: &str) -> Target {
    Target::Jump(chain.into())
}
