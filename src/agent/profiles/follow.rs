//! Follows the cluster's MeshProfiles, and keeps of each the last generation that can be read.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::runtime::watcher::Event;
use serde_json::json;

use super::{Profiles, Unread};
use crate::{
    agent::cluster::Cluster,
    cluster::{Object, WatchUpdate, follow, kind},
    node::{OfCluster, ProfileKind, cluster_profile},
    profile::Profile,
};

impl Profiles {
    /// Follows the cluster's MeshProfiles until it is canceled. Where it has none of that kind, what it had before counts.
    pub(in crate::agent) async fn follow(&self, cluster: &Cluster) {
        let kind = kind("meshoptin.dev", "v1alpha1", "MeshProfile", "meshprofiles");
        let mut store = ProfileStore::default();
        follow(cluster.client(), &kind, &[], &mut |heard| {
            self.handle(&mut store, heard);
        })
        .await;
    }

    fn handle(&self, store: &mut ProfileStore, heard: WatchUpdate) {
        let before = self.heard.borrow().clone();
        match store.take(heard, before.as_deref()) {
            Change::Nothing => {}
            Change::Followed => drop(self.lost.send_replace(None)),
            Change::Lost => {
                let since =
                    |lost: &mut Option<Instant>| *lost = lost.or_else(|| Some(Instant::now()));
                self.lost.send_modify(since);
            }
            Change::Known(of_cluster) => {
                self.unread(&store.unread);
                self.heard.send_replace(Some(Arc::new(of_cluster)));
                self.lost.send_replace(None);
            }
        }
    }
}

/// The MeshProfiles of the cluster as its watch tells them.
#[derive(Default)]
struct ProfileStore {
    now: Texts,
    /// Of a list that is not complete yet.
    listed: Texts,
    unread: Unread,
    departed: Departed,
}

/// What an event changes.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    /// The watch broke.
    Lost,
    /// A watch has resumed.
    Followed,
    Known(OfCluster),
}

impl ProfileStore {
    /// Takes an event in. `before`: what the cluster had, which a restart of the agent outlives.
    fn take(&mut self, heard: WatchUpdate, before: Option<&OfCluster>) -> Change {
        let Self { now, unread, .. } = self;
        let is_served = !matches!(heard, WatchUpdate::NotServed);
        match heard {
            WatchUpdate::Failed => return Change::Lost,
            WatchUpdate::Watching => return Change::Followed,
            WatchUpdate::NotServed => now.clear(),
            WatchUpdate::Event(Event::Init) => {
                self.listed.clear();
                return Change::Nothing;
            }
            WatchUpdate::Event(Event::InitApply(object)) => {
                self.listed.insert(object.name(), text(&object));
                return Change::Nothing;
            }
            WatchUpdate::Event(Event::InitDone) => {
                now.clear();
                unread.clear();
                for (name, text) in std::mem::take(&mut self.listed) {
                    let before = before.and_then(|b| b.texts.get(&name));
                    let text = newest_readable(&name, text, before, unread);
                    now.insert(name, text);
                }
            }
            WatchUpdate::Event(Event::Apply(object)) => {
                let (name, text) = (object.name(), text(&object));
                let text = newest_readable(&name, text, now.get(&name), unread);
                now.insert(name, text);
            }
            WatchUpdate::Event(Event::Delete(object)) => {
                unread.remove(&object.name());
                now.remove(&object.name());
            }
        }
        let had = before.map(|before| &before.texts);
        let had = self.departed.with(had.into_iter().flatten(), &self.now);
        Change::Known(after(had, self.now.clone(), is_served))
    }
}

/// The profiles by name.
type Texts = BTreeMap<String, String>;

/// Profiles that were deleted lately. Where all are deleted they go one after the other.
#[derive(Default)]
struct Departed(BTreeMap<String, (Instant, String)>);

/// Profiles that were deleted within this time of each other were deleted together.
const TOGETHER: Duration = Duration::from_secs(600);

