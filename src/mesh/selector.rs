use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Selector as Parsed, SelectorExt};
use serde::Deserialize;

/// A Kubernetes LabelSelector, strict: a misspelt key must not turn into "everything".
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Text")]
pub struct Selector(Parsed);

impl Selector {
    /// Whether it selects these labels; the empty selector selects all.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }

    /// Whether it is the empty selector.
    pub fn selects_all(&self) -> bool {
        self.0.selects_all()
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[derive(Default)]
struct Text {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Expression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

impl TryFrom<Text> for Selector {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        let expressions = text
            .match_expressions
            .into_iter()
            .map(|e| LabelSelectorRequirement {
                key: e.key,
                operator: e.operator,
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
    fn a_misspelt_selector_does_not_select_everything() {
        for bad in [
            r#"{"matchLabel":{"a":"b"}}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"Is"}]}"#,
        ] {
            assert!(serde_json::from_str::<Selector>(bad).is_err(), "{bad}");
        }
    }
}
