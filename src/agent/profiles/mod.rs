//! The governing profiles, parsed: the admin's files and the cluster's objects. The node keeps a copy of the latter for while no
//! agent is running; while one is, what the API server says counts.

mod follow;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, value::RawValue};
use tokio::sync::watch;
use tracing::warn;

use super::{
    ownership::{Ownership, Role},
    watch::{LOST, out_of_reach},
};
use crate::{
    deadline::Deadline,
    log,
    mesh::governing,
    node::{
        NodeConfig, OfCluster, Written, admin_profiles, keep_profiles, kept_profiles, list, paths,
        united,
    },
    profile::{Placement, Profile, ProfileOrigin},
    reason::{Explanation, Reason},
    source::{FoundPod, wire::WireProfile},
};

/// How soon a file that the admin changed counts, and a copy that was lost is there again.
const LOOK: Duration = Duration::from_secs(2);
/// How long the first list after our own start may take.
const FIRST_LIST: Duration = Duration::from_secs(3);

/// Profiles whose last generation cannot be read, by name, and why.
type Unread = BTreeMap<String, String>;

/// The profiles as they are now, or why nothing governs.
pub(super) struct Profiles {
    /// What the API server has said, or had when we were here last; `None` while nobody knows: nothing is decided on a guess.
    heard: watch::Sender<Option<Arc<OfCluster>>>,
    /// Since when they cannot be followed; `None` while they are.
    lost: watch::Sender<Option<Instant>>,
    started: Instant,
    known: Mutex<InUse>,
    /// Counts what has changed in that.
    changes: watch::Sender<u64>,
}

struct InUse {
    /// What of the cluster's is in use.
    cluster: Option<Arc<OfCluster>>,
    loaded: Loaded,
    unread: Unread,
    /// Why the copy on the node is not what it should be.
    copy: Option<Explanation>,
}

/// The profiles in use, or why none can be used.
type Loaded = Arc<Result<Vec<Ready>, Ungoverned>>;

/// A profile as it is decided by, and as it goes to the plugin.
struct Ready {
    profile: Profile,
    wire: WireProfile,
}

impl AsRef<Profile> for Ready {
    fn as_ref(&self) -> &Profile {
        &self.profile
    }
}

/// Why no profile governs a pod.
#[derive(Debug, Clone)]
pub(super) enum Ungoverned {
    /// What the cluster has is not known yet.
    NotYet,
    /// None can, for this reason.
    Refused(Explanation),
}

impl From<Explanation> for Ungoverned {
    fn from(why: Explanation) -> Self {
        Self::Refused(why)
    }
}

impl From<Ungoverned> for Explanation {
    fn from(why: Ungoverned) -> Self {
        match why {
            Ungoverned::NotYet => Reason::AgentUnavailable
                .because("the agent does not know the cluster's MeshProfiles yet"),
            Ungoverned::Refused(why) => why,
        }
    }
}

/// The profile that governs a pod.
pub(super) struct Chosen {
    pub(super) profile: Profile,
    /// As it goes to the plugin.
    pub(super) wire: WireProfile,
    /// What was passed over to find one for a pod that has run.
    pub(super) warning: Option<Explanation>,
}

impl Profiles {
    /// What is known before the API server has said anything: what it said last.
    pub(super) fn load() -> Self {
        Self::of(kept_profiles().unwrap_or_default())
    }

