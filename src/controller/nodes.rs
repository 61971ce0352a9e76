//! MeshNodes whose agent is silent. Pure.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::objects::{Node, REPORTING};
use crate::profile::mesh_node::NodeCondition;

/// How long an agent has been silent. What it could not have reported, as this replica has not led, does not count: where there was no API
/// server, nobody led.
fn silence(node: &Node, now: Timestamp, led_for: Duration) -> Option<Duration> {
    let since = now.duration_since(node.reported?);
    Some(led_for.min(since.max(SignedDuration::ZERO).unsigned_abs()))
}

/// The conditions to write into a MeshNode, if something has changed: of a node that is silent now, or is no longer.
pub(super) fn judge(
    node: &Node,
    now: Timestamp,
    led_for: Duration,
    silent_after: Duration,
) -> Option<Vec<NodeCondition>> {
    let reported = node.reported?;
    let is_over = |silence: Duration| silence > silent_after;
    let condition = |kind: &str, status: &str, reason: &str, message: &str| NodeCondition {
        kind: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: now.to_string(),
    };
    if node.is_marked {
        let is_back = !silence(node, now, Duration::MAX).is_some_and(is_over);
        return is_back.then(|| vec![condition(REPORTING, "True", "AsExpected", "")]);
    }
    silence(node, now, led_for).is_some_and(is_over).then(|| {
        let message = format!("the agent has not reported since {reported}");
        vec![
            condition(REPORTING, "False", "Silent", &message),
            condition("Ready", "Unknown", "Silent", &message),
        ]
    })
}

/// When a node that reports will be silent.
pub(super) fn silent_in(
    node: &Node,
    now: Timestamp,
    led_for: Duration,
    silent_after: Duration,
) -> Option<Duration> {
    silent_after.checked_sub(silence(node, now, led_for)?)
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

    const SILENT: Duration = Duration::from_mins(15);

    #[test]
    fn a_silent_node_is_marked_once_and_cleared_once() {
        let reported: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |minutes: i64| reported + SignedDuration::from_mins(minutes);
        let judged = |node: &Node, now| judge(node, now, SILENT * 9, SILENT);
        let mut node = Node {
            reported: Some(reported),
            ..Node::default()
        };
        assert_eq!(judged(&node, at(15)), None);
        let silent = judged(&node, at(16)).unwrap();
        let words = silent.iter().map(|c| format!("{} {}", c.kind, c.status));
        assert_eq!(
            words.collect::<Vec<_>>(),
            ["Reporting False", "Ready Unknown"]
        );
        node.is_marked = true;
        assert_eq!(judged(&node, at(99)), None);
        node.reported = Some(at(99));
        let back = judged(&node, at(100)).unwrap();
        assert_eq!(
            (back[0].kind.as_str(), back[0].status.as_str()),
            (REPORTING, "True")
        );
        node.is_marked = false;
        assert_eq!(judged(&node, at(100)), None);
        node.reported = None;
        assert_eq!(judged(&node, at(999)), None, "it has never reported");
    }

    #[test]
    fn silence_counts_from_when_a_report_could_have_arrived() {
        let now = Timestamp::now();
        let node = |minutes: i64| Node {
            reported: Some(now - SignedDuration::from_mins(minutes)),
            ..Node::default()
        };
        let minute = Duration::from_mins(1);
        for (reported, led_for, is_silent, left) in [
            (60, minute, false, Some(minute * 14)),
            (60, minute * 16, true, None),
            (5, minute * 16, false, Some(minute * 10)),
            (-60, minute * 16, false, Some(SILENT)),
        ] {
            let node = node(reported);
            assert_eq!(judge(&node, now, led_for, SILENT).is_some(), is_silent);
            assert_eq!(silent_in(&node, now, led_for, SILENT), left, "{reported}");
        }
    }
}
