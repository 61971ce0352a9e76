//! The reference of fields in `crds/README.md`, from the schemas.

use mesh_optin::profile::{crd, mesh_node_crd};
use serde_json::Value;

use crate::kept::{first_difference, is_update};

const MARKER: &str = "<!-- Written from the Rust types";

/// The bounds that a schema sets, as text.
fn bounds(schema: &Value) -> String {
    let number = |key: &str| schema[key].as_i64();
    let words = schema["enum"].as_array().map(|words| {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        words.join(" \\| ")
    });
    let range = match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    };
    let length = number("maxLength").map(|most| format!("at most {most} characters"));
    let items = number("maxItems").map(|most| format!("at most {most}"));
    let all: Vec<_> = [words, range, length, items]
        .into_iter()
        .flatten()
        .collect();
    all.join(", ")
}

/// The type of a field, as a person would say it.
fn kind(schema: &Value) -> String {
    let plain = |schema: &Value| match schema["x-kubernetes-int-or-string"].as_bool() {
        Some(true) => "integer or string".to_owned(),
        _ => match schema["type"].as_str() {
            Some("object") if schema.get("additionalProperties").is_some() => "map".to_owned(),
            kind => kind.unwrap_or("any").to_owned(),
        },
    };
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", plain(&schema["items"])),
        (_, Some("date-time")) => "time".to_owned(),
        _ => plain(schema),
    }
}

/// The rows of an object's fields, each followed by those of the fields in it.
fn rows(path: &str, schema: &Value, text: &mut String) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    for (name, field) in fields {
        let (path, items) = (format!("{path}.{name}"), &field["items"]);
        let description = field["description"].as_str().unwrap_or_default();
        let of_items = bounds(items);
        let bounds = [bounds(field), of_items].map(|b| (!b.is_empty()).then_some(b));
        let bounds: Vec<_> = bounds.into_iter().flatten().collect();
        let (kind, bounds) = (kind(field), bounds.join("; "));
        let bounds = match bounds.is_empty() {
            true => bounds,
            false => format!(" ({bounds})"),
        };
        *text += &format!("| `{path}` | {kind}{bounds} | {description} |\n");
        rows(&path, field, text);
        rows(&format!("{path}[]"), items, text);
    }
}

/// The reference of a kind: of these parts of its schema.
fn reference(kind: &str, crd: &Value, parts: &[&str]) -> String {
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut text = format!("## {kind}\n\n| field | type | meaning |\n|---|---|---|\n");
    for part in parts {
        rows(part, &schema[*part], &mut text);
    }
    text
}

#[test]
fn the_reference_of_fields_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/README.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (by_hand, rest) = page.split_once(MARKER).unwrap();
    let marker = format!("{MARKER}{}\n\n", rest.lines().next().unwrap());
    let profile = reference("Fields of MeshProfile", &crd(), &["spec"]);
    let node = reference("Fields of MeshNode", &mesh_node_crd(), &["status"]);
    let expected = format!("{by_hand}{marker}{profile}\n{node}");
    if is_update() {
        std::fs::write(path, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "crds/README.md is not what the types say: write it with UPDATE=1 tests/run fast. The first difference: {}",
        first_difference(&page, &expected)
    );
    // not only that it is the same, but that it says something
    for row in [
        "| `spec.redirect.ports.outbound` | integer (1 to 65535) |",
        "| `spec.drift` | string (Report \\| Repair) |",
        "| `status.problems[].reason` | string (at most 128 characters) |",
    ] {
        assert!(page.contains(row), "{row}");
    }
}

/// The fields of a schema that a value lacks; of maps and selectors only themselves.
pub(super) fn lacking(path: &str, schema: &Value, value: &Value) -> Vec<String> {
    let whole = ["namespaces", "namespaceSelector", "traffic"];
    let Some(fields) = schema["properties"].as_object() else {
        return Vec::new();
    };
    let of_field = |(name, field): (&String, &Value)| {
        let path = format!("{path}.{name}");
        match value.get(name) {
            None => vec![path],
            Some(_) if whole.contains(&name.as_str()) => Vec::new(),
            Some(value) => lacking(&path, field, value),
        }
    };
    fields.iter().flat_map(of_field).collect()
}

#[test]
fn the_example_of_a_profile_names_every_field() {
    let page = include_str!("../../../crds/README.md");
    let yaml = page.split("```yaml\n").nth(1).unwrap();
    let yaml = yaml.split("```").next().unwrap();
    let example: Value = serde_yaml::from_str(yaml).unwrap();
    let crd = crd();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(
        lacking("spec", schema, &example["spec"]),
        Vec::<String>::new(),
        "fields that the example in crds/README.md does not show"
    );
}
