//! TPROXY and DNS capture where it counts: addresses unchanged, fail closed before the sidecar listens, answers that find their way back.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use crate::support::{
    connections::Probe,
    lab::{APP, BOTH, CONFIG, Node, PROXY_UID, PodLab, inside, on_node},
    landings::profile,
    pods::given_with,
};
use socket2::{Domain, Socket, Type};

/// Each backend in turn, with a pod of the kind.
fn with_each_backend(pod: &str, env: &[(&str, &str)], work: impl Fn(&Node, &PodLab, &str) + Sync) {
    for (backend, iptables) in [
        ("Nftables", "nft"),
        ("Iptables", "nft"),
        ("Iptables", "legacy"),
    ] {
        on_node(|node| {
            node.install_iptables(&[iptables]);
            profile(node, &format!("{{backend: {backend}}}"));
            let args = given_with(
                node,
                pod,
                &[],
                &[env, &[("ISTIO_DUAL_STACK", "true")]].concat(),
            );
            let lab = node.pod("a", BOTH);
            let add = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!(add.code, 0, "{add:?}");
            work(node, &lab, &args);
        });
    }
}

fn listen(lab: &PodLab, at: &str) -> TcpListener {
    inside(&lab.pod, || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_ip_transparent_v6(true).unwrap();
        socket
            .bind(&at.parse::<SocketAddr>().unwrap().into())
            .unwrap();
        socket.listen(8).unwrap();
        TcpListener::from(socket)
    })
}

#[test]
fn the_sidecar_sees_both_ends_of_an_inbound_connection_as_they_are() {
    with_each_backend("tproxy", &[], |_, lab, _| {
        lab.stop();
        let listener = listen(lab, "[::]:15006");
        for to in ["10.244.0.5:8080", "[fd00:244::5]:4444"] {
            let to: SocketAddr = to.parse().unwrap();
            let client = inside(&lab.world, || {
                TcpStream::connect_timeout(&to, Duration::from_secs(60)).unwrap()
            });
            let (sidecar, _) = listener.accept().unwrap();
            let plain = |a: SocketAddr| (a.ip().to_canonical(), a.port());
            assert_eq!(plain(sidecar.local_addr().unwrap()), plain(to));
            assert_eq!(
                plain(sidecar.peer_addr().unwrap()),
                plain(client.local_addr().unwrap())
            );
        }
    });
}

#[test]
fn before_the_sidecar_listens_nothing_reaches_the_application() {
    with_each_backend("tproxy", &[], |_, lab, _| {
        assert_eq!(lab.dial_in("10.244.0.5:8080"), "pod:15006");
        lab.stop();
        let application = listen(lab, "[::]:8080");
        application.set_nonblocking(true).unwrap();
        for to in ["10.244.0.5:8080", "[fd00:244::5]:8080"] {
            assert_eq!(lab.dial_in(to), "TimedOut", "{to}");
        }
        assert_eq!(
            application.accept().unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
    });
}

/// Where a probe lands that is answered, on a slow machine after the time that a probe waits for datagrams.
fn answered(lab: &PodLab, probe: &Probe) -> String {
    let mut landings = (0..50).map(|_| inside(&lab.pod, || probe.landing()));
    let answered = landings.find(|landing| landing != "WouldBlock");
    answered.expect("an answer")
}

#[test]
fn dns_queries_go_to_the_sidecar_and_those_of_the_sidecar_go_out() {
    for pod in ["dns-capture", "tproxy"] {
        with_each_backend(pod, &[("ISTIO_META_DNS_CAPTURE", "true")], |_, lab, _| {
            for resolver in ["10.96.0.10:53", "[fd00:96::10]:53", "127.0.0.1:53"] {
                for (udp, owner, landing) in [(true, APP, "pod:15053"), (false, APP, "pod:15053")] {
                    let probe = Probe {
                        udp,
                        ..Probe::tcp(owner, resolver.parse().unwrap())
                    };
                    assert_eq!(answered(lab, &probe), landing, "{pod} {probe:?}");
                }
            }
            for resolver in ["10.96.0.10:53", "[fd00:96::10]:53"] {
                let probe = Probe {
                    udp: true,
                    ..Probe::tcp(PROXY_UID, resolver.parse().unwrap())
                };
                assert_eq!(answered(lab, &probe), "world:53", "{pod} {probe:?}");
            }
        });
    }
}

#[test]
fn policy_routing_is_the_same_after_a_second_add_and_seen_by_ip() {
    with_each_backend("tproxy", &[], |node, lab, args| {
        let of_ip = || {
            inside(&lab.pod, || {
                let ip = |args: &[&str]| crate::support::run("ip", args, "");
                [
                    ip(&["rule"]),
                    ip(&["-6", "rule"]),
                    ip(&["route", "show", "table", "133"]),
                    ip(&["-6", "route", "show", "table", "133"]),
                ]
            })
        };
        let [v4, v6, route, route6] = of_ip();
        for rules in [&v4, &v6] {
            assert_eq!(
                rules
                    .matches("100:\tfrom all fwmark 0x539 lookup 133")
                    .count(),
                1,
                "{rules}"
            );
        }
        assert_eq!(
            (route.trim(), route6.trim()),
            (
                "local default dev lo scope host",
                "local default dev lo metric 1024 pref medium"
            )
        );
        assert_eq!(
            node.call("ADD", &lab.netns, args, CONFIG).logged_reason(),
            "AlreadyRedirected"
        );
        assert_eq!(of_ip(), [v4, v6, route, route6]);
    });
}

#[test]
fn an_established_connection_stays_with_the_sidecar() {
    with_each_backend("tproxy", &[], |_, lab, _| {
        let mut client = inside(&lab.world, || {
            TcpStream::connect("10.244.0.5:9090").unwrap()
        });
        let mut banner = String::new();
        client.read_to_string(&mut banner).unwrap();
        assert_eq!(banner, "pod:15006");
    });
}
