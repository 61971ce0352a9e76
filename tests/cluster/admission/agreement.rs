//! The policies and the plugin agree: what is let through is decided without InvalidAttachment or OverrideNotAllowed.

use mesh_optin::{
    cni::Config,
    mesh::{Attachment, Decision, Namespace, Pod, decide},
    profile::{Key, Profile, ProfileOrigin},
    reason::Reason,
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config as Runs, TestRunner},
};
use serde_json::{Value, json};

use super::{PROFILES, attached, bind, create, eventually, guarded, merge, nad, profile, start};

const CASES: usize = 400;

/// Values of settings, most of them good for some setting.
fn values() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        0u32..70_000,
        Just(65_535),
        Just(65_536),
        Just(15_020),
        Just(80)
    ]
    .prop_map(|n| n.to_string());
    let network = prop_oneof![
        Just("10.0.0.0/8".to_owned()),
        Just("10.1.2.3/32".to_owned()),
        Just("fd00::/8".to_owned()),
        Just("1:2:3:4:5:6:7::/64".to_owned()),
        Just("::ffff:1.2.3.4/96".to_owned()),
        Just("::1.2.3.4/128".to_owned()),
        Just("10.0.0.0/08".to_owned()),
        Just("10.0.0.0/33".to_owned()),
        Just("010.0.0.0/8".to_owned()),
        (any::<[u8; 4]>(), 0u8..40)
            .prop_map(|(a, n)| format!("{}/{n}", std::net::Ipv4Addr::from(a))),
        (any::<[u16; 8]>(), 0u8..140)
            .prop_map(|(a, n)| format!("{}/{n}", std::net::Ipv6Addr::from(a))),
    ];
    let interface = prop_oneof!["[a-zA-Z0-9_][a-z0-9_.-]{0,16}", Just("net1".to_owned())];
    let separator = prop_oneof![8 => Just(","), 1 => Just(", "), 1 => Just(",,")];
    let list = |entry: BoxedStrategy<String>| {
        (proptest::collection::vec(entry, 0..20), separator.clone())
            .prop_map(|(list, by)| list.join(by))
    };
    prop_oneof![
        4 => list(number.boxed()),
        4 => list(network.boxed()),
        4 => list(interface.boxed()),
        1 => Just("*".to_owned()),
        1 => Just(" ".to_owned()),
        1 => Just(String::new()),
        1 => (250usize..262).prop_map(|n| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",")),
        1 => "[0-9A-Za-z.,:/* é-]{0,12}",
    ]
}

/// A setting, or nearly one, with a value that mostly suits it.
fn setting() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        9 => proptest::sample::select(Key::ALL.map(|k| k.as_str().to_owned()).to_vec()),
        1 => Just("kubevirtInterfaces".to_owned()),
        1 => "[a-zA-Z]{1,8}",
    ];
    (key, values(), 0..9u8).prop_map(|(key, value, kind)| match kind {
        0 => format!("{key:?}:5432"),
        1 => format!("{key:?} :\n {value:?}"),
        _ => format!("{key:?}:{value:?}"),
    })
}

/// A configuration that is ours, or looks so to somebody.
fn configuration() -> impl Strategy<Value = String> {
    let traffic = proptest::collection::vec(setting(), 0..3)
        .prop_map(|all| format!("\"traffic\":{{{}}}", all.join(",")))
        .boxed();
    let profile = prop_oneof![
        "[a-z][a-z0-9.-]{0,9}".prop_map(|name| format!("\"profile\":{name:?}")),
        (250usize..257).prop_map(|n| format!("\"profile\":\"{}\"", "p".repeat(n))),
        Just("\"profile\":7".to_owned()),
    ]
    .boxed();
    let inner = prop_oneof![
        6 => traffic.clone(),
        2 => profile.clone(),
        2 => (profile, traffic).prop_map(|(p, t)| format!("{p},{t}")),
        1 => Just(String::new()),
        1 => Just("\"kubeconfig\":\"/x\"".to_owned()),
    ];
    let version = proptest::sample::select(vec![
        "",
        "\"cniVersion\":\"1.1.0\",",
        "\"cniVersion\":\"0.3.0\",",
        "\"cniVersion\":\"0.5.0\",",
        "\"cniVersion\":1,",
        "\"name\":\"x\",",
    ]);
    let kind = proptest::sample::select(vec![
        "\"type\":\"mesh-optin\"",
        "\"type\" :\t\"istio-cni\"",
        "\"Type\":\"mesh-optin\"",
    ]);
    (version, kind, inner, 0..12u8).prop_map(|(version, kind, inner, form)| match form {
        0 => format!("{{{version}{kind},\"meshOptin\":[{{{inner}}}]}}"),
        1 => format!("{{{version}{kind},\"meshOptin\":{{{inner}}},\"meshOptin\":{{}}}}"),
        2 => format!("[{{{version}{kind},\"meshOptin\":{{{inner}}}}}]"),
        3 => format!("{{{version}{kind},\"prevResult\":{{}},\"meshOptin\":{{{inner}}}}}"),
        _ => format!("{{{version}{kind},\"meshOptin\":{{{inner}}}}}"),
    })
}

fn generated<S: Strategy>(strategy: &S, cases: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::new(Runs::default());
    (0..cases)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect()
}

