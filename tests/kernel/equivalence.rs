//! Whatever a pod asks for, every packet goes the same way with nftables as with Istio's own rules in iptables, both of its kinds.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::support::{
    connections::Probe,
    lab::{
        APP, CONFIG, Node, Owner, PROXY, PROXY_GID, PROXY_UID, PodNet, V4_NET1, V6_NET1, inside,
        on_node,
    },
    landings::profile,
    pods::given_with,
};

const OWNERS: [Owner; 6] = [
    APP,
    PROXY_UID,
    PROXY_GID,
    PROXY,
    Owner { uid: 0, gid: 0 },
    Owner {
        uid: 1000,
        gid: 2000,
    },
];
const ALL: PodNet = PodNet {
    v4: true,
    v6: true,
    net1: true,
};

const DUAL: (&str, &str) = ("ISTIO_DUAL_STACK", "true");
const DNS: (&str, &str) = ("ISTIO_META_DNS_CAPTURE", "true");
const DROP: (&str, &str) = ("INVALID_DROP", "true");
const TPROXY: (&str, &str) = ("sidecar.istio.io/interceptionMode", "TPROXY");
const VIRTUAL: (&str, &str) = ("istio.io/reroute-virtual-interfaces", "net1");
const NOT_NET1: (&str, &str) = ("traffic.sidecar.istio.io/excludeInterfaces", "net1");
const NOT_ETH0: (&str, &str) = ("traffic.sidecar.istio.io/excludeInterfaces", "eth0");
const IN_8080: (&str, &str) = ("traffic.sidecar.istio.io/includeInboundPorts", "8080,15008");
const IN_NONE: (&str, &str) = ("traffic.sidecar.istio.io/includeInboundPorts", "");
const NOT_IN: (&str, &str) = ("traffic.sidecar.istio.io/excludeInboundPorts", "22,3306");
const OUT_RANGES: (&str, &str) = (
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "10.96.0.0/12,172.30.0.0/16,fd00:96::/64",
);
const OUT_LOOPBACK: (&str, &str) = (
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "127.0.0.0/8,93.184.0.0/16,::1/128",
);
const OUT_NONE: (&str, &str) = ("traffic.sidecar.istio.io/includeOutboundIPRanges", "");
const OUT_ALL_AS_RANGES: (&str, &str) = (
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "0.0.0.0/0,::/0",
);
const NOT_RANGES: (&str, &str) = (
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "93.184.0.0/16,2606:2800::/32",
);
const OUT_443: (&str, &str) = ("traffic.sidecar.istio.io/includeOutboundPorts", "443");
const NOT_5432: (&str, &str) = ("traffic.sidecar.istio.io/excludeOutboundPorts", "5432,53");

struct Case {
    annotations: Vec<(&'static str, &'static str)>,
    env: Vec<(&'static str, &'static str)>,
    /// Fields of the profile's `redirect`, beside the backend.
    profile: &'static str,
    net: PodNet,
}

impl Case {
    fn is_tproxy(&self) -> bool {
        self.annotations.contains(&TPROXY)
    }
}

