//! Configurations of attachments without a spec: files of the node, which Multus looks up by name in a directory, by its own rules.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use crate::{
    node::state,
    reason::{Explanation, Reason},
};

/// The type of the plugin that Multus uses for a name: that of the first file, in order, with this name. An unreadable file before it ends
/// the search.
pub(crate) fn type_found(directory: &Path, name: &str) -> Result<Option<String>, Explanation> {
    let entries = std::fs::read_dir(directory).map_err(|e| state::unusable(directory, &e))?;
    let mut files: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| !p.is_dir())
        .collect();
    files.retain(|f| {
        f.extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| ["conf", "json", "conflist"].contains(&e))
    });
    files.sort();
    for file in files {
        let read = std::fs::read(&file)
            .map_err(|e| e.to_string())
            .and_then(|bytes| {
                let conf: Conf = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
                conf.kind(file.extension().is_some_and(|e| e == "conflist"))
            });
        match read {
            Ok((of, kind)) if of == name => return Ok(Some(kind)),
            Ok(_other) => {}
            Err(why) => {
                let cause = format!(
                    "{} keeps Multus from finding {name:?}: {why}",
                    file.display()
                );
                return Err(Reason::NodeConfigInvalid
                    .because(cause)
                    .remedy("correct or remove that file"));
            }
        }
    }
    Ok(None)
}

/// The file of the configuration of an attachment without a spec.
pub(crate) fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.conf"))
}

/// What that file holds.
pub(crate) fn text(name: &str) -> String {
    format!(
        "{}\n",
        json!({"cniVersion": "1.1.0", "name": name, "type": "mesh-optin"})
    )
}

/// What libcni needs to read of a file.
#[derive(Deserialize)]
pub(crate) struct Conf {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
struct Plugin {
    #[serde(default, rename = "type")]
    kind: String,
}

impl Conf {
    /// Its name and its plugin type.
    fn kind(self, is_list: bool) -> Result<(String, String), String> {
        let kind = if is_list {
            self.plugins
                .into_iter()
                .next()
                .map(|p| p.kind)
                .unwrap_or_default()
        } else {
            self.kind
        };
        match (is_list, self.name.is_empty(), kind.is_empty()) {
            (true, true, _) => Err("it has no name".into()),
            (_, _, true) => Err("it has no type".into()),
            _ => Ok((self.name, kind)),
        }
    }
}
