//! The kernel modules that rules need beside those of every rule.

use crate::plan::nft::{Match, Rule, Statement};

/// What an nf_tables rule needs; `None` where it is nothing, or what every rule of ours needs.
pub(super) fn of_nftables(rule: &Rule) -> Option<&'static str> {
    let of_statements = rule.statements.iter().find_map(of_statement);
    of_statements.or_else(|| rule.matches.iter().find_map(of_match))
}

const CONNTRACK: &str = "nft_ct";

fn of_statement(statement: &Statement) -> Option<&'static str> {
    match statement {
        Statement::Redirect(_) => Some("nft_redir"),
        Statement::Tproxy(..) => Some("nft_tproxy"),
        Statement::SetZone(_) => Some("nft_ct (with CONFIG_NF_CONNTRACK_ZONES)"),
        Statement::SaveMark | Statement::RestoreMark => Some(CONNTRACK),
        Statement::Return
        | Statement::Accept
        | Statement::Drop
        | Statement::Jump(_)
        | Statement::SetMark(_)
        | Statement::Other(_) => None,
    }
}

fn of_match(condition: &Match) -> Option<&'static str> {
    match condition {
        Match::CtState(_) | Match::CtMark(_) => Some(CONNTRACK),
        Match::Family(_)
        | Match::Protocol(_)
        | Match::Interface { .. }
        | Match::Address { .. }
        | Match::Port { .. }
        | Match::SocketUser(_)
        | Match::SocketGroup(_)
        | Match::Mark { .. }
        | Match::Other(_) => None,
    }
}

/// What the target and the matches of a line of `iptables-restore` need.
pub(super) fn of_iptables(line: &str) -> Option<&'static str> {
    let words: Vec<_> = line.split(' ').collect();
    let after = |option: &str| {
        let mut named = words.windows(2).filter(|pair| pair[0] == option);
        named.find_map(|pair| of_extension(pair[1]))
    };
    after("-j").or_else(|| after("-m"))
}

/// What an extension of iptables needs.
pub(super) fn of_extension(name: &str) -> Option<&'static str> {
    match name {
        "TPROXY" => Some("xt_TPROXY"),
        "CT" => Some("xt_CT (with CONFIG_NF_CONNTRACK_ZONES)"),
        "CONNMARK" | "connmark" => Some("xt_connmark"),
        "multiport" => Some("xt_multiport"),
        "owner" => Some("xt_owner"),
        "conntrack" => Some("xt_conntrack"),
        "REDIRECT" => Some("xt_REDIRECT"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
        packet::Family,
    };

    #[test]
    fn what_a_rule_needs_is_known_by_the_rule() {
        let settings = [
            ("sidecar.istio.io/interceptionMode", "TPROXY"),
            ("traffic.sidecar.istio.io/includeOutboundPorts", "80,443"),
        ];
        let env = [("ISTIO_META_DNS_CAPTURE", "true"), ("INVALID_DROP", "true")];
        let plan = Plan::new(&intent(&settings, &env), &network(true, false)).unwrap();
        let table = plan.nftables();
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        let mut needed: Vec<_> = rules.filter_map(of_nftables).collect();
        needed.sort_unstable();
        needed.dedup();
        let zones = "nft_ct (with CONFIG_NF_CONNTRACK_ZONES)";
        assert_eq!(needed, ["nft_ct", zones, "nft_redir", "nft_tproxy"]);
        let text = plan.iptables(Family::Ipv4).to_string();
        let mut needed: Vec<_> = text.lines().filter_map(of_iptables).collect();
        needed.sort_unstable();
        needed.dedup();
        assert_eq!(
            needed,
            [
                "xt_CT (with CONFIG_NF_CONNTRACK_ZONES)",
                "xt_REDIRECT",
                "xt_TPROXY",
                "xt_connmark",
                "xt_conntrack",
                "xt_multiport",
                "xt_owner"
            ]
        );
    }
}
