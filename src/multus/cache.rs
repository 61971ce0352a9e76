//! Reads Multus's cache: which types of plugin this node's sandboxes still need for a DEL.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::Multus;

/// The types that the cache names, each with a file that names it, and why there may be others: an unreadable file may name any.
pub(crate) fn types(
    cache: &Path,
    multus: Option<&Multus>,
) -> (BTreeMap<String, PathBuf>, Option<String>) {
    let doubt = || Multus::doubt(cache, multus).map(|why| why.to_string());
    let (mut types, mut unread) = (BTreeMap::new(), doubt());
    let entries = match std::fs::read_dir(cache) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Multus never ran here, or uses another directory
            return (types, unread);
        }
        Err(error) => return (types, Some(format!("{}: {error}", cache.display()))),
    };
    for file in entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.is_file())
    {
        let read = match std::fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // its DEL has just come
            other => other.map_err(|e| e.to_string()),
        };
        match read.and_then(|text| {
            serde_json::from_slice::<Vec<Delegate>>(&text).map_err(|e| e.to_string())
        }) {
            Ok(delegates) => {
                let plugins = delegates.into_iter().flat_map(|d| {
                    d.conf
                        .into_iter()
                        .chain(d.conf_list.plugins.into_iter().flatten().flatten())
                });
                let kinds = plugins.map(|p| p.kind).filter(|kind| !kind.is_empty());
                types.extend(kinds.map(|kind| (kind, file.clone())));
            }
            Err(why) => unread = Some(format!("{}: {why}", file.display())),
        }
    }
    (types, unread)
}

/// Those that were names of Istio's or OpenShift Service Mesh's plugin. Tenants' text is cached as well, so the form is strict.
pub(crate) fn old_names(types: &BTreeMap<String, PathBuf>) -> impl Iterator<Item = &String> {
    let is_version = |v: &str| (1..=2).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_digit());
    let of_service_mesh = move |name: &str| {
        name.strip_prefix("v2-")
            .and_then(|n| n.strip_suffix("-istio-cni"))
            .is_some_and(is_version)
    };
    types
        .keys()
        .filter(move |name| *name == "istio-cni" || of_service_mesh(name))
}

/// A delegate as Multus keeps it: `types.DelegateNetConf`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delegate {
    conf: Option<Plugin>,
    #[serde(default)]
    conf_list: List,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct List {
    plugins: Option<Vec<Option<Plugin>>>,
}

#[derive(Deserialize)]
struct Plugin {
    #[serde(default, rename = "type")]
    kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_istio_plugins_are_old_names() {
        let dir = tempfile::tempdir().unwrap();
        let cached = r#"[{"Conf":{"type":"istio-cni","name":"x"},"ConfList":{"plugins":null},"Bytes":""},
            {"Conf":{},"ConfList":{"plugins":[{"type":"v2-6-istio-cni"},null,{"type":"../v2-1-istio-cni"},{"type":"v2-000-istio-cni"}]}}]"#;
        std::fs::write(dir.path().join("id"), cached).unwrap();
        let (types, unread) = types(dir.path(), None);
        assert_eq!(unread, None);
        assert_eq!(types.len(), 4);
        assert_eq!(
            old_names(&types).collect::<Vec<_>>(),
            ["istio-cni", "v2-6-istio-cni"]
        );
    }

    #[test]
    fn an_unreadable_cache_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            types(&dir.path().join("none"), None),
            (BTreeMap::new(), None)
        );
        std::fs::write(dir.path().join("half-written"), "[{").unwrap();
        std::fs::write(dir.path().join("whole"), r#"[{"Conf":{"type":"x"}}]"#).unwrap();
        let (types, unread) = types(dir.path(), None);
        assert!(types["x"].ends_with("whole") && unread.unwrap().contains("half-written"));
    }
}
