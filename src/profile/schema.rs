//! The schema of MeshProfile, for `crds/meshoptin.dev_meshprofiles.yaml` and for validating as an API server does.

use std::{borrow::Cow, sync::OnceLock};

use kube::{CustomResourceExt, core::cel::Validator};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

use super::{
    AttachmentSpec, Groups, Key, MeshProfile, ProxyPorts, Selection, Selector, TrafficSettings,
    groups::MOST_GROUPS,
    mesh_node::{LONGEST_MESSAGE, LONGEST_WORD, MeshNode},
    spec::MayOverride,
};

/// The CustomResourceDefinition, as an API server takes it. It has no defaults, which an API server would write into every object: they
/// could not be changed later.
pub fn crd() -> Value {
    let mut crd = json!(MeshProfile::crd());
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    let spec = &mut schema["properties"]["spec"];
    spec["x-kubernetes-validations"] = json!([
        {
            "rule": format!("{MAY_OPT_OUT} || {HAS_SELECTOR}"),
            "message": "tenants.mayOptOut: false needs namespaces: it must not hold in all namespaces of the cluster",
        },
        {
            "rule": format!("!({PER_NAMESPACE}) || {HAS_SELECTOR}"),
            "message": "attachment.placement: PerNamespace needs namespaces: it must not put an attachment into all namespaces of the cluster",
        },
        {
            "rule": format!("{} == {}", attachment_name("self"), attachment_name("oldSelf")),
            "message": "attachment.name cannot be changed: running pods name the attachment; create another profile with the other name",
        },
    ]);
    spec["properties"]["redirect"]["properties"]["ports"]["x-kubernetes-validations"] = json!([
        {"rule": ports_differ(), "message": "the sidecar's ports must differ"},
    ]);
    let condition = &mut schema["properties"]["status"]["properties"]["conditions"]["items"];
    for (field, longest) in [
        ("type", LONGEST_WORD),
        ("status", LONGEST_WORD),
        ("reason", LONGEST_WORD),
        ("message", LONGEST_MESSAGE),
    ] {
        condition["properties"][field]["maxLength"] = longest.into();
    }
    if let Value::Object(fields) = schema {
        fields.remove("required"); // an object without a spec is that of all defaults
        fields.remove("title");
        fields.insert(PRESERVE.into(), true.into());
    }
    keep_unknown(&mut schema["properties"]["spec"]);
    crd
}

/// Whether an API server with our CRD takes a spec, by its rules; `before` is what it takes the place of. The error says why not.
pub fn validate_cel(spec: &Value, before: Option<&Value>) -> Result<(), String> {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    let of_spec =
        || crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
    let schema = SCHEMA.get_or_init(of_spec);
    let validator = Validator::new();
    validator.validate(schema, spec, before).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        errors.join("; ")
    })
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Lets fields that the schema does not have stay in objects: an API server would drop them, and tell only clients that ask it to. So a
/// misspelled selector would select every namespace.
fn keep_unknown(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        if fields.contains_key("properties") {
            fields.insert(PRESERVE.into(), true.into());
        }
        if let Some(Value::Object(properties)) = fields.get_mut("properties") {
            properties.values_mut().for_each(keep_unknown);
        }
        if let Some(items) = fields.get_mut("items") {
            keep_unknown(items);
        }
    }
}

/// The policy that names unknown fields to whoever writes them, whatever validation they asked for, and its binding. It has no parameters.
pub fn unknown_fields_policy() -> [Value; 2] {
    let schema = &crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut validations = vec![known(
        "object",
        "",
        "the object",
        &["apiVersion", "kind", "metadata", "spec", "status"].map(String::from),
    )];
    levels(
        &schema["properties"]["spec"],
        "object.spec",
        "has(object.spec)",
        &mut validations,
    );
    let name = json!({"name": "mesh-optin-profile-fields"});
    let version = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": name,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["meshoptin.dev"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"], "resources": ["meshprofiles"],
            }]},
            "validations": validations,
        },
    });
    let binding = json!({
        "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": name,
        "spec": {"policyName": name["name"], "validationActions": ["Deny"]},
    });
    [policy, binding]
}

