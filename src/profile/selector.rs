use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Selector as Parsed, SelectorExt};
use serde::Deserialize;

use crate::words::words;

/// A Kubernetes LabelSelector, strict: a misspelled key must not select everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "WrittenSelector")]
#[cfg_attr(
    feature = "schema",
    derive(serde::Serialize),
    serde(into = "WrittenSelector")
)]
pub struct Selector(Parsed);

impl Selector {
    /// The schema of its text.
    #[cfg(feature = "schema")]
    pub(super) fn text_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        <WrittenSelector as schemars::JsonSchema>::json_schema(generator)
    }

    /// Whether it selects these labels; the empty selector selects all.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }

    /// Whether it is the empty selector.
    pub fn selects_all(&self) -> bool {
        self.0.selects_all()
    }
}

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(serde::Serialize, schemars::JsonSchema))]
struct WrittenSelector {
    /// Labels that must have these values.
    #[cfg_attr(feature = "schema", schemars(extend("maxProperties" = MOST_LABELS)))]
    match_labels: BTreeMap<String, String>,
    /// Conditions that must all hold.
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_EXPRESSIONS)))]
    match_expressions: Vec<Requirement>,
}

/// A condition on a label.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(serde::Serialize, kube::KubeSchema))]
#[cfg_attr(feature = "schema", x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0").message("In and NotIn need values, Exists and DoesNotExist take none")))]
struct Requirement {
    /// The label's key.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = LONGEST_KEY)))]
    key: String,
    /// In, NotIn, Exists or DoesNotExist.
    operator: Operator,
    /// For In and NotIn, the values.
    #[serde(default)]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Vec::is_empty"))]
    #[cfg_attr(feature = "schema", schemars(length(max = MOST_VALUES), inner(length(max = LONGEST_VALUE))))]
    values: Vec<String>,
}

/// Most entries of each list of a selector.
const MOST_LABELS: usize = 64;
const MOST_EXPRESSIONS: usize = 64;
const MOST_VALUES: usize = 256;
/// Longest value of a label, and longest key, in characters.
const LONGEST_VALUE: usize = 63;
const LONGEST_KEY: usize = 317;

words! {
    /// How a label is compared.
    enum Operator("operator of a label selector") {
        In = "In",
        NotIn = "NotIn",
        Exists = "Exists",
        DoesNotExist = "DoesNotExist",
    }
}

#[cfg(feature = "schema")]
impl From<Selector> for WrittenSelector {
    fn from(selector: Selector) -> Self {
        let LabelSelector {
            match_labels,
            match_expressions,
        } = selector.0.into();
        let expressions = match_expressions.unwrap_or_default();
        let expression = |e: LabelSelectorRequirement| {
            let operator = e.operator.parse().unwrap_or(Operator::Exists);
            Requirement {
                key: e.key,
                operator,
                values: e.values.unwrap_or_default(),
            }
        };
        Self {
            match_labels: match_labels.unwrap_or_default(),
            match_expressions: expressions.into_iter().map(expression).collect(),
        }
    }
}

impl TryFrom<WrittenSelector> for Selector {
    type Error = String;

    fn try_from(text: WrittenSelector) -> Result<Self, String> {
        let is_too_long = |e: &Requirement| {
            e.values.len() > MOST_VALUES
                || e.values
                    .iter()
                    .any(|value| value.chars().count() > LONGEST_VALUE)
                || !(1..=LONGEST_KEY).contains(&e.key.chars().count())
        };
        if text.match_labels.len() > MOST_LABELS
            || text.match_expressions.len() > MOST_EXPRESSIONS
            || text.match_expressions.iter().any(is_too_long)
        {
            return Err(format!(
                "a label selector has at most {MOST_LABELS} labels and {MOST_EXPRESSIONS} expressions of at most {MOST_VALUES} \
                 values; a value has at most {LONGEST_VALUE} characters"
            ));
        }
        let takes_values = |e: &Requirement| matches!(e.operator, Operator::In | Operator::NotIn);
        if text
            .match_expressions
            .iter()
            .any(|e| takes_values(e) == e.values.is_empty())
        {
            return Err("In and NotIn need values, Exists and DoesNotExist take none".into());
        }
        let expressions = text
            .match_expressions
            .into_iter()
            .map(|e| LabelSelectorRequirement {
                key: e.key,
                operator: e.operator.to_string(),
                values: (!e.values.is_empty()).then_some(e.values),
            })
            .collect();
        let selector = LabelSelector {
            match_labels: Some(text.match_labels),
            match_expressions: Some(expressions),
        };
        Parsed::try_from(selector)
            .map(Self)
            .map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let selector: Selector = serde_json::from_str(
            r#"{"matchLabels":{"team":"a"},"matchExpressions":[{"key":"env","operator":"NotIn","values":["dev"]},{"key":"x","operator":"DoesNotExist"}]}"#,
        )
        .unwrap();
        assert!(selector.matches(&labels(&[("team", "a")])));
        assert!(!selector.matches(&labels(&[("team", "a"), ("env", "dev")])));
        assert!(!selector.matches(&labels(&[("team", "a"), ("x", "")])));
        assert!(
            serde_json::from_str::<Selector>("{}")
                .unwrap()
                .selects_all()
        );
    }

    #[test]
    fn a_misspelled_selector_does_not_select_everything() {
        for bad in [
            r#"{"matchLabel":{"a":"b"}}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"Is"}]}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"Exists","values":["b"]}]}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"In"}]}"#,
        ] {
            assert!(serde_json::from_str::<Selector>(bad).is_err(), "{bad}");
        }
    }
}