#[test]
fn an_attachment_that_the_policies_admit_is_one_that_the_plugin_can_read() {
    let [mut admitted, mut refused] = [0, 0];
    for config in generated(&configuration(), CASES) {
        let by_plugin = Config::parse(config.as_bytes())
            .map_err(|e| format!("{e:?}"))
            .and_then(|c| {
                let said = c.mesh_optin.as_ref().map(|raw| raw.get());
                Attachment::parse(said).map_err(|e| e.to_string())
            });
        let object = nad("x", &json!({"config": config}));
        let (by_server, _) = create(guarded(), "team-b", &object, true);
        match by_server {
            Ok(_) => {
                admitted += 1;
                assert!(by_plugin.is_ok(), "let through: {config}\n{by_plugin:?}");
            }
            Err(why) => {
                refused += 1;
                assert!(why.contains("mesh-optin-attachments"), "{config}: {why}");
            }
        }
    }
    println!("{admitted} let through, {refused} refused");
    assert!(
        admitted > CASES / 40 && refused > CASES / 10,
        "{admitted} {refused}"
    );
}

#[test]
fn a_pod_that_the_policies_admit_sets_only_what_it_may() {
    let cluster = start();
    let spec = json!({
        "tenants": {"mayOverride": ["excludeInterfaces"]},
        "redirect": {"traffic": {"includeOutboundIPRanges": "10.0.0.0/8,fd00::/8", "excludeOutboundPorts": "80, 443", "includeOutboundPorts": "9"}},
    });
    let object = profile("p", &spec);
    cluster.create(PROFILES, &object);
    bind(&cluster);
    let governing = Profile::from_json(&object.to_string(), ProfileOrigin::BuiltIn).unwrap();
    let mut namespace = Namespace::default();
    namespace.metadata.name = "team-a".into();
    namespace.metadata.labels = [("istio-injection".into(), "enabled".into())].into();
    let forbidden = |annotations: &Value| {
        let mut pod = attached(&json!({"metadata": {"annotations": annotations}}));
        merge(&mut pod, &json!({"metadata": {"namespace": "team-a"}}));
        let by_server = create(&cluster, "team-a", &pod, true).0;
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let decided = decide(&pod, &namespace, Ok(&governing), &Attachment::default());
        let by_plugin = match decided.decision {
            Decision::Refuse(why) if why.reason == Reason::OverrideNotAllowed => true,
            Decision::Refuse(_) | Decision::Skip(_) | Decision::Redirect(_) => false,
        };
        (by_server, by_plugin)
    };
    let of = |key: &str| format!("traffic.sidecar.istio.io/{key}");
    eventually(|| {
        forbidden(&json!({of("includeOutboundPorts"): "1"}))
            .0
            .is_err()
    });
    // what Istio's injector writes, and what says the same as the profile
    for (key, value) in [
        ("includeInboundPorts", "*"),
        ("includeOutboundIPRanges", "*"),
        ("includeOutboundIPRanges", "fd00::/8,10.0.0.0/8"),
        ("excludeInboundPorts", "15020"),
        ("excludeInboundPorts", "15021, 15090"),
        ("excludeInboundPorts", ""),
        ("excludeOutboundPorts", "443"),
        ("excludeOutboundPorts", "443,80"),
        ("excludeOutboundPorts", ""),
        ("includeOutboundPorts", "9"),
        ("excludeInterfaces", "net1"),
        ("kubevirtInterfaces", ""),
    ] {
        let (by_server, by_plugin) = forbidden(&json!({of(key): value}));
        assert!(
            by_server.is_ok() && !by_plugin,
            "{key}: {value:?}: {by_server:?} {by_plugin}"
        );
    }
    let refused = forbidden(&json!({of("excludeOutboundPorts"): "22"}))
        .0
        .unwrap_err();
    assert!(refused.contains("MeshProfile p, which governs namespace team-a, does not let pods set annotation traffic.sidecar.istio.io/excludeOutboundPorts;"), "{refused}");
    let key = prop_oneof![
        9 => proptest::sample::select(Key::ALL.iter().flat_map(|k| k.annotations().iter().map(|a| (*a).to_owned())).collect::<Vec<_>>()),
        1 => Just("status.sidecar.istio.io/port".to_owned()),
    ];
    let value = prop_oneof![
        values(),
        proptest::sample::select(vec![
            "80",
            "443,80",
            "80,",
            "15020",
            "15090,15020",
            "9",
            "10.0.0.0/8",
            "10.0.0.0/8,fd00::/8",
            "10.5.0.0/16",
            "0.0.0.0/0"
        ])
        .prop_map(Into::into),
    ];
    let annotations = proptest::collection::btree_map(key, value, 1..3);
    let [mut admitted, mut refused] = [0, 0];
    for annotations in generated(&annotations, CASES) {
        let (by_server, by_plugin) = forbidden(&json!(annotations));
        match by_server {
            Ok(_) => {
                admitted += 1;
                assert!(!by_plugin, "let through: {annotations:?}");
            }
            Err(why) => {
                refused += 1;
                assert!(
                    why.contains("mesh-optin-overrides"),
                    "{annotations:?}: {why}"
                );
            }
        }
    }
    println!("{admitted} let through, {refused} refused");
    assert!(
        admitted > CASES / 10 && refused > CASES / 10,
        "{admitted} {refused}"
    );
}
