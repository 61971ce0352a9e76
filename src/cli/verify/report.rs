//! Prints findings.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::{
    plan::{Difference, Form, Preempting},
    redirection::Verdict,
    terminal::{Color, Exit, colored, plain},
};

/// A redirection as it is reported, the same for people and machines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodReport {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) netns: PathBuf,
    pub(super) backend: Option<Form>,
    pub(super) outcome: VerifyOutcome,
    /// Of a failure, or of the finding.
    pub(super) reason: Option<&'static str>,
    pub(super) message: Option<String>,
    pub(super) differences: Vec<Difference>,
    pub(super) in_front: Vec<Preempting>,
}

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VerifyOutcome {
    /// Of a redirection; or, as the agent found it, that there is none where one should be.
    Found(Verdict),
    /// Its network namespace is gone.
    Gone,
    Failed,
}

impl Serialize for VerifyOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Found(verdict) => verdict.as_str(),
            Self::Gone => "gone",
            Self::Failed => "failed",
        })
    }
}

pub(super) fn text(report: &PodReport) -> String {
    let (word, color) = match report.outcome {
        VerifyOutcome::Found(Verdict::Consistent) => {
            ("is redirected as it should be", Color::Green)
        }
        VerifyOutcome::Found(Verdict::Drifted) => ("is not redirected as it should be", Color::Red),
        VerifyOutcome::Found(Verdict::Preempted) => (
            "has its redirection, but foreign rules come first",
            Color::Red,
        ),
        VerifyOutcome::Found(Verdict::Outdated) => {
            ("is redirected as another version does it", Color::Yellow)
        }
        VerifyOutcome::Found(Verdict::Bypassing) => {
            ("should be redirected, and nothing does it", Color::Red)
        }
        VerifyOutcome::Gone => ("is gone: only its record is left", Color::Yellow),
        VerifyOutcome::Failed => ("could not be looked at", Color::Red),
    };
    let (namespace, name, netns) = (
        plain(&report.namespace),
        plain(&report.name),
        plain(&report.netns.display().to_string()),
    );
    let backend = report
        .backend
        .map_or_else(String::new, |backend| format!("{backend}, "));
    let mut out = format!(
        "Pod {namespace}/{name} {} ({backend}{netns}).\n",
        colored(word, color)
    );
    if let Some(message) = &report.message {
        out += &format!("  {}\n", plain(message));
    }
    for difference in &report.differences {
        out += &format!("  - {}\n", plain(&difference.to_string()));
    }
    for warning in &report.in_front {
        out += &format!(
            "  {}: {}\n",
            colored("Warning", Color::Yellow),
            plain(&warning.to_string())
        );
    }
    out
}

impl VerifyOutcome {
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Gone | Self::Found(Verdict::Consistent | Verdict::Outdated) => Exit::Done,
            Self::Found(Verdict::Drifted | Verdict::Preempted | Verdict::Bypassing) => Exit::Found,
            Self::Failed => Exit::Failed,
        }
    }
}
