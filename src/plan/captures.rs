//! What a plan captures, in sentences for people.

use super::{Plan, packet::DNS};
use crate::{
    mesh::InterceptionMode,
    profile::{IfName, Selection},
};

pub(super) fn sentences(plan: &Plan) -> Vec<String> {
    let (intent, mut out) = (&plan.intent, Vec::new());
    let families = if plan.families.ipv6 {
        "IPv4 and IPv6"
    } else {
        "IPv4 only"
    };
    out.push(format!("TCP over {families}."));
    let keeping = match intent.mode {
        InterceptionMode::Redirect => "",
        InterceptionMode::Tproxy => ", addresses unchanged (TPROXY)",
    };
    out.push(match &intent.inbound.include {
        Selection::All => {
            let excluded = intent
                .inbound
                .exclude
                .iter()
                .copied()
                .chain([intent.ports.tunnel]);
            format!(
                "Inbound: every port but {} goes to the sidecar's port {}{keeping}.",
                list(excluded),
                intent.ports.inbound
            )
        }
        Selection::Only(ports) => {
            match list(ports.iter().filter(|p| **p != intent.ports.tunnel)).as_str() {
                "none" => "Inbound: nothing.".into(),
                ports => format!(
                    "Inbound: only ports {ports} go to the sidecar's port {}{keeping}.",
                    intent.ports.inbound
                ),
            }
        }
    });
    let outbound = &intent.outbound;
    out.push(sentence_of_outbound(plan));
    if intent.dns_capture {
        let excluded = outbound.exclude_ports.contains(&DNS)
            || outbound.owner_groups.include == Selection::Only(vec![]);
        out.push(match excluded {
            true => "DNS is to be captured, but is excluded.".into(),
            false => format!(
                "DNS (port {DNS}, TCP and UDP) to any resolver goes to the sidecar's port {}.",
                intent.ports.dns
            ),
        });
    }
    match &outbound.owner_groups.include {
        Selection::Only(groups) => out.push(format!(
            "Outbound is captured from processes of groups {} only.",
            list(groups)
        )),
        Selection::All if !outbound.owner_groups.exclude.is_empty() => {
            out.push(format!(
                "Outbound connections of groups {} bypass the sidecar.",
                list(&outbound.owner_groups.exclude)
            ));
        }
        Selection::All => {}
    }
    // one that is rerouted as well is rerouted
    let excluded: Vec<_> = intent
        .exclude_interfaces
        .iter()
        .filter(|e| !intent.reroute_interfaces.contains(e))
        .collect();
    let but = if excluded.is_empty() {
        String::new()
    } else {
        format!(" but {}, which are left alone", list(excluded))
    };
    out.push(match &plan.only_interfaces {
        None => format!("Interfaces: all{but}."),
        Some(names) => format!(
            "Interfaces: {}{but}; those that come later are left alone.",
            list(names)
        ),
    });
    if !intent.reroute_interfaces.is_empty() {
        out.push(format!(
            "What comes in by {} is treated as outbound.",
            list::<&IfName>(&intent.reroute_interfaces)
        ));
    }
    if intent.drop_invalid {
        out.push("Packets that conntrack calls invalid are dropped.".into());
    }
    out.push(format!(
        "Connections of uid {} or gid {} (the sidecar itself) go out directly; those to the pod's own addresses come in again at port {}.",
        intent.proxy.uid, intent.proxy.gid, intent.ports.inbound
    ));
    let dns = if intent.dns_capture {
        " other than DNS"
    } else {
        ""
    };
    out.push(match plan.captures_loopback() {
        true => "Connections of the application within the pod are captured as well, but for those to 127.0.0.1 and ::1.".into(),
        false => format!("Connections of the application within the pod{dns} are not captured."),
    });
    out
}

fn sentence_of_outbound(plan: &Plan) -> String {
    let outbound = &plan.intent.outbound;
    let captured =
        |range: &&ipnet::IpNet| plan.families.ipv6 || matches!(range, ipnet::IpNet::V4(_));
    let mut what = match &outbound.include_ranges {
        Selection::All => vec!["every destination".to_owned()],
        Selection::Only(ranges) => match list(ranges.iter().filter(captured)).as_str() {
            "none" => vec![],
            ranges => vec![format!("destinations in {ranges}")],
        },
    };
    if !outbound.include_ports.is_empty() {
        what.push(format!(
            "ports {} of every destination",
            list(&outbound.include_ports)
        ));
    }
    if what.is_empty() || outbound.owner_groups.include == Selection::Only(vec![]) {
        return "Outbound: nothing.".into();
    }
    let ranges = outbound
        .exclude_ranges
        .iter()
        .filter(captured)
        .map(ToString::to_string);
    let excluded: Vec<String> = ranges
        .chain(outbound.exclude_ports.iter().map(|p| format!("port {p}")))
        .collect();
    let but = if excluded.is_empty() {
        String::new()
    } else {
        format!(", but not {},", excluded.join(", "))
    };
    format!(
        "Outbound: {}{but} goes to the sidecar's port {}.",
        what.join(" and "),
        plan.intent.ports.outbound
    )
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|i| i.to_string()).collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{
        Plan,
        fixtures::{intent, network},
    };

    fn sentences_of(annotations: &[(&str, &str)], env: &[(&str, &str)]) -> String {
        Plan::new(&intent(annotations, env), &network(true, false))
            .unwrap()
            .captures()
            .join("\n")
    }

    #[test]
    fn the_sentences_say_what_the_rules_do() {
        let dns = ("ISTIO_META_DNS_CAPTURE", "true");
        for (annotations, env, part) in [
            (
                &[][..],
                &[][..],
                "Outbound: every destination, but not port 15020, goes to",
            ),
            (
                &[("traffic.sidecar.istio.io/includeOutboundIPRanges", "")],
                &[],
                "Outbound: nothing.",
            ),
            (
                &[(
                    "traffic.sidecar.istio.io/includeOutboundIPRanges",
                    "10.0.0.0/8,fd00::/8",
                )],
                &[],
                "destinations in 10.0.0.0/8,",
            ),
            (
                &[(
                    "traffic.sidecar.istio.io/includeOutboundIPRanges",
                    "127.0.0.0/8",
                )],
                &[],
                "but for those to 127.0.0.1",
            ),
            (
                &[("sidecar.istio.io/interceptionMode", "TPROXY")],
                &[],
                "addresses unchanged (TPROXY)",
            ),
            (
                &[("traffic.sidecar.istio.io/excludeInterfaces", "net1")],
                &[],
                "Interfaces: all but net1, which are left alone.",
            ),
            (
                &[],
                &[dns],
                "DNS (port 53, TCP and UDP) to any resolver goes to the sidecar's port 15053.",
            ),
            (
                &[("traffic.sidecar.istio.io/excludeOutboundPorts", "53")],
                &[dns],
                "DNS is to be captured, but is excluded.",
            ),
        ] {
            assert!(
                sentences_of(annotations, env).contains(part),
                "{part}: {}",
                sentences_of(annotations, env)
            );
        }
    }
}
