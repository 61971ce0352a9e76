//! `crds/` is what the types say, and an API server that has it takes what the node's program takes.

mod generated;
mod reference;

use std::cell::Cell;

use mesh_optin::mesh::{
    Profile, ProfileOrigin, crd, mesh_node_crd, unknown_fields_policy, validate_cel,
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use self::generated::any_spec;
use crate::kept::is_update;

#[test]
fn the_crds_are_what_the_types_say() {
    for (file, objects) in [
        ("crds/meshoptin.dev_meshprofiles.yaml", vec![crd()]),
        ("crds/meshoptin.dev_meshnodes.yaml", vec![mesh_node_crd()]),
        (
            "deploy/admission/profiles.yaml",
            unknown_fields_policy().into(),
        ),
    ] {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let documents = objects.iter().map(|o| serde_yaml::to_string(o).unwrap());
        let yaml = documents.collect::<Vec<_>>().join("---\n");
        let yaml = format!("# Written from the Rust types by UPDATE=1 tests/run fast\n{yaml}");
        if is_update() {
            std::fs::write(&path, &yaml).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == yaml,
            "{path} is not what the types say: write it with UPDATE=1 tests/run fast"
        );
    }
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
    let mut strict =
        crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
    as_json_schema(&mut strict);
    let strict = jsonschema::validator_for(&strict).unwrap();
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(800)
    };
    let tried = TestRunner::new(config).run(&any_spec(), |spec| {
        let by_crd = match strict.validate(&spec) {
            Err(error) => Err(error.to_string()),
            Ok(()) => validate_cel(&spec, None),
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

#[test]
fn rules_of_the_crd_say_what_is_wrong() {
    let selector = json!({"matchLabels": {"a": "b"}});
    for (spec, before, wrong) in [
        (json!({}), None, None),
        (
            json!({"namespaces": selector, "attachment": {"placement": "PerNamespace"}}),
            None,
            None,
        ),
        (
            json!({"attachment": {"placement": "PerNamespace"}}),
            None,
            Some("PerNamespace needs namespaces"),
        ),
        (
            json!({"namespaces": {"matchLabels": {}}, "tenants": {"mayOptOut": false}}),
            None,
            Some("mayOptOut: false needs namespaces"),
        ),
        (
            json!({"redirect": {"ports": {"outbound": 15006}}}),
            None,
            Some("ports must differ"),
        ),
        // of a default name as of one that is written
        (
            json!({"attachment": {"name": "istio-cni"}}),
            Some(json!({})),
            None,
        ),
        (json!({"attachment": {"name": "mesh"}}), None, None),
        (
            json!({"attachment": {"name": "mesh"}}),
            Some(json!({})),
            Some("attachment.name cannot be changed"),
        ),
        (
            json!({}),
            Some(json!({"attachment": {"name": "mesh"}})),
            Some("attachment.name cannot be changed"),
        ),
    ] {
        let result = validate_cel(&spec, before.as_ref());
        match (&result, wrong) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) if error.contains(part) => {}
            _ => panic!("{spec} after {before:?}: {result:?}, not {wrong:?}"),
        }
    }
}

#[test]
fn a_status_changes_nothing_of_what_a_node_reads() {
    let mut object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "p", "resourceVersion": "5"}, "spec": {"drift": "Repair"}});
    let read = |object: &Value| {
        let profile = Profile::of_cluster("p", &object.to_string(), ProfileOrigin::BuiltIn);
        assert!(profile.unreadable.is_none(), "{profile:?}");
        format!("{:?}", profile.spec)
    };
    let without = read(&object);
    object["status"] = json!({"observedGeneration": 1, "conditions": [{"type": "Ready", "fromTheFuture": true}], "other": []});
    assert_eq!(read(&object), without);
}