/// A validation for each object below a path that is there where `guard` says so.
fn levels(schema: &Value, path: &str, guard: &str, validations: &mut Vec<Value>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let keys: Vec<_> = properties.keys().cloned().collect();
    let shown = path.strip_prefix("object.").unwrap_or(path);
    validations.push(known(path, guard, shown, &keys));
    for (name, below) in properties {
        let (path, guard) = (
            format!("{path}.{name}"),
            format!("{guard} && has({path}.{name})"),
        );
        levels(below, &path, &guard, validations);
        if let Some(items) = below["items"]["properties"].as_object() {
            let known = json!(items.keys().collect::<Vec<_>>());
            let shown = path.strip_prefix("object.").unwrap_or(&path);
            validations.push(json!({
                "expression": format!("!({guard}) || {path}.all(entry, entry.all(key, key in {known}))"),
                "message": format!("{shown}: an entry has an unknown field; the fields are {}", words(&items.keys().cloned().collect::<Vec<_>>())),
            }));
        }
    }
}

fn known(path: &str, guard: &str, shown: &str, keys: &[String]) -> Value {
    let (known, words) = (json!(keys), words(keys));
    let guarded = if guard.is_empty() {
        String::new()
    } else {
        format!("!({guard}) || ")
    };
    json!({
        "expression": format!("{guarded}{path}.all(key, key in {known})"),
        "messageExpression": format!(
            "'{shown} has an unknown field ' + {path}.filter(key, !(key in {known})).join(', ') + '; its fields are {words}'"
        ),
    })
}

fn words(keys: &[String]) -> String {
    keys.join(", ")
}

/// The CustomResourceDefinition of MeshNode.
pub fn mesh_node_crd() -> Value {
    let mut crd = json!(MeshNode::crd());
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    if let Value::Object(fields) = schema {
        fields.remove("required");
        fields.remove("title");
    }
    crd
}

/// True of a profile that lets its tenants' pods stay out of the mesh.
const MAY_OPT_OUT: &str =
    "!has(self.tenants) || !has(self.tenants.mayOptOut) || self.tenants.mayOptOut";
/// True of a profile that asks for an attachment in each of its namespaces.
const PER_NAMESPACE: &str = "has(self.attachment) && has(self.attachment.placement) && self.attachment.placement == 'PerNamespace'";
/// True of a profile that is for some namespaces alone.
const HAS_SELECTOR: &str = "(has(self.namespaces) && [has(self.namespaces.matchLabels) && size(self.namespaces.matchLabels) > 0, \
    has(self.namespaces.matchExpressions) && size(self.namespaces.matchExpressions) > 0].exists(some, some))";

/// The name of the attachment that a spec asks for.
fn attachment_name(spec: &str) -> String {
    let default = AttachmentSpec::default().name;
    format!(
        "(has({spec}.attachment) && has({spec}.attachment.name) ? {spec}.attachment.name : '{default}')"
    )
}

/// True of ports that all differ, with their defaults.
fn ports_differ() -> String {
    let ProxyPorts {
        outbound,
        inbound,
        tunnel,
        dns,
    } = ProxyPorts::default();
    let ports = [
        ("outbound", outbound),
        ("inbound", inbound),
        ("tunnel", tunnel),
        ("dns", dns),
    ];
    let value =
        |(name, default): (&str, u16)| format!("(has(self.{name}) ? self.{name} : {default})");
    let pairs = (0..ports.len()).flat_map(|a| (a + 1..ports.len()).map(move |b| (a, b)));
    let differ = pairs.map(|(a, b)| format!("{} != {}", value(ports[a]), value(ports[b])));
    differ.collect::<Vec<_>>().join(" && ")
}

/// Makes a schema structural, and readable with `kubectl explain`.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("default");
            fields.remove("nullable");
            // of Rust alone, as uint16
            if fields
                .get("format")
                .is_some_and(|format| format != "date-time")
            {
                fields.remove("format");
            }
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
    Groups: json_schema!({
        "type": "object",
        "properties": {
            "include": groups("The groups whose connections are captured: gids, or \"*\" alone for all (default).", true),
            "exclude": groups("The groups whose connections are not captured, if all others are: gids.", false),
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

/// A number up to 4294967295, in decimal.
const NUMBER: &str = "[0-9]{1,9}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}|42949672[0-8][0-9]|429496729[0-5]";

/// Not by a CEL rule for each: API servers before 1.33 do not know how long such a string can be, and find that too costly.
fn groups(description: &str, takes_all: bool) -> Value {
    let (or_all, of_list) = if takes_all {
        let alone = json!([{
            "rule": "size(self) == 1 || self.all(group, group != '*')",
            "message": "* stands for all groups and is written alone",
        }]);
        (r"\*|", alone)
    } else {
        ("", json!([]))
    };
    json!({
        "description": description,
        "type": "array",
        "maxItems": MOST_GROUPS,
        "items": {
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": u32::MAX,
            "pattern": format!("^({or_all}{NUMBER})$"),
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
