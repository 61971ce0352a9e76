//! Plans of every kind.

use mesh_optin::{
    mesh::{Attachment, Decision, Intent, Namespace, Pod, decide},
    plan::{Plan, PodNetwork},
    profile::{Interfaces, Key, Profile, Selection},
};
use serde_json::Value;

use crate::{
    kept::data_path,
    support::data::{data, injected, intent_of},
};

/// Annotations that set every traffic setting.
pub(crate) const EVERY_SETTING: [(&str, &str); 8] = [
    ("traffic.sidecar.istio.io/includeInboundPorts", "8080,9090"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "22,3306"),
    (
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        "10.0.0.0/8,172.16.0.0/12,192.168.1.1/32,fd00::/8,127.0.0.9/32",
    ),
    (
        "traffic.sidecar.istio.io/excludeOutboundIPRanges",
        "10.96.0.10/32,fd00:1::/33",
    ),
    ("traffic.sidecar.istio.io/includeOutboundPorts", "443,8443"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "5432"),
    ("traffic.sidecar.istio.io/excludeInterfaces", "net1,net2"),
    ("istio.io/reroute-virtual-interfaces", "tap0,tap1"),
];

const EVERY_VARIABLE: [(&str, &str); 3] = [
    ("ISTIO_DUAL_STACK", "true"),
    ("INVALID_DROP", "true"),
    ("ISTIO_META_DNS_CAPTURE", "true"),
];

const TPROXY: (&str, &str) = ("sidecar.istio.io/interceptionMode", "TPROXY");

fn every_setting(with: &[(&str, &str)]) -> Intent {
    for key in Key::ALL {
        let sets = |(name, _): &(&str, &str)| key.annotations().contains(name);
        assert!(
            EVERY_SETTING.iter().any(sets),
            "{key} is missing in EVERY_SETTING"
        );
    }
    let annotations = [&EVERY_SETTING[..], with].concat();
    intent_of(
        &injected(&annotations, &EVERY_VARIABLE),
        &Profile::built_in(),
    )
}

/// The plans, by name.
pub(super) fn plans() -> Vec<(String, Plan)> {
    let network = |ipv4, ipv6| PodNetwork::of_eth0(ipv4, ipv6);
    let plan = |name: &str, intent: &Intent, network: &PodNetwork| {
        (name.to_owned(), Plan::new(intent, network).unwrap())
    };
    let mut files: Vec<_> = std::fs::read_dir(data_path("pods"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let of_file = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (pod, namespace) = data(name);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lab = serde_json::from_str::<Value>(&text).unwrap()["lab"].take();
        let (profile, silent) = (Profile::built_in(), Attachment::default());
        let Decision::Redirect(intent) = decide(&pod, &namespace, Ok(&profile), &silent).decision
        else {
            return None;
        };
        let has = |family: &str| lab[family].as_bool().unwrap();
        Some(plan(name, &intent, &network(has("v4"), has("v6"))))
    };
    let mut plans: Vec<_> = files.iter().filter_map(of_file).collect();
    assert_eq!(plans.len(), 10, "redirected pods of tests/data/pods");
    let both = network(true, true);
    plans.push(plan("every setting", &every_setting(&[]), &both));
    let mut rest = every_setting(&[("traffic.sidecar.istio.io/includeInboundPorts", "*")]);
    rest.interfaces = Interfaces::Primary;
    rest.outbound.owner_groups.include = Selection::Only(vec![1000, 2000, 4_294_967_294]);
    plans.push(plan(
        "every setting, primary interfaces, groups",
        &rest,
        &both,
    ));
    rest.outbound.owner_groups.include = Selection::All;
    rest.outbound.owner_groups.exclude = vec![2000];
    rest.outbound.include_ranges = Selection::All;
    plans.push(plan("all but a group", &rest, &both));
    plans.push(plan(
        "every setting, TPROXY",
        &every_setting(&[TPROXY]),
        &both,
    ));
    let dual_stack = injected(&[TPROXY], &[("ISTIO_DUAL_STACK", "true")]);
    let dual_stack = intent_of(&dual_stack, &Profile::built_in());
    plans.push(plan("dual-stack TPROXY", &dual_stack, &both));
    plans
}