fn cases() -> Vec<Case> {
    let case = |net,
                annotations: &[(&'static str, &'static str)],
                env: &[(&'static str, &'static str)],
                profile| Case {
        annotations: annotations.to_vec(),
        env: env.to_vec(),
        profile,
        net,
    };
    let groups = "outboundOwnerGroups: {include: [\"1000\", \"1337\"]}";
    let not_groups = "outboundOwnerGroups: {exclude: [\"2000\"]}";
    let mut cases = vec![
        case(V4_NET1, &[], &[], ""),
        case(V6_NET1, &[], &[], ""),
        case(ALL, &[], &[DUAL], ""),
        case(ALL, &[], &[], "ipFamilies: All"),
        case(ALL, &[], &[], ""),
        case(ALL, &[], &[DUAL], "interfaces: Primary"),
        case(
            V4_NET1,
            &[],
            &[],
            "ports: {inbound: 15090, outbound: 15021, tunnel: 8080}",
        ),
        case(V4_NET1, &[], &[], "proxyUID: 1000"),
    ];
    // each in both modes
    for mode in [&[][..], &[TPROXY]] {
        let with = |more: &[(&'static str, &'static str)]| [mode, more].concat();
        cases.extend([
            case(ALL, &with(&[]), &[DUAL, DNS], ""),
            case(V4_NET1, &with(&[]), &[DNS, DROP], ""),
            case(ALL, &with(&[NOT_NET1]), &[DUAL], ""),
            case(ALL, &with(&[NOT_ETH0]), &[DUAL, DROP], ""),
            case(ALL, &with(&[VIRTUAL]), &[DUAL], ""),
            case(ALL, &with(&[VIRTUAL, NOT_NET1, OUT_RANGES]), &[DUAL], ""),
            case(ALL, &with(&[IN_8080, NOT_IN]), &[DUAL], ""),
            case(ALL, &with(&[IN_NONE]), &[DUAL], ""),
            case(ALL, &with(&[NOT_IN, NOT_5432]), &[DUAL, DNS], ""),
            case(ALL, &with(&[OUT_RANGES, OUT_443]), &[DUAL, DNS], ""),
            case(ALL, &with(&[OUT_LOOPBACK]), &[DUAL], ""),
            case(ALL, &with(&[OUT_LOOPBACK]), &[DUAL, DNS], ""),
            case(ALL, &with(&[OUT_NONE, OUT_443]), &[DUAL], ""),
            case(ALL, &with(&[OUT_ALL_AS_RANGES, NOT_RANGES]), &[DUAL], ""),
            case(ALL, &with(&[NOT_RANGES]), &[DUAL, DNS], groups),
            case(ALL, &with(&[]), &[DUAL, DNS], not_groups),
            case(
                ALL,
                &with(&[NOT_IN]),
                &[DUAL, DNS, DROP],
                "interfaces: Primary",
            ),
            case(V6_NET1, &with(&[VIRTUAL]), &[DNS, DROP], ""),
        ]);
    }
    cases
}

/// Out of the pod: every owner, to every address and port.
fn outbound(net: PodNet, tproxy: bool) -> Vec<Probe> {
    let mut addresses = vec!["127.0.0.1", "127.0.0.6", "172.30.0.1", "172.30.0.5"];
    addresses.extend(
        net.v4
            .then_some(["93.184.216.34", "10.96.0.10", "10.244.0.1", "10.244.0.5"])
            .into_iter()
            .flatten(),
    );
    addresses.extend(["::1", "fd00:30::1", "fd00:30::5"]);
    addresses.extend(
        net.v6
            .then_some(["2606:2800::1", "fd00:96::10", "fd00:244::1", "fd00:244::5"])
            .into_iter()
            .flatten(),
    );
    let mut probes = Vec::new();
    for address in addresses.iter().map(|a| a.parse::<IpAddr>().unwrap()) {
        for owner in OWNERS {
            for port in [22, 53, 443, 5432, 8080, 9090, 15008, 15020] {
                probes.push(Probe::tcp(owner, SocketAddr::from((address, port))));
            }
            for port in [53, 5432, 8080] {
                probes.push(Probe {
                    udp: true,
                    ..Probe::tcp(owner, SocketAddr::from((address, port)))
                });
            }
        }
    }
    // istio-validation's, and the sidecar's own connections to the application in the client's name
    let from = |from: &str, to: &str| Probe {
        from: Some(from.parse().unwrap()),
        ..Probe::tcp(PROXY, to.parse().unwrap())
    };
    probes.extend([
        from("127.0.0.1:0", "127.0.0.6:15002"),
        from("127.0.0.6:0", "127.0.0.1:8080"),
        from("127.0.0.6:0", "172.30.0.5:8080"),
    ]);
    if tproxy {
        for (client, to) in [
            ("172.30.0.1:0", "172.30.0.5:8080"),
            ("[fd00:30::1]:0", "[fd00:30::5]:8080"),
        ] {
            let as_client = from(client, to);
            probes.push(Probe {
                owner: Owner { uid: 0, gid: 1337 },
                mark: 0x539,
                ..as_client
            });
        }
    }
    probes
}

