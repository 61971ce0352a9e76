//! Real connections in real namespaces: where each lands, for every kind of setting.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use support::{
    lab::{APP, Node, Owner, PROXY_GID, PROXY_UID, PodLab, PodNet, on_node, validation_probe},
    pods::{given, given_with},
};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;
const V4: PodNet = PodNet { v4: true, v6: false, net1: false };
const V6: PodNet = PodNet { v4: false, v6: true, net1: false };
const BOTH: PodNet = PodNet { v4: true, v6: true, net1: false };
const V4_NET1: PodNet = PodNet { v4: true, v6: false, net1: true };
const OTHER: Owner = Owner { uid: 2000, gid: 2000 };

/// Redirects the pod that CNI_ARGS name.
fn redirected(node: &Node, args: &str, net: PodNet) -> PodLab {
    let lab = node.pod("pod", net);
    let add = node.call("ADD", &lab.netns, args, CONFIG);
    assert_eq!(add.code, 0, "{add:?}");
    lab
}

fn profile(node: &Node, redirect: &str) {
    let yaml =
        format!("{{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {{name: default}}, spec: {{redirect: {redirect}}}}}");
    node.write("etc/mesh-optin/profiles/default.yaml", &yaml);
}

/// Out of the pod: whose connection, to where, where it lands.
fn outbound(lab: &PodLab, expected: &[(Owner, &str, &str)]) {
    for (owner, to, landing) in expected {
        assert_eq!(lab.dial_out(*owner, to), *landing, "{owner:?} to {to}");
    }
}

/// Into the pod.
fn inbound(lab: &PodLab, expected: &[(&str, &str)]) {
    for (to, landing) in expected {
        assert_eq!(lab.dial_in(to), *landing, "to {to}");
    }
}

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
        inbound(&lab, &[("[fd00:244::5]:8080", "pod:15006"), ("[fd00:244::5]:15008", "pod:15008")]);
        assert_eq!(validation_probe(&lab, PROXY_UID, true), "pod:15006");
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006", "IPv4 is always programmed");
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
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006"), ("[fd00:244::5]:8080", "pod:15006")]);
        for v6 in [false, true] {
            assert_eq!(validation_probe(&lab, PROXY_UID, v6), "pod:15006");
        }
    });
}

#[test]
fn a_family_that_the_sidecar_does_not_serve_is_left_alone_and_told() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("pod", PodNet { net1: true, ..BOTH });
        let add = node.call("ADD", &lab.netns, &args, CONFIG);
        assert!(add.stderr.contains("FamilyNotCaptured"), "{add:?}");
        outbound(
            &lab,
            &[(APP, "93.184.216.34:80", "pod:15001"), (APP, "[2606:2800::1]:80", "world:80"), (APP, "[fd00:30::1]:80", "world:80")],
        );
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006"), ("[fd00:244::5]:8080", "pod:8080"), ("[fd00:30::5]:8080", "pod:8080")]);
    });
}

#[test]
fn all_families_are_captured_where_the_profile_says_so() {
    on_node(|node| {
        profile(node, "{ipFamilies: All}");
        let lab = redirected(node, &given(node, "defaults"), PodNet { net1: true, ..V4 });
        outbound(
            &lab,
            &[(APP, "[fd00:30::1]:80", "pod:15001"), (APP, "93.184.216.34:80", "pod:15001"), (PROXY_UID, "[fd00:30::1]:80", "world:80")],
        );
        inbound(&lab, &[("[fd00:30::5]:8080", "pod:15006")]);
    });
}

#[test]
fn an_ipv4_address_on_net1_does_not_switch_ipv6_off() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "defaults"), PodNet { net1: true, ..V6 });
        outbound(&lab, &[(APP, "[2606:2800::1]:80", "pod:15001"), (APP, "172.30.0.1:80", "pod:15001")]);
        inbound(&lab, &[("[fd00:244::5]:8080", "pod:15006"), ("172.30.0.5:8080", "pod:15006")]);
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
        outbound(&lab, &[(APP, "93.184.216.34:80", "pod:15001"), (APP, "10.96.0.10:80", "pod:15001"), (APP, "10.244.0.1:80", "world:80")]);
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006")]);
    });
}

