//! `status` of a MeshProfile: what the controller has found about it. Nothing is decided by it.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Selector;

/// What the controller has found about a MeshProfile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub observed_generation: Option<i64>,
    /// What holds of the profile: Accepted (it is valid, and no other profile governs the same namespaces), AttachmentsReady, Suspended, Ready.
    #[schemars(length(max = MOST_CONDITIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many namespaces there are of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceCounts>,
    /// Of a profile without a selector: the selectors of the other profiles, for admission policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_SELECTORS))]
    pub other_selectors: Vec<SelectorText>,
}

/// How many namespaces a profile governs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NamespaceCounts {
    /// Namespaces that it governs and does not exclude.
    pub governed: usize,
    /// Those of them whose pods find the attachment.
    pub attached: usize,
    /// Those of them that hold another attachment of the same name.
    pub conflicting: usize,
}

/// A label selector as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SelectorText(Value);

/// Most conditions of a profile.
const MOST_CONDITIONS: usize = 16;
/// Most selectors of other profiles that are listed.
pub const MOST_SELECTORS: usize = 256;
/// Most bytes of them all: an object has about a million, and the policies read them for each pod.
pub const MOST_SELECTED: usize = 65_536;

impl From<&Selector> for SelectorText {
    fn from(selector: &Selector) -> Self {
        Self(serde_json::to_value(selector).unwrap_or_default())
    }
}

impl SelectorText {
    /// The bytes of its JSON.
    pub fn bytes(&self) -> usize {
        self.0.to_string().len()
    }
}

/// That of a selector in a spec, from which it was copied, without its rules: these have held, and in a list of lists they cost more than an
/// API server allows.
impl JsonSchema for SelectorText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SelectorText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Selector::text_schema(generator).to_value();
        drop_rules(&mut schema);
        schema["properties"]["matchLabels"]["additionalProperties"]["maxLength"] =
            MOST_SELECTED.into();
        Schema::try_from(schema).unwrap_or_default()
    }
}

/// Takes rules from a schema, and descriptions, which the spec has.
fn drop_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|key, _| !["x-kubernetes-validations", "description"].contains(&&**key));
            fields.values_mut().for_each(drop_rules);
        }
        Value::Array(entries) => entries.iter_mut().for_each(drop_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
