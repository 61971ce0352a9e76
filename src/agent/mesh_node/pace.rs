//! When the MeshNode is written.

use std::time::Duration;

use tokio::time::Instant;

use crate::profile::mesh_node::{NodeStatus, Problem};

/// The least time between two reports.
pub(super) const LEAST: Duration = Duration::from_secs(30);
/// The time between two reports without a change, in seconds, drawn at random: not all nodes at once.
const SIGN_OF_LIFE: std::ops::Range<u64> = 8 * 60..12 * 60;

/// When a report is due.
pub(super) struct Pace {
    last: Option<(Instant, NodeStatus)>,
    sign_of_life: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            sign_of_life: Duration::from_secs(fastrand::u64(SIGN_OF_LIFE)),
        }
    }

    pub(super) fn is_due(&self, now: &NodeStatus) -> bool {
        let Some((at, before)) = &self.last else {
            return true;
        };
        let passed = at.elapsed();
        passed >= self.sign_of_life || (passed >= LEAST && news(before) != news(now))
    }

    pub(super) fn written(&mut self, status: NodeStatus) {
        *self = Self {
            last: Some((Instant::now(), status)),
            ..Self::new()
        };
    }
}

/// The part of a report whose changes are reported soon. Changes of numbers and times can wait.
#[derive(PartialEq, Eq)]
struct News<'a> {
    versions: [&'a str; 3],
    /// Type, status and reason of each.
    conditions: Vec<[&'a str; 3]>,
    problems: &'a [Problem],
    problems_total: Option<usize>,
}

fn news(status: &NodeStatus) -> News<'_> {
    let conditions = status.conditions.iter();
    News {
        versions: [
            &status.version,
            &status.program_version,
            &status.multus.version,
        ],
        conditions: conditions
            .map(|c| [c.kind.as_str(), c.status.as_str(), c.reason.as_str()])
            .collect(),
        problems: &status.problems,
        problems_total: status.problems_total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::mesh_node::PodCounts;

    #[tokio::test(start_paused = true)]
    async fn changes_are_reported_soon_and_the_rest_periodically() {
        let status = |problems: usize, redirected: usize| NodeStatus {
            problems_total: Some(problems),
            pods: Some(PodCounts {
                redirected,
                ..PodCounts::default()
            }),
            last_report: Some(jiff::Timestamp::now().to_string()),
            ..NodeStatus::default()
        };
        let (mut pace, mut written) = (Pace::new(), Vec::new());
        let started = Instant::now();
        // a node on which pods come and go, and which has one problem more each minute for the first ten
        for second in 0..3600_usize {
            let now = status(second.min(600) / 60, second);
            if pace.is_due(&now) {
                written.push(started.elapsed().as_secs());
                pace.written(now);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let gaps: Vec<_> = written.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 30), "{gaps:?}");
        assert_eq!(
            written.iter().filter(|at| **at <= 600).count(),
            11,
            "{written:?}"
        );
        let later = written.iter().filter(|at| **at > 600).count();
        assert!((4..=7).contains(&later), "{written:?}");
    }
}