#[test]
fn ranges_and_ports_combine_as_istio_combines_them() {
    on_node(|node| {
        let annotations = [
            ("traffic.sidecar.istio.io/includeOutboundIPRanges", ""),
            ("traffic.sidecar.istio.io/includeOutboundPorts", "443,8080"),
            ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.96.0.0/16"),
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
                (APP, "10.96.0.10:443", "world:443"),      // an excluded range beats an included port
                (APP, "93.184.216.34:8080", "world:8080"), // an excluded port beats everything
            ],
        );
        inbound(&lab, &[("10.244.0.5:8080", "pod:15006"), ("10.244.0.5:22", "pod:22"), ("10.244.0.5:15008", "pod:15008")]);
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn nothing_is_captured_where_nothing_is_included_but_validation_passes() {
    on_node(|node| {
        let annotations = [("traffic.sidecar.istio.io/includeOutboundIPRanges", ""), ("traffic.sidecar.istio.io/includeInboundPorts", "")];
        let lab = redirected(node, &given_with(node, "defaults", &annotations, &[]), V4);
        outbound(&lab, &[(APP, "93.184.216.34:80", "world:80")]);
        inbound(&lab, &[("10.244.0.5:8080", "pod:8080")]);
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn an_included_loopback_range_is_captured_but_127_0_0_1_never() {
    on_node(|node| {
        let annotations = [("traffic.sidecar.istio.io/includeOutboundIPRanges", "127.0.0.9/32,10.96.0.0/16")];
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
fn an_excluded_interface_is_left_alone_in_both_directions() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "multus-second-nic"), V4_NET1);
        outbound(&lab, &[(APP, "172.30.0.1:80", "world:80"), (APP, "93.184.216.34:80", "pod:15001")]);
        inbound(&lab, &[("172.30.0.5:8080", "pod:8080"), ("10.244.0.5:8080", "pod:15006")]);
    });
}

#[test]
fn what_comes_in_by_a_virtual_interface_is_the_pod_s_outbound() {
    for (ranges, to_range, beside) in [("*", "pod:15001", "pod:15001"), ("172.30.0.5/32", "pod:15001", "pod:8080")] {
        on_node(|node| {
            let annotations = [
                ("istio.io/reroute-virtual-interfaces", "net1"),
                ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
                ("traffic.sidecar.istio.io/includeOutboundIPRanges", ranges),
            ];
            let lab = redirected(node, &given_with(node, "defaults", &annotations, &[]), V4_NET1);
            support::lab::inside(&lab.pod, || support::run("ip", &["addr", "add", "172.30.0.6/24", "dev", "net1"], ""));
            inbound(&lab, &[("172.30.0.5:8080", to_range), ("172.30.0.6:8080", beside), ("10.244.0.5:8080", "pod:15006")]);
        });
    }
}

#[test]
fn only_interfaces_of_the_start_are_captured_with_primary() {
    on_node(|node| {
        profile(node, "{interfaces: Primary}");
        let lab = redirected(node, &given(node, "defaults"), V4_NET1);
        outbound(
            &lab,
            &[(APP, "172.30.0.1:80", "world:80"), (APP, "93.184.216.34:80", "pod:15001"), (PROXY_UID, "10.244.0.5:8080", "pod:15006")],
        );
        inbound(&lab, &[("172.30.0.5:8080", "pod:8080"), ("10.244.0.5:8080", "pod:15006")]);
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn a_second_interface_with_a_default_route_is_primary_too() {
    on_node(|node| {
        profile(node, "{interfaces: Primary}");
        let args = given(node, "defaults");
        let lab = node.pod("pod", V4_NET1);
        support::lab::inside(&lab.pod, || support::run("ip", &["route", "add", "default", "via", "172.30.0.1", "metric", "9"], ""));
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        inbound(&lab, &[("172.30.0.5:8080", "pod:15006")]);
    });
}

#[test]
fn owner_groups_choose_whose_connections_are_captured() {
    on_node(|node| {
        profile(node, "{outboundOwnerGroups: {include: [1000, 3000]}}");
        let lab = redirected(node, &given(node, "defaults"), V4);
        outbound(
            &lab,
            &[(APP, "93.184.216.34:80", "pod:15001"), (OTHER, "93.184.216.34:80", "world:80"), (PROXY_UID, "93.184.216.34:80", "world:80")],
        );
    });
    on_node(|node| {
        profile(node, "{outboundOwnerGroups: {exclude: [2000]}}");
        let lab = redirected(node, &given(node, "defaults"), V4);
        outbound(&lab, &[(APP, "93.184.216.34:80", "pod:15001"), (OTHER, "93.184.216.34:80", "world:80")]);
    });
}

#[test]
fn a_sidecar_of_another_uid_is_spared_and_1337_is_not() {
    on_node(|node| {
        let (mut pod, namespace) = support::pods::data("defaults");
        for container in pod["spec"]["containers"].as_array_mut().unwrap() {
            if container["name"] == "istio-proxy" {
                container["securityContext"]["runAsUser"] = serde_json::json!(1_000_670_000);
                container["securityContext"]["runAsGroup"] = serde_json::json!(1_000_670_001);
            }
        }
        let args = support::pods::cni_args(&pod);
        node.manifests(&[pod, namespace]);
        let lab = redirected(node, &args, V4);
        let (by_uid, by_gid) = (Owner { uid: 1_000_670_000, gid: 0 }, Owner { uid: 5, gid: 1_000_670_001 });
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
        let lab = redirected(node, &given_with(node, "defaults", &[], &[("INVALID_DROP", "true")]), V4);
        assert!(lab.state().contains("ct state invalid drop"));
        outbound(&lab, &[(APP, "93.184.216.34:80", "pod:15001"), (PROXY_UID, "93.184.216.34:80", "world:80")]);
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
        inbound(&lab, &[("10.244.0.5:15008", "pod:3306"), ("10.244.0.5:22", "pod:22"), ("10.244.0.5:8080", "pod:8080")]);
    });
}

#[test]
fn ipv6_switched_off_on_lo_stops_only_a_pod_that_uses_ipv6() {
    let switched_off =
        |lab: &PodLab| support::lab::inside(&lab.pod, || std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1").unwrap());
    on_node(|node| {
        let args = given(node, "dual-stack");
        let lab = node.pod("pod", V4);
        switched_off(&lab);
        let add = node.call("ADD", &lab.netns, &args, CONFIG);
        assert_eq!(add.code, 0, "{add:?}");
        outbound(&lab, &[(APP, "93.184.216.34:80", "pod:15001")]);
    });
    on_node(|node| {
        let args = given(node, "dual-stack");
        let lab = node.pod("pod", BOTH);
        switched_off(&lab);
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(message.starts_with("KernelRefused: adding ::6/128 to lo"), "{message}");
        assert!(!lab.state().contains("mesh-optin"), "no rule without the address that validation needs");
    });
}
