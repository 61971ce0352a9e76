//! For any settings: the plan is what the kernel then has, with either backend, and istio-validation's probe arrives.

use std::{net::TcpListener, time::Duration};

use crate::support::{
    connections::Probe,
    data::{injected, intent_of},
    lab::{Node, PROXY, inside, on_node},
    run,
};
use mesh_optin::{
    deadline::Deadline,
    kernel::{Backend, Iptables, KernelError, Live, Netns, Network, Nftables, Tools},
    mesh::Intent,
    plan::{Plan, PodNetwork, summary},
    profile::{Interfaces, Profile, Selection},
};
use proptest::prelude::*;

/// Annotations, and variables of the proxy.
type Settings = (
    Vec<(&'static str, String)>,
    Vec<(&'static str, &'static str)>,
);

fn any_settings() -> impl Strategy<Value = Settings> {
    let ports = || {
        proptest::collection::vec(any::<u16>(), 0..6)
            .prop_map(|v| v.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
    };
    let v4 = (any::<[u8; 4]>(), 0u8..=32)
        .prop_map(|(a, l)| format!("{}/{l}", std::net::Ipv4Addr::from(a)));
    let v6 = (any::<[u8; 16]>(), 0u8..=128)
        .prop_map(|(a, l)| format!("{}/{l}", std::net::Ipv6Addr::from(a)));
    let ranges = || {
        proptest::collection::vec(prop_oneof![v4.clone(), v6.clone()], 0..6)
            .prop_map(|v| v.join(","))
    };
    let interfaces = || {
        proptest::collection::btree_set("[a-z][a-z0-9.-]{2,14}", 0..4)
            .prop_map(|v| v.into_iter().collect::<Vec<_>>().join(","))
    };
    let setting = prop_oneof![
        prop_oneof![ports(), Just("*".to_owned())]
            .prop_map(|v| ("traffic.sidecar.istio.io/includeInboundPorts", v)),
        ports().prop_map(|v| ("traffic.sidecar.istio.io/excludeInboundPorts", v)),
        prop_oneof![ranges(), Just("*".to_owned())]
            .prop_map(|v| ("traffic.sidecar.istio.io/includeOutboundIPRanges", v)),
        ranges().prop_map(|v| ("traffic.sidecar.istio.io/excludeOutboundIPRanges", v)),
        ports().prop_map(|v| ("traffic.sidecar.istio.io/includeOutboundPorts", v)),
        ports().prop_map(|v| ("traffic.sidecar.istio.io/excludeOutboundPorts", v)),
        interfaces().prop_map(|v| ("traffic.sidecar.istio.io/excludeInterfaces", v)),
        interfaces().prop_map(|v| ("istio.io/reroute-virtual-interfaces", v)),
        prop_oneof![Just("TPROXY"), Just("REDIRECT")]
            .prop_map(|v| ("sidecar.istio.io/interceptionMode", v.to_owned())),
    ];
    let flag = prop_oneof![
        Just(("ISTIO_DUAL_STACK", "true")),
        Just(("INVALID_DROP", "true")),
        Just(("ISTIO_META_DNS_CAPTURE", "true"))
    ];
    (
        proptest::collection::vec(setting, 0..9),
        proptest::collection::vec(flag, 0..3),
    )
}

/// Carries the plan out in a namespace of its own; what differs then, and where the probe of istio-validation lands.
fn carried_out<B: Backend>(
    node: &Node,
    open: impl FnOnce(&Netns, Deadline) -> Result<B, KernelError> + Send,
    plan: &Plan,
) -> Result<(Option<String>, Vec<String>), String> {
    let netns: Netns = node.new_netns("any");
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let differences = netns.run(|| {
        run("ip", &["link", "set", "lo", "up"], "");
        let deadline = Deadline::after(Duration::from_secs(60));
        let interfaces = Network::open(deadline)?;
        let mut live = Live::new(open(&netns, deadline)?, &interfaces, plan);
        let found = live.read()?;
        live.apply(&found)?;
        Ok::<_, KernelError>(summary(live.read()?.differences()))
    });
    let differences = differences.map_err(|e| text(&e))?;
    let listener = inside(&netns, || TcpListener::bind("[::]:15006").unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2).flatten() {
            std::io::Write::write_all(&mut &stream, b"inbound").ok();
        }
    });
    let probes = [
        ("127.0.0.1:0", "127.0.0.6:15002"),
        ("[::1]:0", "[::6]:15002"),
    ];
    let landings = probes
        .iter()
        .take(if plan.families.ipv6 { 2 } else { 1 })
        .map(|(from, to)| {
            let probe = Probe {
                from: Some(from.parse().unwrap()),
                ..Probe::tcp(PROXY, to.parse().unwrap())
            };
            inside(&netns, || probe.landing())
        });
    let landings = landings.collect();
    nix::mount::umount2(
        &node.path("run/netns/any"),
        nix::mount::MntFlags::MNT_DETACH,
    )
    .unwrap();
    Ok((differences, landings))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_valid_settings_are_read_back_as_planned_and_pass_istio_validation(
        (annotations, env) in any_settings(),
        primary in any::<bool>(),
        gids in proptest::option::of(proptest::collection::vec(0..u32::MAX, 0..4)),
    ) {
        let annotations: Vec<_> = annotations.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let mut intent: Intent = intent_of(&injected(&annotations, &env), &Profile::built_in());
        if primary {
            intent.interfaces = Interfaces::Primary;
        }
        if let Some(gids) = gids {
            intent.outbound.owner_groups.include = Selection::Only(gids);
        }
        let network = PodNetwork::of_eth0(true, true);
        let plan = Plan::new(&intent, &network).unwrap();
        let excluded = intent.outbound.exclude_ports.contains(&15002);
        let result = on_node(|node| -> Result<(), String> {
            node.install_iptables(&["legacy"]);
            let found = |directory| Tools::find(&[directory], Deadline::after(Duration::from_secs(60))).map_err(|e| e.to_string());
            let (nft, legacy) = (found("/usr/sbin".into())?, found(node.path("usr/sbin"))?);
            let by = |tools: &Tools| carried_out(node, |netns, deadline| Iptables::open(tools, None, netns, deadline), &plan);
            let nftables = carried_out(node, |_, deadline| Nftables::open(deadline), &plan);
            for carried_out in [nftables, by(&nft), by(&legacy)] {
                let (differences, landings) = carried_out?;
                if let Some(differences) = differences {
                    return Err(differences);
                }
                if !excluded && landings.iter().any(|l| l != "inbound") {
                    return Err(format!("istio-validation: {landings:?}"));
                }
            }
            Ok(())
        });
        prop_assert_eq!(result, Ok(()));
    }
}