impl Departed {
    /// What the cluster had, with what was deleted before within that time; takes note of what is not there now.
    fn with<'a>(
        &mut self,
        had: impl Iterator<Item = (&'a String, &'a String)>,
        now: &Texts,
    ) -> Texts {
        self.0
            .retain(|name, (at, _)| at.elapsed() < TOGETHER && !now.contains_key(name));
        for (name, text) in had.filter(|(name, _)| !now.contains_key(*name)) {
            let (at, text) = (Instant::now(), text.clone());
            self.0.entry(name.clone()).or_insert((at, text));
        }
        let all = self.0.iter();
        all.map(|(name, (_, text))| (name.clone(), text.clone()))
            .collect()
    }
}

/// What the cluster has, after what was deleted. That stays where it has none any more.
fn after(deleted: Texts, texts: Texts, is_served: bool) -> OfCluster {
    if texts.is_empty() && !deleted.is_empty() {
        return OfCluster {
            texts: deleted,
            kind: ProfileKind::Gone,
        };
    }
    let kind = if is_served {
        ProfileKind::Served
    } else {
        ProfileKind::Unserved
    };
    OfCluster { texts, kind }
}

/// What is decided by: the newest text, or the one before it where only that can be read and the newest does not say that it needs a newer
/// version. One that says the same keeps its version.
fn newest_readable(
    name: &str,
    newest: String,
    before: Option<&String>,
    unread: &mut Unread,
) -> String {
    let why = |text: &str| cluster_profile(name, text.to_owned()).profile.unreadable;
    let unreadable = why(&newest);
    match &unreadable {
        Some(unreadable) => unread.insert(name.to_owned(), unreadable.why.clone()),
        None => unread.remove(name),
    };
    let kept = before.filter(|before| match &unreadable {
        None => spec(before) == spec(&newest),
        Some(_) => Profile::required_version(&newest).is_none() && why(before).is_none(),
    });
    kept.cloned().unwrap_or(newest)
}

/// `spec` in such a text.
fn spec(text: &str) -> Option<&str> {
    text.split_once(SPEC).map(|(_, spec)| spec)
}

const SPEC: &str = r#"},"spec":"#;

