//! Every list and every text of a status has a bound, and what is written keeps to it.

use mesh_optin::profile::{
    MOST_SELECTED, Selector, SelectorText, crd,
    mesh_node::{
        LONGEST_MESSAGE, MOST_CONDITIONS, MOST_PROBLEMS, MOST_PROFILES, MultusStatus,
        NodeCondition, NodeStatus, Problem, ProfileInUse,
    },
    mesh_node_crd,
};
use serde_json::{Value, json};

fn schema_of(crd: &Value, part: &str) -> Value {
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// The lists and, where `texts` says so, the texts of a schema that may have any length.
fn unbounded(path: &str, schema: &Value, texts: bool, found: &mut Vec<String>) {
    let has = |key: &str| schema.get(key).is_some();
    let is_bounded = match schema["type"].as_str() {
        Some("array") => has("maxItems"),
        Some("string") => {
            !texts || has("maxLength") || has("enum") || schema["format"] == "date-time"
        }
        Some("object") if has("additionalProperties") => has("maxProperties"),
        _ => true,
    };
    if !is_bounded {
        found.push(path.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(&format!("{path}.{name}"), field, texts, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            unbounded(&format!("{path}[]"), &schema[below], texts, found);
        }
    }
}

#[test]
fn every_list_of_both_crds_and_every_text_of_a_status_is_bounded() {
    let mut found = vec![];
    for (kind, crd) in [("MeshProfile", crd()), ("MeshNode", mesh_node_crd())] {
        for (part, texts) in [("spec", false), ("status", true)] {
            let schema = schema_of(&crd, part);
            assert_eq!(schema["type"], "object", "{kind} {part}");
            unbounded(&format!("{kind} {part}"), &schema, texts, &mut found);
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_report_that_is_too_long_is_cut_to_what_the_crd_takes() {
    let long = || "ä".repeat(LONGEST_MESSAGE + 1);
    let time = || "2026-01-01T00:00:00Z".to_owned();
    let condition = NodeCondition {
        kind: long(),
        status: long(),
        reason: long(),
        message: long(),
        last_transition_time: time(),
    };
    let problem = Problem {
        namespace: long(),
        pod: long(),
        reason: long(),
        since: time(),
    };
    let profile = ProfileInUse {
        name: long(),
        resource_version: long(),
    };
    let status = NodeStatus {
        version: long(),
        program_version: long(),
        kernel: long(),
        backend: long(),
        multus: MultusStatus {
            mode: long(),
            version: long(),
            bin_dir: long(),
            conf_dir: long(),
        },
        conditions: vec![condition; MOST_CONDITIONS + 1],
        profiles: vec![profile; MOST_PROFILES + 1],
        problems: vec![problem; MOST_PROBLEMS + 1],
        ..NodeStatus::default()
    };
    let schema = jsonschema::validator_for(&schema_of(&mesh_node_crd(), "status")).unwrap();
    assert!(!schema.is_valid(&json!(status)));
    let cut = status.within_bounds();
    if let Err(error) = schema.validate(&json!(cut)) {
        panic!("{error} at {}", error.instance_path());
    }
    assert_eq!(cut.problems.len(), MOST_PROBLEMS);
    // what is within bounds stays
    let text = serde_json::to_string(&cut).unwrap();
    assert_eq!(serde_json::to_string(&cut.within_bounds()).unwrap(), text);
}

#[test]
fn the_status_takes_every_selector_that_a_spec_takes() {
    let schema = &schema_of(&crd(), "status")["properties"]["otherSelectors"]["items"];
    let schema = jsonschema::validator_for(schema).unwrap();
    let values: Vec<_> = (0..256).map(|n| format!("{n:063}")).collect();
    let most = |operator: &str, values: &[String]| {
        let expression = json!({"key": "k".repeat(317), "operator": operator, "values": values});
        vec![expression; 64]
    };
    let labels: serde_json::Map<_, _> = (0..64).map(|n| (format!("l{n}"), json!("v"))).collect();
    for selector in [
        json!({}),
        json!({"matchLabels": labels}),
        json!({"matchLabels": {"a": "v".repeat(1000)}}),
        json!({"matchExpressions": most("Exists", &[])}),
        json!({"matchExpressions": most("NotIn", &values[..9])}),
        json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]}),
    ] {
        let text = selector.to_string();
        let Ok(read) = serde_json::from_str::<Selector>(&text) else {
            panic!("no spec takes {text:.200}");
        };
        let written = SelectorText::from(&read);
        assert!(written.bytes() <= MOST_SELECTED, "{}", written.bytes());
        if let Err(error) = schema.validate(&json!(written)) {
            panic!("{error:.200}: {text:.200}");
        }
    }
    for wrong in [
        json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
        json!({"matchExpressions": vec![json!({"key": "a", "operator": "Exists"}); 65]}),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong:.200}");
    }
}