/// Into the pod, to every address and port.
fn inbound(net: PodNet) -> Vec<Probe> {
    let mut addresses = vec!["172.30.0.5", "fd00:30::5"];
    addresses.extend(net.v4.then_some("10.244.0.5"));
    addresses.extend(net.v6.then_some("fd00:244::5"));
    let mut probes = Vec::new();
    for address in addresses.iter().map(|a| a.parse::<IpAddr>().unwrap()) {
        for port in [
            9, 22, 53, 3306, 8080, 9090, 15001, 15006, 15008, 15020, 15021, 15053, 15090,
        ] {
            probes.push(Probe::tcp(APP, SocketAddr::from((address, port))));
        }
        for port in [9, 53, 8080, 15053] {
            probes.push(Probe {
                udp: true,
                ..Probe::tcp(APP, SocketAddr::from((address, port)))
            });
        }
    }
    probes
}

/// Where each probe lands; `true`: one from the world.
type Landings = BTreeMap<(bool, Probe), String>;

/// Where everything lands.
fn landings(node: &Node, case: &Case, backend: &str) -> Landings {
    let args = given_with(
        node,
        if case.is_tproxy() {
            "tproxy"
        } else {
            "defaults"
        },
        &case.annotations,
        &case.env,
    );
    profile(
        node,
        &format!(
            "{{backend: {backend}{}{}}}",
            if case.profile.is_empty() { "" } else { ", " },
            case.profile
        ),
    );
    let lab = node.pod("pod", case.net);
    let add = node.call("ADD", &lab.netns, &args, CONFIG);
    assert_eq!(add.code, 0, "{backend}: {add:?}");
    let lands = |netns, inwards: bool, probes: Vec<Probe>| -> Vec<_> {
        inside(netns, || {
            probes
                .into_iter()
                .map(|probe| ((inwards, probe), probe.landing()))
                .collect()
        })
    };
    let all = [
        lands(&lab.pod, false, outbound(case.net, case.is_tproxy())),
        lands(&lab.world, true, inbound(case.net)),
    ]
    .concat();
    all.into_iter().collect()
}

/// Both landings of each probe that lands elsewhere with the other.
fn differences(nftables: &Landings, iptables: &Landings) -> Landings {
    let differ = nftables
        .iter()
        .filter(|(probe, landing)| iptables[*probe] != **landing);
    differ
        .map(|(probe, landing)| (*probe, format!("{landing} / {}", iptables[probe])))
        .collect()
}

/// The landings with nftables, where iptables of both kinds lands every connection at the same place.
fn compared(case: &Case) -> Landings {
    let by_nftables = || on_node(|node| landings(node, case, "Nftables"));
    let first = by_nftables();
    for variant in ["nft", "legacy"] {
        let by_iptables = || {
            on_node(|node| {
                node.install_iptables(&[variant]);
                landings(node, case, "Iptables")
            })
        };
        let mut differ = differences(&first, &by_iptables());
        if !differ.is_empty() {
            // a slow machine can miss the time that a probe waits for an answer to a datagram: not twice for the same probe
            let again = differences(&by_nftables(), &by_iptables());
            differ.retain(|probe, _| again.contains_key(probe));
        }
        let differ: Vec<_> = differ
            .iter()
            .map(|(probe, landings)| format!("{probe:?}: {landings}"))
            .collect();
        let Case {
            annotations,
            env,
            profile,
            ..
        } = case;
        assert!(
            differ.is_empty(),
            "{annotations:?} {env:?} {profile:?}, nftables / iptables-{variant}:\n{}",
            differ.join("\n")
        );
    }
    first
}

#[test]
fn every_backend_lands_every_connection_at_the_same_place() {
    let cases = cases();
    let next = AtomicUsize::new(0);
    // most of the time is spent waiting for answers that do not come
    let work = || {
        let mut done = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(compared(case));
        }
        done
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    let (mut connections, mut kinds) = (0, BTreeMap::<String, usize>::new());
    for landing in all.iter().flat_map(BTreeMap::values) {
        connections += 3;
        *kinds.entry(landing.clone()).or_default() += 1;
    }
    println!(
        "{} cases, {connections} connections; landings: {kinds:?}",
        all.len()
    );
    assert!(all.len() >= 44 && connections >= 133_416 && all.iter().all(|a| a.len() >= 200));
    for landing in [
        "pod:15001",
        "pod:15006",
        "pod:15053",
        "pod:8080",
        "pod:15008",
        "world:443",
        "world:53",
        "ConnectionRefused",
    ] {
        assert!(kinds[landing] > 50, "{landing} {kinds:?}");
    }
}
