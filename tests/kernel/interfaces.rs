//! Real connections: which interfaces and which address families are captured.

use crate::support::{
    lab::{
        APP, BOTH, CONFIG, PROXY_UID, PodLab, PodNet, V4, V4_NET1, V6, on_node, validation_probe,
    },
    landings::{both_families_are_captured, inbound, outbound, profile, redirected},
    pods::{given, given_with},
};

#[test]
fn an_ipv4_address_on_net1_does_not_switch_ipv6_off() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "defaults"), PodNet { net1: true, ..V6 });
        both_families_are_captured(&lab);
    });
}

#[test]
fn an_excluded_interface_is_left_alone_in_both_directions() {
    on_node(|node| {
        let lab = redirected(node, &given(node, "multus-second-nic"), V4_NET1);
        outbound(
            &lab,
            &[
                (APP, "172.30.0.1:80", "world:80"),
                (APP, "93.184.216.34:80", "pod:15001"),
            ],
        );
        inbound(
            &lab,
            &[
                ("172.30.0.5:8080", "pod:8080"),
                ("10.244.0.5:8080", "pod:15006"),
            ],
        );
    });
}

#[test]
fn inbound_traffic_of_a_virtual_interface_is_treated_as_outbound() {
    for (ranges, to_range, beside) in [
        ("*", "pod:15001", "pod:15001"),
        ("172.30.0.5/32", "pod:15001", "pod:8080"),
    ] {
        on_node(|node| {
            let annotations = [
                ("istio.io/reroute-virtual-interfaces", "net1"),
                ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
                ("traffic.sidecar.istio.io/includeOutboundIPRanges", ranges),
            ];
            let lab = redirected(
                node,
                &given_with(node, "defaults", &annotations, &[]),
                V4_NET1,
            );
            crate::support::lab::inside(&lab.pod, || {
                crate::support::run("ip", &["addr", "add", "172.30.0.6/24", "dev", "net1"], "")
            });
            inbound(
                &lab,
                &[
                    ("172.30.0.5:8080", to_range),
                    ("172.30.0.6:8080", beside),
                    ("10.244.0.5:8080", "pod:15006"),
                ],
            );
        });
    }
}

#[test]
fn primary_captures_only_interfaces_that_were_there_at_the_start() {
    on_node(|node| {
        profile(node, "{interfaces: Primary}");
        let lab = redirected(node, &given(node, "defaults"), V4_NET1);
        outbound(
            &lab,
            &[
                (APP, "172.30.0.1:80", "world:80"),
                (APP, "93.184.216.34:80", "pod:15001"),
                (PROXY_UID, "10.244.0.5:8080", "pod:15006"),
            ],
        );
        inbound(
            &lab,
            &[
                ("172.30.0.5:8080", "pod:8080"),
                ("10.244.0.5:8080", "pod:15006"),
            ],
        );
        assert_eq!(validation_probe(&lab, PROXY_UID, false), "pod:15006");
    });
}

#[test]
fn a_family_that_the_sidecar_does_not_serve_is_left_alone_and_reported() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("pod", PodNet { net1: true, ..BOTH });
        let add = node.call("ADD", &lab.netns, &args, CONFIG);
        assert!(add.stderr.contains("FamilyNotCaptured"), "{add:?}");
        outbound(
            &lab,
            &[
                (APP, "93.184.216.34:80", "pod:15001"),
                (APP, "[2606:2800::1]:80", "world:80"),
                (APP, "[fd00:30::1]:80", "world:80"),
            ],
        );
        inbound(
            &lab,
            &[
                ("10.244.0.5:8080", "pod:15006"),
                ("[fd00:244::5]:8080", "pod:8080"),
                ("[fd00:30::5]:8080", "pod:8080"),
            ],
        );
    });
}

#[test]
fn all_families_are_captured_where_the_profile_asks_for_it() {
    on_node(|node| {
        profile(node, "{ipFamilies: All}");
        let lab = redirected(node, &given(node, "defaults"), PodNet { net1: true, ..V4 });
        outbound(
            &lab,
            &[
                (APP, "[fd00:30::1]:80", "pod:15001"),
                (APP, "93.184.216.34:80", "pod:15001"),
                (PROXY_UID, "[fd00:30::1]:80", "world:80"),
            ],
        );
        inbound(&lab, &[("[fd00:30::5]:8080", "pod:15006")]);
    });
}

#[test]
fn ipv6_switched_off_on_lo_stops_only_a_pod_that_uses_ipv6() {
    let switched_off = |lab: &PodLab| {
        crate::support::lab::inside(&lab.pod, || {
            std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1").unwrap()
        })
    };
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
        assert!(
            message.starts_with("KernelRefused: adding ::6/128 to lo"),
            "{message}"
        );
        assert!(
            !lab.state().contains("mesh-optin"),
            "no rule without the address that validation needs"
        );
    });
}
