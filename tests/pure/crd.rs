//! `crds/` is what the types say, and an API server that has it takes what the node's program takes.

use std::cell::Cell;

use kube::core::cel::Validator;
use mesh_optin::mesh::{Key, Profile, ProfileOrigin, crd};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::kept::is_update;

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/crds/meshoptin.dev_meshprofiles.yaml"
);

#[test]
fn the_crd_is_what_the_types_say() {
    let yaml = serde_yaml::to_string(&crd()).unwrap();
    let yaml = format!("# Written from the Rust types by UPDATE=1 tests/run fast\n{yaml}");
    if is_update() {
        std::fs::write(PATH, &yaml).unwrap();
    }
    assert!(
        std::fs::read_to_string(PATH).unwrap_or_default() == yaml,
        "crds/meshoptin.dev_meshprofiles.yaml is not what the types say: write it with UPDATE=1 tests/run fast"
    );
}

/// The schema as JSON Schema knows it: what a strict API server does with fields and with integers or strings is said in its words.
fn as_json_schema(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
            if fields.contains_key("x-kubernetes-int-or-string") {
                fields.insert("type".into(), json!(["integer", "string"]));
            }
            fields.values_mut().for_each(as_json_schema);
        }
        Value::Array(entries) => entries.iter_mut().for_each(as_json_schema),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

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

fn any_spec() -> BoxedStrategy<Value> {
    let port = || {
        any_of(
            &[json!(1), json!(65535)],
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
            any_object(vec![(
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
            )]),
        ),
        ("drift", any_word(&["Report", "Repair"])),
    ])
}

#[test]
fn the_crd_and_the_nodes_program_take_the_same_profiles() {
    let structural =
        crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
    let mut strict = structural.clone();
    as_json_schema(&mut strict);
    let strict = jsonschema::validator_for(&strict).unwrap();
    let rules = Validator::new();
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(800)
    };
    let tried = TestRunner::new(config).run(&any_spec(), |spec| {
        let by_crd = match strict.validate(&spec) {
            Err(error) => Err(error.to_string()),
            Ok(()) => rules.validate(&structural, &spec, None).map_err(|errors| format!("{errors:?}")),
        };
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "p"}, "spec": spec});
        let by_program = Profile::from_json(&object.to_string(), ProfileOrigin::BuiltIn);
        prop_assert_eq!(
            by_crd.is_ok(),
            by_program.is_ok(),
            "the CRD: {:?}; the program: {:?}",
            by_crd.err(),
            by_program.err()
        );
        let count = if by_program.is_ok() { &taken } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    tried.unwrap();
    assert!(
        taken.get() > 100 && refused.get() > 100,
        "{taken:?} {refused:?}"
    );
}
