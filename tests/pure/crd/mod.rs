//! `crds/` is what the types say, and an API server that has it takes what the node's program takes.

mod bounds;
mod generated;
mod reference;

use std::cell::Cell;

use mesh_optin::profile::{
    Profile, ProfileOrigin, crd, mesh_node_crd, unknown_fields_policy, validate_cel,
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use self::{generated::any_spec, reference::lacking};
use crate::{
    complete::{all, identifiers},
    kept::is_update,
};

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

/// Adds what one object has to another, also to the objects in it.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[test]
fn generated_profiles_have_every_field() {
    let mut all = json!({});
    let mut runner = TestRunner::deterministic();
    for _ in 0..300 {
        merge(
            &mut all,
            any_spec().new_tree(&mut runner).unwrap().current(),
        );
    }
    let schema =
        crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
    assert_eq!(
        lacking("spec", &schema, &all),
        Vec::<String>::new(),
        "fields that tests/pure/crd/generated.rs never draws"
    );
}

/// `proxyUID` as `proxy_uid`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && was_lower {
            out.push('_');
        }
        was_lower = c.is_lowercase();
        out.extend(c.to_lowercase());
    }
    out
}

/// The names of the fields of a schema, without those of selectors, which a library reads.
fn names(schema: &Value, into: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        into.push(name.clone());
        if !["namespaces", "namespaceSelector", "traffic"].contains(&name.as_str()) {
            names(field, into);
        }
    }
}

#[test]
fn every_field_of_a_profile_is_read_by_the_program_or_by_a_policy() {
    let is_type = |file: &str| file.starts_with("src/profile/");
    let is_generated = |file: &str| file.ends_with("admission/profiles.yaml");
    let (source, policies) = (
        all("src", "rs", is_type),
        all("deploy/admission", "yaml", is_generated),
    );
    let (source, policies) = (identifiers(&source), identifiers(&policies));
    let schema =
        crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
    let mut fields = vec![];
    names(&schema, &mut fields);
    assert!(fields.len() > 30, "{fields:?}");
    for name in fields {
        let is_read = source.contains(snake_case(&name).as_str()) || policies.contains(&*name);
        // read where profiles are parsed: such a profile is refused, and has no other meaning
        assert!(is_read || name == "requires", "nothing reads {name}");
    }
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
