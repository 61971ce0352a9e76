//! Whatever single thing is changed in a live redirection, `verify` finds it.

mod changes;
mod iptables;
mod looking;
mod nftables;
mod routing;

use crate::support::{
    lab::{BOTH, CONFIG, Node, PodLab},
    landings::profile,
    pods::given_with,
};

/// A pod that uses every kind of rule.
fn rich(node: &Node, mode: &str, backend: &str) -> (PodLab, String) {
    let annotations = [
        ("traffic.sidecar.istio.io/excludeInboundPorts", "22,3306"),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,172.16.0.0/12,fd00::/8",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "10.96.0.10/32,fd00:1::/33",
        ),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "5432"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "net1,net2"),
        ("istio.io/reroute-virtual-interfaces", "tap0"),
    ];
    let env = [
        ("ISTIO_DUAL_STACK", "true"),
        ("INVALID_DROP", "1"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
    ];
    let args = given_with(
        node,
        if mode == "TPROXY" {
            "tproxy"
        } else {
            "defaults"
        },
        &annotations,
        &env,
    );
    profile(
        node,
        &format!("{{backend: {backend}, outboundOwnerGroups: {{exclude: [\"2000\"]}}}}"),
    );
    let lab = node.pod("pod", BOTH);
    let add = node.call("ADD", &lab.netns, &args, CONFIG);
    assert_eq!(add.code, 0, "{add:?}");
    (lab, args)
}

/// What `verify` says: its exit code and how many differences and warnings it tells.
fn verify(node: &Node) -> (i32, usize, String) {
    let output = node
        .program(&["verify", "--all", "-o", "json"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    let pod = &json["pods"][0];
    (
        output.status.code().unwrap(),
        pod["differences"].as_array().unwrap().len() + pod["inFront"].as_array().unwrap().len(),
        text,
    )
}
