//! Real connections in real namespaces: where each lands, for every kind of setting.

use std::time::Duration;

use crate::support::{
    lab::{APP, BOTH, Owner, PROXY_GID, PROXY_UID, V4, V4_NET1, V6, on_node, validation_probe},
    landings::{inbound, outbound, profile, redirected},
    pods::{given, given_with},
};
use mesh_optin::{
    deadline::Deadline,
    kernel::{KernelError, Nftables},
};

const OTHER: Owner = Owner {
    uid: 2000,
    gid: 2000,
};

#[test]
fn defaults_capture_the_application_and_spare_the_sidecar() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "defaults"), V4_NET1);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "10.96.0.10:80", "pod:15001"),
                (APP, "10.244.0.1:443", "pod:15001"),
                (APP, "172.30.0.1:80", "pod:15001"),
                (APP, "93.184.216.34:15020", "world:15020"),
                (APP, "93.184.216.34:15008", "pod:15001"),
                (PROXY_UID, "93.184.216.34:80", "world:80"),
                (PROXY_GID, "93.184.216.34:80", "world:80"),
                (PROXY_UID, "10.96.0.10:443", "world:443"),
                (APP, "127.0.0.1:8080", "pod:8080"),
                (APP, "10.244.0.5:8080", "pod:8080"),
                (APP, "127.0.0.6:8080", "pod:8080"),
                (PROXY_UID, "127.0.0.1:8080", "pod:8080"),
                (PROXY_UID, "10.244.0.5:8080", "pod:15006"),
                (PROXY_UID, "10.244.0.5:15008", "pod:15008"),
                (PROXY_GID, "10.244.0.5:8080", "pod:8080"),
            ],
        );
        inbound(
            &lab,
            &[
                ("10.244.0.5:8080", "pod:15006"),
                ("10.244.0.5:22", "pod:15006"),
                ("10.244.0.5:9", "pod:15006"),
                ("10.244.0.5:15008", "pod:15008"),
                ("10.244.0.5:15020", "pod:15020"),
                ("10.244.0.5:15021", "pod:15021"),
                ("10.244.0.5:15090", "pod:15090"),
                ("172.30.0.5:8080", "pod:15006"),
            ],
        );
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn an_ipv6_only_pod_is_captured_over_ipv6() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "ipv6-only"), V6);
        outbound(
            &lab,
            &[
                (APP, "[2606:2800::1]:80", "pod:15001"),
                (APP, "[fd00:96::10]:80", "pod:15001"),
                (PROXY_UID, "[2606:2800::1]:80", "world:80"),
                (PROXY_GID, "[2606:2800::1]:80", "world:80"),
                (APP, "[::1]:8080", "pod:8080"),
                (APP, "[fd00:244::5]:8080", "pod:8080"),
                (PROXY_UID, "[fd00:244::5]:8080", "pod:15006"),
                (PROXY_UID, "[::1]:8080", "pod:8080"),
            ],
        );
        inbound(
            &lab,
            &[
                ("[fd00:244::5]:8080", "pod:15006"),
                ("[fd00:244::5]:15008", "pod:15008"),
            ],
        );
        assert_eq!(validation_probe(&lab, PROXY_UID, true), "pod:15006");
        assert_eq!(
            validation_probe(&lab, PROXY_UID, false),
            "pod:15006",
            "IPv4 is always programmed"
        );
    });
}

#[test]
fn a_dual_stack_sidecar_gets_both_families() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "dual-stack"), BOTH);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "[2606:2800::1]:80", "pod:15001"),
                (PROXY_UID, "93.184.216.34:80", "world:80"),
                (PROXY_UID, "[2606:2800::1]:80", "world:80"),
                (PROXY_UID, "[fd00:244::5]:8080", "pod:15006"),
            ],
        );
        inbound(
            &lab,
            &[
                ("10.244.0.5:8080", "pod:15006"),
                ("[fd00:244::5]:8080", "pod:15006"),
            ],
        );
        for v6 in [false, true] {
            assert_eq!(validation_probe(&lab, PROXY_UID, v6), "pod:15006");
        }
    });
}