    /// With what the API server has said before.
    pub(super) fn of(kept: Option<OfCluster>) -> Self {
        let kept = kept.map(Arc::new);
        let loaded = Arc::new(load(kept.as_deref()));
        Self {
            heard: watch::Sender::new(kept.clone()),
            lost: watch::Sender::new(Some(Instant::now())),
            started: Instant::now(),
            known: Mutex::new(InUse {
                cluster: kept,
                loaded,
                unread: Unread::new(),
                copy: None,
            }),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The one that governs a pod, for an attachment that may name one. Waits until the cluster's are known.
    pub(super) async fn governing(
        &self,
        found: &FoundPod,
        named: Option<&str>,
        by: Deadline,
    ) -> Result<Chosen, Ungoverned> {
        let mut changes = self.changes();
        // what was kept may be days old: the API server is given a moment to say what it is now
        let first = FIRST_LIST
            .saturating_sub(self.started.elapsed())
            .min(by.left() / 2);
        if !first.is_zero() {
            tokio::time::timeout(first, self.are_in_use()).await.ok();
        }
        loop {
            match self.governing_now(found, named) {
                Err(Ungoverned::NotYet) => {
                    let changed = tokio::time::timeout(by.left(), changes.changed()).await;
                    changed
                        .ok()
                        .and_then(Result::ok)
                        .ok_or(Ungoverned::NotYet)?;
                }
                known => return known,
            }
        }
    }

    /// The same of what is known by now.
    pub(super) fn governing_now(
        &self,
        found: &FoundPod,
        named: Option<&str>,
    ) -> Result<Chosen, Ungoverned> {
        let loaded = self.in_use();
        let all = Result::as_ref(&loaded).map_err(Clone::clone)?;
        let (ready, warning) = governing(all, &found.namespace, &found.pod, named)?;
        Ok(Chosen {
            profile: ready.profile.clone(),
            wire: ready.wire.clone(),
            warning,
        })
    }

    /// The version of a profile of the cluster.
    pub(super) fn version(&self, name: &str) -> Option<String> {
        self.get(name).map(|profile| profile.resource_version)
    }

    /// Those whose last generation cannot be read; their namespaces are decided by the one before it, if there was one.
    pub(super) fn unreadable(&self) -> Unread {
        self.lock().unread.clone()
    }

    fn unread(&self, unread: &Unread) {
        let mut known = self.lock();
        for (name, why) in unread {
            if known.unread.get(name) != Some(why) {
                warn!(
                    profile = name,
                    "the MeshProfile's last generation cannot be read, what it said before goes on governing: {why}"
                );
            }
        }
        known.unread.clone_from(unread);
    }

    /// By name.
    pub(super) fn get(&self, name: &str) -> Option<Profile> {
        let loaded = self.in_use();
        let mut all = Result::as_ref(&loaded).ok()?.iter().map(|r| &r.profile);
        all.find(|p| p.name == name).cloned()
    }

    /// The names that attachments without a configuration have, and whether that is all of them; why they are not known.
    pub(super) fn attachment_names(&self) -> Result<(Vec<String>, bool), Ungoverned> {
        let loaded = self.in_use();
        let all = Result::as_ref(&loaded).map_err(Clone::clone)?;
        let profiles = all.iter().map(|ready| &ready.profile);
        let has_one =
            |p: &&Profile| p.spec.attachment.placement != Placement::None && p.unreadable.is_none();
        let names = profiles.clone().filter(has_one);
        let names = names.map(|p| p.spec.attachment.name.clone()).collect();
        Ok((names, profiles.clone().all(|p| p.unreadable.is_none())))
    }

    /// Why not every pod can be decided on, or could not be without us.
    pub(super) fn wrong(&self) -> Option<Explanation> {
        let (loaded, copy) = (self.in_use(), self.lock().copy.clone());
        let lost = self.lost.borrow().is_some_and(|at| at.elapsed() > LOST);
        let gone = || {
            let profiles = Result::as_ref(&loaded).ok()?;
            let has = if profiles.is_empty() {
                "has no MeshProfile"
            } else {
                "no longer has any MeshProfile"
            };
            let cause = format!("the cluster {has}: new pods of the mesh are refused");
            let govern_none = profiles.iter().all(|ready| ready.profile.is_gone);
            govern_none.then(|| Reason::UnknownProfile.because(cause))
        };
        Result::as_ref(&loaded)
            .err()
            .cloned()
            .map(Explanation::from)
            .or_else(gone)
            .or(copy)
            .or(lost.then(|| out_of_reach("the cluster's MeshProfiles")))
    }

    /// Waits until what the API server says is what governs.
    async fn are_in_use(&self) {
        let (mut lost, mut changes) = (self.lost.subscribe(), self.changes());
        lost.wait_for(Option::is_none).await.ok();
        while self.lock().cluster != *self.heard.borrow() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes what the cluster and the admin's files say into use, and keeps the copy of the cluster's, until canceled.
    /// The node's copy is that of the agent that owns it.
    pub(super) async fn keep(self: Arc<Self>, ownership: &Ownership) {
        let (mut heard, mut before, mut role) = (self.heard.subscribe(), None, ownership.changes());
        loop {
            let (this, cluster) = (self.clone(), heard.borrow_and_update().clone());
            let is_owner = *role.borrow_and_update() == Role::Owner;
            let look = move || {
                let now = (stamps(), cluster);
                if before.as_ref() != Some(&now) {
                    this.take(now.1.clone());
                    if let Ok(config) = NodeConfig::load() {
                        log::change(config.log_level.into());
                    }
                }
                if is_owner {
                    this.copy(now.1.as_deref());
                }
                now
            };
            before = tokio::task::spawn_blocking(look).await.ok();
            tokio::select! {
                _ = heard.changed() => {}
                _ = role.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn take(&self, cluster: Option<Arc<OfCluster>>) {
        let loaded = load(cluster.as_deref());
        match &loaded {
            Err(Ungoverned::NotYet) => {}
            Err(Ungoverned::Refused(why)) => warn!(reason = why.reason.as_str(), "{why}"),
            Ok(all) => {
                for Ready { profile, .. } in all {
                    if let Some(unreadable) = &profile.unreadable {
                        warn!(
                            profile = profile.name,
                            "the MeshProfile cannot be read, its namespaces are refused: {}",
                            unreadable.why
                        );
                    }
                }
            }
        }
        let mut known = self.lock();
        (known.cluster, known.loaded) = (cluster, Arc::new(loaded));
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Makes the files say what the cluster says. What fails is tried again at the next look.
    fn copy(&self, cluster: Option<&OfCluster>) {
        let Some(cluster) = cluster else { return };
        let wrong = keep_profiles(cluster).err();
        let mut known = self.lock();
        if known.copy != wrong {
            if let Some(error) = &wrong {
                warn!(
                    reason = error.reason.as_str(),
                    "the cluster's MeshProfiles cannot be kept: {error}"
                );
            }
            known.copy = wrong;
        }
    }

    fn in_use(&self) -> Loaded {
        self.lock().loaded.clone()
    }

    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(cluster: Option<&OfCluster>) -> Result<Vec<Ready>, Ungoverned> {
    let cluster = cluster.ok_or(Ungoverned::NotYet)?;
    let default = NodeConfig::load()?.default_profile;
    let each = united(admin_profiles()?, cluster, default).into_iter();
    let ready = each.map(|Written { profile, text }| {
        let text = text.filter(|_| profile.unreadable.is_none());
        let object = text.map(|text| json_of(&text, &profile.origin));
        let wire = WireProfile {
            origin: profile.origin.clone(),
            object: object.transpose()?,
        };
        Ok(Ready { profile, wire })
    });
    ready.collect()
}

fn json_of(yaml: &str, origin: &ProfileOrigin) -> Result<Box<RawValue>, Explanation> {
    let invalid = |why: String| Reason::NodeConfigInvalid.because(format!("{origin:?}: {why}"));
    let value: Value = serde_yaml::from_str(yaml).map_err(|e| invalid(e.to_string()))?;
    RawValue::from_string(value.to_string()).map_err(|e| invalid(e.to_string()))
}

/// What tells that a file of the admin has changed.
fn stamps() -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).ok();
        (
            path.to_owned(),
            metadata.as_ref().and_then(|m| m.modified().ok()),
            metadata.map_or(0, |m| m.len()),
        )
    };
    let files = list(Path::new(paths::PROFILES), &["yaml", "yml"]).unwrap_or_default();
    [paths::CONFIG, paths::SETTINGS, paths::PROFILES]
        .map(Path::new)
        .into_iter()
        .chain(files.iter().map(AsRef::as_ref))
        .map(of)
        .collect()
}
