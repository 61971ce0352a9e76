//! The profiles that govern, kept parsed; those of the cluster are kept on the node as files, for when we are away.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::runtime::watcher::Event;
use serde_json::{Value, json, value::RawValue};
use tracing::{info, warn};

use super::{
    cluster::Cluster,
    metrics::Metrics,
    watch::{Object, follow, kind},
};
use crate::{
    mesh::{Attachment, Namespace, Profile, ProfileOrigin, governing},
    node::{NodeConfig, list, paths, state, written_profiles},
    reason::{Explanation, Reason},
    source::wire::WireProfile,
};

/// How soon a file that the admin changed counts.
const REREAD: Duration = Duration::from_secs(2);

/// The profiles as they are now, or why nothing governs.
pub(super) struct Profiles(Mutex<Arc<Result<Loaded, Explanation>>>);

#[derive(Default)]
struct Loaded {
    profiles: Vec<Profile>,
    /// Of each, as it goes to the plugin.
    wire: Vec<WireProfile>,
}

impl Profiles {
    pub(super) fn load() -> Self {
        Self(Mutex::new(Arc::new(Loaded::read())))
    }

    /// The one that governs a namespace, for an attachment that may name one.
    pub(super) fn governing(&self, namespace: &Namespace, named: Option<String>) -> Result<(Profile, WireProfile), Explanation> {
        let loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Loaded { profiles, wire } = Result::as_ref(&loaded).map_err(Clone::clone)?;
        let attachment = Attachment { profile: named, ..Attachment::default() };
        let profile = governing(profiles, namespace, &attachment)?;
        let at = profiles.iter().position(|p| std::ptr::eq(p, profile)).unwrap_or_default();
        Ok((profile.clone(), wire[at].clone()))
    }

    /// By name.
    pub(super) fn named(&self, name: &str) -> Option<Profile> {
        let loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Result::as_ref(&loaded).ok()?.profiles.iter().find(|p| p.name == name).cloned()
    }

    /// The names that attachments without a configuration have.
    pub(super) fn attachment_names(&self) -> Vec<String> {
        let loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let names = |loaded: &Loaded| loaded.profiles.iter().map(|p| p.spec.attachment.name.clone()).collect();
        Result::as_ref(&loaded).map(names).unwrap_or_default()
    }

    /// Reads the node's files again.
    fn reread(&self) {
        let loaded = Loaded::read();
        if let Err(error) = &loaded {
            warn!(reason = error.reason.as_str(), "{error}");
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }

    /// Follows the node's files, for ever.
    pub(super) async fn follow_files(self: Arc<Self>) {
        let mut last = None;
        loop {
            let (this, before) = (self.clone(), last.take());
            let look = move || {
                let now = stamps();
                if before.as_ref().is_some_and(|before| *before != now) {
                    this.reread();
                }
                now
            };
            last = tokio::task::spawn_blocking(look).await.ok();
            tokio::time::sleep(REREAD).await;
        }
    }

    /// Follows the cluster's MeshProfiles, for ever, and keeps them as files. Where the cluster has none of that kind, the files stay.
    pub(super) async fn follow_cluster(self: Arc<Self>, cluster: &Cluster, metrics: &Metrics) {
        let kind = kind("meshoptin.dev", "v1alpha1", "MeshProfile", "meshprofiles");
        let (mut known, mut listed) = (BTreeMap::new(), BTreeMap::new());
        follow(cluster.client(), &kind, None, metrics, &mut |event| {
            match event {
                Event::Init => return listed.clear(),
                Event::InitApply(object) => return drop(listed.insert(object.name(), text(&object))),
                Event::InitDone => known = std::mem::take(&mut listed),
                Event::Apply(object) => drop(known.insert(object.name(), text(&object))),
                Event::Delete(object) => drop(known.remove(&object.name())),
            }
            match snapshot(&known) {
                Ok(true) => self.reread(),
                Ok(false) => {}
                Err(error) => warn!(reason = error.reason.as_str(), "the cluster's profiles cannot be kept: {error}"),
            }
        })
        .await;
    }
}

impl Loaded {
    fn read() -> Result<Self, Explanation> {
        let mut loaded = Self::default();
        for written in written_profiles(NodeConfig::load()?.default_profile)? {
            let object = written.text.as_deref().map(|text| json_of(text, &written.profile.origin)).transpose()?;
            loaded.wire.push(WireProfile { origin: written.profile.origin.clone(), object });
            loaded.profiles.push(written.profile);
        }
        Ok(loaded)
    }
}

fn json_of(yaml: &str, origin: &ProfileOrigin) -> Result<Box<RawValue>, Explanation> {
    let invalid = |why: String| Reason::NodeConfigInvalid.because(format!("{origin:?}: {why}"));
    let value: Value = serde_yaml::from_str(yaml).map_err(|e| invalid(e.to_string()))?;
    RawValue::from_string(value.to_string()).map_err(|e| invalid(e.to_string()))
}

/// What tells that a file has changed.
fn stamps() -> Vec<(std::path::PathBuf, Option<std::time::SystemTime>, u64)> {
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).ok();
        (path.to_owned(), metadata.as_ref().and_then(|m| m.modified().ok()), metadata.map_or(0, |m| m.len()))
    };
    let files = [paths::PROFILES, paths::PROFILES_SNAPSHOT].map(|d| list(Path::new(d), &["yaml", "yml"]).unwrap_or_default());
    let directories = [paths::CONFIG, paths::PROFILES, paths::PROFILES_SNAPSHOT].map(Path::new);
    directories.into_iter().chain(files.iter().flatten().map(AsRef::as_ref)).map(of).collect()
}

/// The object as a file holds it: JSON, which is YAML.
fn text(object: &Object) -> String {
    let (name, spec) = (json!(object.name()), object.spec_text());
    format!(r#"{{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{{"name":{name}}},"spec":{spec}}}"#)
}

/// Makes the files say what the cluster says; whether that changed anything. A profile that we cannot read keeps the text that we could.
fn snapshot(profiles: &BTreeMap<String, String>) -> Result<bool, Explanation> {
    let (directory, mut changed) = (Path::new(paths::PROFILES_SNAPSHOT), false);
    let kept = list(directory, &["yaml"])?;
    for (name, text) in profiles {
        let path = directory.join(format!("{name}.yaml"));
        if std::fs::read_to_string(&path).is_ok_and(|before| before == *text) {
            continue;
        }
        if let Err(why) = Profile::from_json(text, ProfileOrigin::File(path.clone()))
            && path.exists()
        {
            warn!(profile = name, "the cluster's MeshProfile cannot be read, what it said before counts: {why}");
            continue;
        }
        state::replace(&path, text.as_bytes(), 0o600)?;
        info!(profile = name, "MeshProfile taken from the cluster");
        changed = true;
    }
    for path in kept {
        if !path.file_stem().and_then(|s| s.to_str()).is_some_and(|name| profiles.contains_key(name)) {
            std::fs::remove_file(&path).map_err(|e| state::unusable(&path, &e))?;
            changed = true;
        }
    }
    Ok(changed)
}