/// The object as a file holds it: JSON, which is YAML.
fn text(object: &Object) -> String {
    let (name, version) = (json!(object.name()), json!(object.version()));
    let spec = object.spec_text();
    format!(
        r#"{{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{{"name":{name},"resourceVersion":{version}{SPEC}{spec}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: &str, spec: &str) -> String {
        format!(
            r#"{{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{{"name":"p","resourceVersion":"{version}"{SPEC}{spec}}}"#
        )
    }

    #[test]
    fn what_the_cluster_has_is_known_when_a_list_is_complete() {
        let object = |name: &str, version: &str, spec: serde_json::Value| {
            let metadata = json!({"name": name, "resourceVersion": version});
            let object = json!({"metadata": metadata, "spec": spec});
            serde_json::from_value::<Object>(object).unwrap()
        };
        let mut store = ProfileStore::default();
        let mut before = None::<OfCluster>;
        let mut take = |event| {
            let change = store.take(event, before.as_ref());
            if let Change::Known(now) = &change {
                before = Some(now.clone());
            }
            let unread: Vec<_> = store.unread.keys().cloned().collect();
            (change, unread)
        };
        let known = |change: &Change| match change {
            Change::Known(now) => (now.texts.keys().cloned().collect::<Vec<_>>(), now.kind),
            Change::Nothing | Change::Lost | Change::Followed => panic!("{change:?}"),
        };
        let listed = |name| WatchUpdate::Event(Event::InitApply(object(name, "1", json!({}))));
        for event in [WatchUpdate::Event(Event::Init), listed("a"), listed("b")] {
            assert_eq!(take(event).0, Change::Nothing);
        }
        let (change, _) = take(WatchUpdate::Event(Event::InitDone));
        assert_eq!(
            known(&change),
            (vec!["a".into(), "b".into()], ProfileKind::Served)
        );
        assert_eq!(take(WatchUpdate::Failed).0, Change::Lost);
        assert_eq!(take(WatchUpdate::Watching).0, Change::Followed);
        let newer = object("a", "2", json!({"newerField": 1}));
        let (change, unread) = take(WatchUpdate::Event(Event::Apply(newer)));
        let Change::Known(now) = &change else {
            panic!("{change:?}");
        };
        assert!(
            now.texts["a"].contains(r#""resourceVersion":"1""#),
            "{now:?}"
        );
        assert_eq!(unread, ["a"]);
        // a list that is not complete changes nothing, and one that is forgets the others
        assert_eq!(take(WatchUpdate::Event(Event::Init)).0, Change::Nothing);
        assert_eq!(take(listed("b")).0, Change::Nothing);
        let (change, unread) = take(WatchUpdate::Event(Event::InitDone));
        assert_eq!(known(&change), (vec!["b".into()], ProfileKind::Served));
        assert_eq!(unread, [""; 0]);
        // without the kind the last ones are kept, as gone
        let (change, _) = take(WatchUpdate::NotServed);
        assert_eq!(
            known(&change),
            (vec!["a".into(), "b".into()], ProfileKind::Gone)
        );
        let deleted = object("b", "3", json!({}));
        let (change, _) = take(WatchUpdate::Event(Event::Delete(deleted)));
        assert_eq!(known(&change).1, ProfileKind::Gone);
    }

    #[test]
    fn profiles_that_are_deleted_one_after_the_other_all_stay() {
        let texts = |names: &[&str]| -> Texts {
            let each = |name: &&str| ((*name).to_owned(), text("1", "{}"));
            names.iter().map(each).collect()
        };
        let (mut departed, mut before) = (Departed::default(), texts(&["a", "b", "c"]));
        for left in [&["b", "c"][..], &["c"], &[]] {
            let now = texts(left);
            let taken = after(departed.with(before.iter(), &now), now, true);
            let names: Vec<_> = taken.texts.keys().map(String::as_str).collect();
            if left.is_empty() {
                assert_eq!(
                    (names, taken.kind),
                    (vec!["a", "b", "c"], ProfileKind::Gone)
                );
            } else {
                assert_eq!((names.as_slice(), taken.kind), (left, ProfileKind::Served));
            }
            before = taken.texts;
        }
        // what is still gone stays so, and one that is back is alone
        let taken = after(departed.with(before.iter(), &texts(&[])), texts(&[]), false);
        assert_eq!((taken.texts.len(), taken.kind), (3, ProfileKind::Gone));
        let now = texts(&["b"]);
        let taken = after(departed.with(taken.texts.iter(), &now), now, true);
        assert_eq!((taken.texts.len(), taken.kind), (1, ProfileKind::Served));
        let none = after(
            Departed::default().with([].into_iter(), &texts(&[])),
            texts(&[]),
            false,
        );
        assert_eq!(none.kind, ProfileKind::Unserved);
    }

    #[test]
    fn a_profile_that_cannot_be_read_goes_on_as_it_was() {
        let (first, newer) = (text("1", r#"{"drift":"Repair"}"#), r#"{"newerField":1}"#);
        let mut unread = Unread::new();
        let mut after = |before: Option<&String>, newest: &str| {
            let taken = newest_readable("p", newest.to_owned(), before, &mut unread);
            (taken, unread.get("p").cloned())
        };
        assert_eq!(after(None, &first), (first.clone(), None));
        let (taken, why) = after(Some(&first), &text("2", newer));
        assert_eq!(taken, first);
        assert!(why.unwrap().contains("newerField"));
        // it was never read, or says itself that it must not be passed over
        assert_eq!(after(None, &text("2", newer)).0, text("2", newer));
        let needs = text("3", r#"{"newerField":1,"requires":"99.0.0"}"#);
        assert_eq!(after(Some(&first), &needs).0, needs);
        let needs = text("3", r#"{"requires":"99.0.0"}"#);
        assert_eq!(after(Some(&first), &needs).0, needs);
        // its status was written
        let again = text("4", r#"{"drift":"Repair"}"#);
        assert_eq!(after(Some(&first), &again), (first.clone(), None));
        let other = text("5", r#"{"drift":"Report"}"#);
        assert_eq!(after(Some(&first), &other), (other.clone(), None));
    }
}