#[test]
fn excluded_ports_bypass_in_both_directions() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "exclude-ports"), V4);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:5432", "world:5432"),
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "93.184.216.34:15020", "pod:15001"), // the built-in exclusion holds only where nobody says anything
            ],
        );
        inbound(
            &lab,
            &[
                ("10.244.0.5:22", "pod:22"),
                ("10.244.0.5:3306", "pod:3306"),
                ("10.244.0.5:8080", "pod:15006"),
                ("10.244.0.5:15021", "pod:15021"),
            ],
        );
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn only_included_ranges_are_captured() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "include-ranges"), V4);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "10.96.0.10:80", "pod:15001"),
                (APP, "10.244.0.1:80", "world:80"),
            ],
        );
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006")]);
    });
}

#[test]
fn ranges_and_ports_combine_as_istio_combines_them() {
    on_node(|node| {
        let annotations = [
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", ""),
            ("traffic.sidecar.istio.io/includeOutboundPorts", "443,8080"),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.96.0.0/16",
            ),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", "8080"),
            ("traffic.sidecar.istio.io/includeInboundPorts", "8080,15008"),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "8080"),
        ];
        let lab = redirected(node, &given_with(node, "defaults", &annotations, &[]), V4);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:443", "pod:15001"),
                (APP, "93.184.216.34:80", "world:80"),
                (APP, "10.96.0.10:443", "world:443"), // an excluded range beats an included port
                (APP, "93.184.216.34:8080", "world:8080"), // an excluded port beats everything
            ],
        );
        inbound(
            &lab,
            &[
                ("10.244.0.5:8080", "pod:15006"),
                ("10.244.0.5:22", "pod:22"),
                ("10.244.0.5:15008", "pod:15008"),
            ],
        );
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn nothing_is_captured_where_nothing_is_included_but_validation_passes() {
    on_node(|node| {
        let annotations = [
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", ""),
            ("traffic.sidecar.istio.io/includeInboundPorts", ""),
        ];
        let lab = redirected(node, &given_with(node, "defaults", &annotations, &[]), V4);
        outbound(&lab, &[(APP, "93.184.216.34:80", "world:80")]);
        inbound(&lab, &[("10.244.0.5:8080", "pod:8080")]);
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn an_included_loopback_range_is_captured_but_127_0_0_1_never() {
    on_node(|node| {
        let annotations = [(
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "127.0.0.9/32,10.96.0.0/16",
        )];
        let lab = redirected(node, &given_with(node, "defaults", &annotations, &[]), V4);
        outbound(
            &lab,
            &[
                (APP, "127.0.0.9:8080", "pod:15001"),
                (APP, "127.0.0.1:8080", "pod:8080"),
                (APP, "10.96.0.10:80", "pod:15001"),
                (PROXY_GID, "10.244.0.5:8080", "pod:15006"),
                (PROXY_UID, "10.244.0.5:8080", "pod:15006"),
            ],
        );
    });
}

#[test]
fn owner_groups_choose_whose_connections_are_captured() {
    on_node(|node| {
        profile(node, "{outboundOwnerGroups: {include: [1000, 3000]}}");
        let lab = redirected(node, &given(node, "defaults"), V4);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (OTHER, "93.184.216.34:80", "world:80"),
                (PROXY_UID, "93.184.216.34:80", "world:80"),
            ],
        );
    });
    on_node(|node| {
        profile(node, "{outboundOwnerGroups: {exclude: [2000]}}");
        let lab = redirected(node, &given(node, "defaults"), V4);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (OTHER, "93.184.216.34:80", "world:80"),
            ],
        );
    });
}

