//! `crds/` is what the types say, and an API server that has it takes what the node's program takes.

mod generated;

use std::cell::Cell;

use kube::core::cel::Validator;
use mesh_optin::mesh::{Profile, ProfileOrigin, crd};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use self::generated::any_spec;
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
