//! What the agent has installed on this node. Without it nobody waits for an agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Privacy, paths, read};
use crate::reason::{Explanation, Reason};

/// `/var/lib/mesh-optin/installed.json`. Persisted: a new field needs a default that means what was before it, and a fixture (`tests/pure/compat.rs`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Installed {
    /// Of the program.
    pub version: String,
    /// The program under its names, absolute, and a digest of each: what has another is somebody else's.
    pub programs: BTreeMap<PathBuf, String>,
    /// CNI configurations for NADs without a spec.
    pub confs: BTreeSet<PathBuf>,
    /// Multus's cache.
    pub cache: PathBuf,
    /// `agent uninstall` has begun: an ADD is refused.
    pub uninstalled: bool,
}

impl Installed {
    /// Reads it; `None` where no agent was ever installed.
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
