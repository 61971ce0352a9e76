//! MeshNodes whose agent is silent. Pure.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::mesh::mesh_node::{NodeCondition, NodeStatus};

/// After how long an agent that has not reported is silent.
const SILENT: SignedDuration = SignedDuration::from_mins(15);
const REPORTING: &str = "Reporting";

/// The conditions to write into a MeshNode, if something has changed: of a node that is silent now, or is no longer.
pub(super) fn judged(node: &NodeStatus, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let reported = node.last_report.as_ref()?.parse::<Timestamp>().ok()?;
    let is_silent = now.duration_since(reported) > SILENT;
    let condition = |kind: &str| node.conditions.iter().find(|c| c.kind == kind);
    let is_marked = condition(REPORTING).is_some_and(|c| c.status == "False");
    let make = |kind: &str, status: &str, reason: &str, message: String| {
        let before = condition(kind).filter(|c| c.status == status);
        NodeCondition {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            last_transition_time: before
                .map_or_else(|| now.to_string(), |c| c.last_transition_time.clone()),
        }
    };
    match (is_silent, is_marked) {
        (true, false) => {
            let message = format!("the agent has not reported since {reported}");
            Some(vec![
                make(REPORTING, "False", "Silent", message.clone()),
                make("Ready", "Unknown", "Silent", message),
            ])
        }
        (false, true) => Some(vec![make(REPORTING, "True", "AsExpected", String::new())]),
        (true, true) | (false, false) => None,
    }
}

/// When a node that reports will be silent.
pub(super) fn silent_in(node: &NodeStatus, now: Timestamp) -> Option<std::time::Duration> {
    let reported = node.last_report.as_ref()?.parse::<Timestamp>().ok()?;
    (SILENT - now.duration_since(reported)).try_into().ok()
}

/// For server-side apply.
pub(super) fn object(name: &str, conditions: &[NodeCondition]) -> Value {
    json!({
        "apiVersion": "meshoptin.dev/v1alpha1",
        "kind": "MeshNode",
        "metadata": {"name": name},
        "status": {"conditions": conditions},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_is_marked_once_and_cleared_once() {
        let reported: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |minutes: i64| reported + SignedDuration::from_mins(minutes);
        let mut node = NodeStatus {
            last_report: Some(reported.to_string()),
            ..NodeStatus::default()
        };
        assert_eq!(judged(&node, at(15)), None);
        let silent = judged(&node, at(16)).unwrap();
        let words: Vec<_> = silent
            .iter()
            .map(|c| format!("{} {}", c.kind, c.status))
            .collect();
        assert_eq!(words, ["Reporting False", "Ready Unknown"]);
        node.conditions = silent;
        assert_eq!(judged(&node, at(99)), None);
        node.last_report = Some(at(99).to_string());
        let back = judged(&node, at(100)).unwrap();
        assert_eq!(
            (back[0].kind.as_str(), back[0].status.as_str()),
            (REPORTING, "True")
        );
        node.conditions = back;
        assert_eq!(judged(&node, at(100)), None);
        node.last_report = None;
        assert_eq!(judged(&node, at(999)), None, "it has never reported");
    }
}
