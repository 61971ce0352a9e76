//! Prints findings.

use std::path::PathBuf;

use serde::Serialize;

use super::super::{
    Exit,
    output::{Colour, coloured, plain},
};
use crate::{
    plan::{Difference, Form, Preempting},
    words::words,
};

/// A redirection as it is reported, the same for people and machines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) netns: PathBuf,
    pub(super) backend: Option<Form>,
    pub(super) outcome: Outcome,
    /// Of a failure, or of what was found.
    pub(super) reason: Option<&'static str>,
    pub(super) message: Option<String>,
    pub(super) differences: Vec<Difference>,
    pub(super) in_front: Vec<Preempting>,
}

words! {
    /// What was found.
    pub(super) enum Outcome("outcome") {
        Consistent = "consistent",
        Drifted = "drifted",
        /// As it should be, but a foreign rule may decide before it.
        Preempted = "preempted",
        /// As another version of this program made it.
        Outdated = "outdated",
        /// The agent found it: it should be redirected, and nothing does it.
        Bypassing = "bypassing",
        /// Its network namespace is gone.
        Gone = "gone",
        Failed = "failed",
    }
}

pub(super) fn text(told: &Told) -> String {
    let (word, colour) = match told.outcome {
        Outcome::Consistent => ("is redirected as it should be", Colour::Green),
        Outcome::Drifted => ("is not redirected as it should be", Colour::Red),
        Outcome::Preempted => (
            "has its redirection, behind something of somebody else",
            Colour::Red,
        ),
        Outcome::Outdated => ("is redirected as another version does it", Colour::Yellow),
        Outcome::Bypassing => ("should be redirected, and nothing does it", Colour::Red),
        Outcome::Gone => ("is gone: only its record is left", Colour::Yellow),
        Outcome::Failed => ("could not be looked at", Colour::Red),
    };
    let (namespace, name, netns) = (
        plain(&told.namespace),
        plain(&told.name),
        plain(&told.netns.display().to_string()),
    );
    let backend = told
        .backend
        .map_or_else(String::new, |backend| format!("{backend}, "));
    let mut out = format!(
        "Pod {namespace}/{name} {} ({backend}{netns}).\n",
        coloured(word, colour)
    );
    if let Some(message) = &told.message {
        out += &format!("  {}\n", plain(message));
    }
    for difference in &told.differences {
        out += &format!("  - {}\n", plain(&difference.to_string()));
    }
    for warning in &told.in_front {
        out += &format!(
            "  {}: {}\n",
            coloured("Warning", Colour::Yellow),
            plain(&warning.to_string())
        );
    }
    out
}

impl Outcome {
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Consistent | Self::Gone | Self::Outdated => Exit::Done,
            Self::Drifted | Self::Preempted | Self::Bypassing => Exit::Drifted,
            Self::Failed => Exit::Failed,
        }
    }
}
