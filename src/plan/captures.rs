//! What a plan captures, in sentences for people.

use super::{Plan, packet::DNS};
use crate::mesh::{IfName, InterceptionMode, Selection};

pub(super) fn sentences(plan: &Plan) -> Vec<String> {
    let (intent, mut out) = (&plan.intent, Vec::new());
    let families = if plan.families.ipv6 { "IPv4 and IPv6" } else { "IPv4 only" };
    out.push(format!("TCP over {families}."));
    let keeping = match intent.mode {
        InterceptionMode::Redirect => "",
        InterceptionMode::Tproxy => ", addresses unchanged (TPROXY)",
    };
    out.push(match &intent.inbound.include {
        Selection::All => {
            let excluded = intent.inbound.exclude.iter().copied().chain([intent.ports.tunnel]);
            format!("Inbound: every port but {} goes to the sidecar's port {}{keeping}.", list(excluded), intent.ports.inbound)
        }
        Selection::Only(ports) => match list(ports.iter().filter(|p| **p != intent.ports.tunnel)).as_str() {
            "none" => "Inbound: nothing.".into(),
            ports => format!("Inbound: only ports {ports} go to the sidecar's port {}{keeping}.", intent.ports.inbound),
        },
    });
    let outbound = &intent.outbound;
    let mut to = match &outbound.include_ranges {
        Selection::All => "Outbound: every destination".to_owned(),
        Selection::Only(ranges) => {
            let captured = ranges.iter().filter(|r| plan.families.ipv6 || matches!(r, ipnet::IpNet::V4(_)));
            format!("Outbound: destinations in {}", list(captured))
        }
    };
    if !outbound.include_ports.is_empty() {
        to.push_str(&format!(" and every destination's ports {}", list(&outbound.include_ports)));
    }
    let excluded: Vec<String> =
        outbound.exclude_ranges.iter().map(ToString::to_string).chain(outbound.exclude_ports.iter().map(|p| format!("port {p}"))).collect();
    if !excluded.is_empty() {
        to.push_str(&format!(", but not {}", excluded.join(", ")));
    }
    out.push(format!("{to} goes to the sidecar's port {}.", intent.ports.outbound));
    if intent.dns_capture {
        let but = if outbound.exclude_ports.contains(&DNS) { " (but port 53 is excluded: none is)" } else { "" };
        out.push(format!("DNS (port {DNS}, TCP and UDP) to any resolver goes to the sidecar's port {}{but}.", intent.ports.dns));
    }
    match &outbound.owner_groups.include {
        Selection::Only(groups) => out.push(format!("Outbound is captured from processes of groups {} only.", list(groups))),
        Selection::All if !outbound.owner_groups.exclude.is_empty() => {
            out.push(format!("Outbound connections of groups {} bypass the sidecar.", list(&outbound.owner_groups.exclude)));
        }
        Selection::All => {}
    }
    let but = match intent.exclude_interfaces.as_slice() {
        [] => String::new(),
        names => format!(" but {}, which are left alone", list(names)),
    };
    out.push(match &plan.only_interfaces {
        None => format!("Interfaces: all{but}."),
        Some(names) => format!("Interfaces: {}{but}; those that come later are left alone.", list(names)),
    });
    if !intent.reroute_interfaces.is_empty() {
        out.push(format!("What comes in by {} is treated as outbound.", list::<&IfName>(&intent.reroute_interfaces)));
    }
    if intent.drop_invalid {
        out.push("Packets that conntrack calls invalid are dropped.".into());
    }
    let looped = if plan.captures_loopback() { "" } else { ", and connections within the pod," };
    out.push(format!("Connections of uid {} or gid {} (the sidecar itself){looped} are not captured.", intent.proxy.uid, intent.proxy.gid));
    out
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|i| i.to_string()).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}
