//! What the agent installed on this node. Without this file no plugin waits for an agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Privacy, paths, read};
use crate::reason::{Explanation, Reason};

/// `/var/lib/mesh-optin/installed.json`. Persisted: a new field needs a default that means what was before it, and a fixture (`tests/pure/compat`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Installed {
    /// The version of the program.
    pub version: String,
    /// The absolute paths of installed programs, each with its digest: a file with another digest is not ours.
    pub programs: BTreeMap<PathBuf, String>,
    /// The CNI configurations for NADs without a spec.
    pub confs: BTreeSet<PathBuf>,
    /// The directory of Multus's cache.
    pub cache: PathBuf,
    /// Whether `agent uninstall` has begun, so that ADDs are refused.
    pub uninstalled: bool,
}

impl Installed {
    /// Reads it; `None` if no agent was ever installed.
    pub fn load() -> Result<Option<Self>, Explanation> {
        let Some(text) = read(Path::new(paths::INSTALLED), Privacy::Public)? else {
            return Ok(None);
        };
        let broken = |e: serde_json::Error| {
            Reason::NodeConfigInvalid.because(format!("{} cannot be read: {e}", paths::INSTALLED))
        };
        serde_json::from_str(&text).map(Some).map_err(broken)
    }
}
