//! The schema of MeshProfile: `crds/meshoptin.dev_meshprofiles.yaml`, and what is needed to validate as an API server does.

use std::borrow::Cow;

use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

use super::{MayOverride, MeshProfile};
use crate::mesh::{
    Groups, Key, Selection, TrafficSettings, groups::MOST_GROUPS, selector::Selector,
};

/// `status`, of which nothing is known yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status(Map<String, Value>);

/// The CustomResourceDefinition, as an API server takes it. It has no defaults, which an API server would write into every object: they
/// could not be changed later.
pub fn crd() -> Value {
    let mut crd = json!(MeshProfile::crd());
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    schema["properties"]["spec"]["x-kubernetes-validations"] = json!([{
        "rule": MAY_OPT_OUT,
        "message": "tenants.mayOptOut: false needs namespaces: it must not hold in all namespaces of the cluster",
    }]);
    if let Value::Object(fields) = schema {
        fields.remove("required"); // an object without a spec is that of all defaults
        fields.remove("title");
    }
    crd
}

/// What is true of a profile that lets its tenants' pods stay out of the mesh, or is for some namespaces alone.
const MAY_OPT_OUT: &str = "!has(self.tenants) || !has(self.tenants.mayOptOut) || self.tenants.mayOptOut || \
    (has(self.namespaces) && [has(self.namespaces.matchLabels) && size(self.namespaces.matchLabels) > 0, \
    has(self.namespaces.matchExpressions) && size(self.namespaces.matchExpressions) > 0].exists(some, some))";

/// Makes a schema structural, and readable with `kubectl explain`.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("default");
            fields.remove("nullable");
            // of Rust alone, as uint16
            fields.remove("format");
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            for bound in ["minimum", "maximum"] {
                if let Some(number) = fields.get(bound).and_then(Value::as_f64) {
                    fields.insert(bound.into(), (number as i64).into());
                }
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(entries) => entries.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

macro_rules! inline_schema {
    ($($name:ident: $schema:expr;)+) => {
        $(impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })+
    };
}

inline_schema! {
    Status: json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    Groups: json_schema!({
        "type": "object",
        "properties": {
            "include": groups("The groups whose connections are captured: gids, or \"*\" alone for all (default).", true),
            "exclude": groups("Where all are captured, the groups whose connections are left alone: gids.", false),
        },
    });
    MayOverride: json_schema!({
        "type": "array",
        "maxItems": Key::ALL.len(),
        "items": { "type": "string", "enum": may_override() },
        "x-kubernetes-validations": [{
            "rule": "!('*' in self) || size(self) == 1",
            "message": "* stands for all settings and is written alone",
        }],
    });
    TrafficSettings: json_schema!({
        "type": "object",
        "properties": Key::ALL.into_iter().map(traffic_setting).collect::<Map<_, _>>(),
    });
}

fn may_override() -> Vec<&'static str> {
    ["*"].into_iter().chain(Key::ALL.map(Key::as_str)).collect()
}

fn groups(description: &str, takes_all: bool) -> Value {
    let is_number = "string(self).matches('^[0-9]{1,10}$') && int(string(self)) <= 4294967295";
    let (item, of_list) = if takes_all {
        let alone = json!([{
            "rule": "size(self) == 1 || self.all(group, string(group) != '*')",
            "message": "* stands for all groups and is written alone",
        }]);
        (format!("string(self) == '*' || ({is_number})"), alone)
    } else {
        (is_number.to_owned(), json!([]))
    };
    json!({
        "description": description,
        "type": "array",
        "maxItems": MOST_GROUPS,
        "items": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 10,
            "x-kubernetes-validations": [{
                "rule": item,
                "message": "a group is a number from 0 to 4294967295",
            }],
        },
        "x-kubernetes-validations": of_list,
    })
}

fn traffic_setting(key: Key) -> (String, Value) {
    let schema = json!({ "type": "string", "description": key.description().trim() });
    (key.to_string(), schema)
}

impl JsonSchema for Selector {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Self::text_schema(generator)
    }
}

// === Serialize, for validation ===

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match &self.0.include {
            Selection::All => map.serialize_entry("include", &["*"])?,
            Selection::Only(gids) => map.serialize_entry("include", gids)?,
        }
        map.serialize_entry("exclude", &self.0.exclude)?;
        map.end()
    }
}

impl Serialize for MayOverride {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Selection::All => ["*"].serialize(serializer),
            Selection::Only(keys) => keys.serialize(serializer),
        }
    }
}

impl Serialize for TrafficSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            Key::ALL
                .iter()
                .filter_map(|key| Some((key, self.get(*key)?))),
        )
    }
}
