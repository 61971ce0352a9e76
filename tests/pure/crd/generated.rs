//! Specs of MeshProfiles: many right, some wrong.

use mesh_optin::profile::Key;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

/// A value of a field: many right, some wrong.
fn any_of(right: &[Value], wrong: &[Value]) -> BoxedStrategy<Value> {
    prop_oneof![6 => select(right.to_vec()), 1 => select(wrong.to_vec())].boxed()
}

fn any_word(words: &[&str]) -> BoxedStrategy<Value> {
    let right: Vec<_> = words.iter().map(|w| json!(w)).collect();
    any_of(
        &right,
        &[json!(words[0].to_lowercase()), json!(""), json!(1)],
    )
}

fn any_selector() -> BoxedStrategy<Value> {
    let long = "x".repeat(64);
    let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]});
    let many = |n: usize| vec![json!({"key": "k", "operator": "Exists"}); n];
    any_of(
        &[
            json!({}),
            json!({"matchLabels": {"a": "b"}}),
            expression("In", json!(["a", "b"])),
            expression("NotIn", json!(["x".repeat(63)])),
            expression("Exists", json!([])),
            json!({"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}),
            json!({"matchExpressions": many(64)}),
        ],
        &[
            json!({"matchLabel": {"a": "b"}}),
            json!({"matchLabels": {"a": 1}}),
            expression("In", json!([])),
            expression("Exists", json!(["a"])),
            expression("Is", json!(["a"])),
            expression("In", json!([long])),
            json!({"matchExpressions": [{"operator": "Exists"}]}),
            json!({"matchExpressions": [{"key": "", "operator": "Exists"}]}),
            json!({"matchExpressions": many(65)}),
            json!(7),
        ],
    )
}

fn any_groups(may_be_all: bool) -> BoxedStrategy<Value> {
    let all = json!(["*"]);
    let mut right = vec![
        json!([]),
        json!([0, 4_294_967_295_u32]),
        json!(["5", 6]),
        json!(["0010"]),
    ];
    let mut wrong = vec![
        json!(["wheel"]),
        json!([-1]),
        json!(["+5"]),
        json!([4_294_967_296_u64]),
        json!(["4294967296"]),
        json!([""]),
        json!(["00000000001"]),
        json!(vec![1; 65]),
        json!(["*", 5]),
        json!([1.5]),
    ];
    if may_be_all { &mut right } else { &mut wrong }.push(all);
    any_of(&right, &wrong)
}

/// Some fields of an object, and seldom one that there is not.
fn any_object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            proptest::option::weighted(0.4, value).prop_map(move |v| v.map(|v| (name, v)))
        })
        .collect();
    let unknown = proptest::option::weighted(0.02, Just(("fromTheFuture", json!(1))));
    (fields, unknown)
        .prop_map(|(fields, unknown)| {
            fields
                .into_iter()
                .flatten()
                .chain(unknown)
                .map(|(k, v)| (k.to_owned(), v))
                .collect()
        })
        .boxed()
}

pub(super) fn any_spec() -> BoxedStrategy<Value> {
    let port = || {
        any_of(
            &[json!(1), json!(2), json!(80), json!(15001), json!(65535)],
            &[json!(0), json!(65536), json!(-1), json!("80"), json!(1.5)],
        )
    };
    let id = || {
        any_of(
            &[json!(1), json!(4_294_967_295_u32)],
            &[json!(0), json!(-1), json!(4_294_967_296_u64), json!("1")],
        )
    };
    let flag = || any_of(&[json!(true), json!(false)], &[json!("true")]);
    let names = || {
        any_of(
            &[
                json!([]),
                json!(["a", "b"]),
                json!(vec!["x"; 256]),
                json!(["x".repeat(63)]),
            ],
            &[
                json!(vec!["x"; 257]),
                json!(["x".repeat(64)]),
                json!("a"),
                json!([1]),
            ],
        )
    };
    let keys: Vec<_> = Key::ALL.map(Key::as_str).to_vec();
    // what the text may be is the program's to say
    let traffic = Key::ALL
        .map(|key| {
            (
                key.as_str(),
                any_of(&[json!("")], &[json!(1), json!(["a"])]),
            )
        })
        .to_vec();
    let redirect = any_object(vec![
        ("backend", any_word(&["Auto", "Nftables", "Iptables"])),
        ("interfaces", any_word(&["All", "Primary"])),
        ("ipFamilies", any_word(&["Proxy", "All"])),
        (
            "ports",
            any_object(vec![
                ("outbound", port()),
                ("inbound", port()),
                ("tunnel", port()),
                ("dns", port()),
            ]),
        ),
        ("proxyUID", id()),
        ("proxyGID", id()),
        (
            "alwaysExcludedInboundPorts",
            any_of(
                &[json!([]), json!([0, 65535]), json!(vec![1; 256])],
                &[
                    json!([65536]),
                    json!(vec![1; 257]),
                    json!([-1]),
                    json!(["1"]),
                ],
            ),
        ),
        (
            "outboundOwnerGroups",
            any_object(vec![
                ("include", any_groups(true)),
                ("exclude", any_groups(false)),
            ]),
        ),
        ("traffic", any_object(traffic)),
        ("preempted", any_word(&["Refuse", "Warn"])),
        ("unsupportedRuntimes", names()),
    ]);
    any_object(vec![
        ("namespaces", any_selector()),
        ("revisions", names()),
        (
            "enrollment",
            any_object(vec![
                (
                    "mode",
                    any_word(&["Istio", "Maistra", "Either", "Selector"]),
                ),
                ("namespaceSelector", any_selector()),
                ("namespacesByDefault", flag()),
                ("unenrolledSidecar", any_word(&["Refuse", "Redirect"])),
                ("missingSidecar", any_word(&["Refuse", "Warn"])),
            ]),
        ),
        ("excludedNamespaces", names()),
        (
            "attachment",
            any_object(vec![
                (
                    "name",
                    any_of(
                        &[json!("a"), json!("istio-cni"), json!("0".repeat(63))],
                        &[
                            json!("a.b"),
                            json!(""),
                            json!("-a"),
                            json!("a-"),
                            json!("A"),
                            json!("a".repeat(64)),
                            json!("a\n"),
                            json!("ä"),
                        ],
                    ),
                ),
                ("placement", any_word(&["PerNamespace", "Shared", "None"])),
            ]),
        ),
        ("redirect", redirect),
        (
            "tenants",
            any_object(vec![
                (
                    "mayOverride",
                    any_of(
                        &[json!([]), json!(["*"]), json!(keys), json!([keys[0]])],
                        &[
                            json!(["everything"]),
                            json!(["*", keys[0]]),
                            json!("*"),
                            json!([1]),
                        ],
                    ),
                ),
                ("notAllowed", any_word(&["Refuse", "Ignore"])),
                ("mayOptOut", flag()),
                ("mayShareProxyIdentity", flag()),
            ]),
        ),
        (
            "admission",
            any_object(vec![
                ("attachments", any_word(&["Deny"])),
                ("unattachedPods", any_word(&["Allow", "Warn", "Deny"])),
                ("enforced", any_word(&["Warn", "Deny"])),
            ]),
        ),
        ("drift", any_word(&["Report", "Repair"])),
        ("suspended", flag()),
        (
            "requires",
            any_of(
                &[json!(""), json!("0.1.0")],
                &[json!(1), json!("x".repeat(33))],
            ),
        ),
    ])
}