#[test]
fn a_sidecar_of_another_uid_is_spared_and_1337_is_not() {
    on_node(|node| {
        let (mut pod, namespace) = crate::support::data::data("defaults");
        for container in pod["spec"]["containers"].as_array_mut().unwrap() {
            if container["name"] == "istio-proxy" {
                container["securityContext"]["runAsUser"] = serde_json::json!(1_000_670_000);
                container["securityContext"]["runAsGroup"] = serde_json::json!(1_000_670_001);
            }
        }
        let args = crate::support::pods::cni_args(&pod);
        node.manifests(&[pod, namespace]);
        let lab = redirected(node, &args, V4);
        let (by_uid, by_gid) = (
            Owner {
                uid: 1_000_670_000,
                gid: 0,
            },
            Owner {
                uid: 5,
                gid: 1_000_670_001,
            },
        );
        outbound(
            &lab,
            &[
                (by_uid, "93.184.216.34:80", "world:80"),
                (by_gid, "93.184.216.34:80", "world:80"),
                (PROXY_UID, "93.184.216.34:80", "pod:15001"),
                (by_uid, "10.244.0.5:8080", "pod:15006"),
            ],
        );
        assert_eq!(validation_probe(&lab, by_uid, false), "pod:15006");
    });
}

#[test]
fn dropping_invalid_packets_leaves_valid_ones_alone() {
    on_node(|node| {
        let lab = redirected(
            node,
            &given_with(node, "defaults", &[], &[("INVALID_DROP", "true")]),
            V4,
        );
        assert!(lab.state().contains("ct state invalid drop"));
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (PROXY_UID, "93.184.216.34:80", "world:80"),
            ],
        );
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006")]);
    });
}

#[test]
fn other_ports_and_other_layers_say_what_is_captured() {
    on_node(|node| {
        profile(
            node,
            "{ports: {outbound: 9090, inbound: 3306, tunnel: 22}, alwaysExcludedInboundPorts: [8080], traffic: {excludeOutboundPorts: '443'}}",
        );
        let args = given(node, "defaults");
        let lab = node.pod("pod", V4);
        let config = r#"{"cniVersion":"1.1.0","name":"m","meshOptin":{"profile":"default","traffic":{"excludeOutboundPorts":"5432","includeOutboundIPRanges":"93.184.0.0/16"}}}"#;
        assert_eq!(node.call("ADD", &lab.netns, &args, config).code, 0);
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:9090"),
                (APP, "93.184.216.34:443", "world:443"),
                (APP, "93.184.216.34:5432", "world:5432"),
                (APP, "10.96.0.10:80", "world:80"),
            ],
        );
        inbound(
            &lab,
            &[
                ("10.244.0.5:15008", "pod:3306"),
                ("10.244.0.5:22", "pod:22"),
                ("10.244.0.5:8080", "pod:8080"),
            ],
        );
    });
}

#[test]
fn rules_of_a_live_table_are_replaced_without_letting_a_connection_through() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
    on_node(|node| {
        let lab = redirected(node, &given(node, "defaults"), V4);
        let (ended, landed) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let dialing = scope.spawn(|| {
                while !ended.load(Relaxed) {
                    assert_eq!(lab.dial_out(APP, "93.184.216.34:80"), "pod:15001");
                    landed.fetch_add(1, Relaxed);
                }
            });
            let replaced = lab.pod.run(|| {
                let mut nftables = Nftables::open(Deadline::after(Duration::from_secs(600)))?;
                let table = nftables.table()?.unwrap();
                let mut other = table.clone();
                other
                    .chains
                    .iter_mut()
                    .for_each(|c| c.rules.extend(c.rules.first().cloned()));
                let mut count = 0;
                while (landed.load(Relaxed) < 1000 && !dialing.is_finished()) || count < 200 {
                    for (found, wanted) in [(&table, &other), (&other, &table)] {
                        assert_eq!(nftables.table()?.as_ref(), Some(found));
                        nftables.replace(Some(found), wanted)?;
                        count += 1;
                    }
                }
                Ok::<_, KernelError>(count)
            });
            ended.store(true, Relaxed);
            assert!(replaced.unwrap() >= 200);
        });
    });
}
