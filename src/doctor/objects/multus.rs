//! Pods of Multus.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Metadata;

/// A pod of Multus's DaemonSet, for how its containers fare.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct MultusPod {
    pub(in crate::doctor) metadata: Metadata,
    pub(in crate::doctor) spec: OnNode,
    pub(in crate::doctor) status: MultusPodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::doctor) struct OnNode {
    pub(in crate::doctor) node_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::doctor) struct MultusPodStatus {
    pub(in crate::doctor) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::doctor) struct ContainerStatus {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) restart_count: u64,
    pub(in crate::doctor) state: State,
    pub(in crate::doctor) last_state: State,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct State {
    pub(in crate::doctor) terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Terminated {
    #[serde(rename = "reason")]
    ending: ContainerEnding,
}

/// Why a container ended, as far as it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ContainerEnding {
    #[serde(rename = "OOMKilled")]
    OutOfMemory,
    #[default]
    #[serde(other)]
    Other,
}

/// The selector of a workload's pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::doctor) struct Selector {
    pub(in crate::doctor) match_labels: BTreeMap<String, String>,
    pub(in crate::doctor) match_expressions: Vec<Value>,
}

// === impl ContainerStatus ===

impl ContainerStatus {
    /// Whether the kernel has killed it for want of memory, now or the last time that it ended.
    pub(in crate::doctor) fn was_out_of_memory(&self) -> bool {
        let ends = [&self.state, &self.last_state].into_iter();
        let mut ends = ends.filter_map(|state| state.terminated.as_ref());
        ends.any(|end| end.ending == ContainerEnding::OutOfMemory)
    }
}

// === impl Selector ===

impl Selector {
    /// As a parameter of a request. `None` where it selects by more than labels, by nothing, or by what cannot be a label.
    pub(in crate::doctor) fn parameter(&self) -> Option<String> {
        let is_label = |text: &str| {
            let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
            text.bytes().all(is_part)
        };
        let labels = &self.match_labels;
        let is_plain = labels.iter().all(|(k, v)| is_label(k) && is_label(v));
        if labels.is_empty() || !self.match_expressions.is_empty() || !is_plain {
            return None;
        }
        let pairs = labels.iter().map(|(key, value)| format!("{key}%3D{value}"));
        Some(pairs.collect::<Vec<_>>().join("%2C"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selector;

    #[test]
    fn a_selector_of_labels_is_a_parameter_and_any_other_is_none() {
        let parameter = |selector| {
            let selector: Selector = serde_json::from_value(selector).unwrap();
            selector.parameter()
        };
        let labels = json!({"matchLabels": {"app.kubernetes.io/name": "multus", "name": ""}});
        let expected = "app.kubernetes.io/name%3Dmultus%2Cname%3D";
        assert_eq!(parameter(labels).as_deref(), Some(expected));
        for other in [
            json!({}),
            json!({"matchLabels": {"name": "a&limit=1"}}),
            json!({"matchLabels": {"name": "x"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}),
        ] {
            assert_eq!(parameter(other.clone()), None, "{other}");
        }
    }
}
