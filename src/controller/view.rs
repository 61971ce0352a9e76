//! What is known of the cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::future::{AbortHandle, abortable};
use k8s_openapi::api::core::v1;
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, PartialObjectMeta},
    runtime::watcher::Config,
};
use tokio::sync::Notify;

use super::{
    attachment::{self, PROFILE, Present, present},
    followed::{Followed, version},
    objects::{Node, NodeObject, ProfileObject, namespace, node, profile},
    wanted::{AttachmentOwner, Namespace, ObjectKey},
};
use crate::profile::{MeshProfile, mesh_node::MeshNode};

/// All that is followed.
pub(super) struct View {
    client: Client,
    changed: Arc<Notify>,
    pub(super) profiles: Followed<ProfileObject>,
    pub(super) namespaces: Followed<Namespace>,
    pub(super) nodes: Followed<Node>,
    /// Attachments with the label of a profile.
    pub(super) labelled: Followed<Present>,
    /// By name, the attachments of that name in all namespaces, whoever made them.
    named: Mutex<BTreeMap<String, Named>>,
}

struct Named {
    followed: Arc<Followed<Present>>,
    task: AbortHandle,
}

impl View {
    pub(super) fn new(client: Client) -> Self {
        let changed = Arc::<Notify>::default();
        Self {
            client,
            profiles: Followed::new(&changed, |_, _| false),
            namespaces: Followed::new(&changed, PartialEq::eq),
            nodes: Followed::new(&changed, Node::is_no_news),
            labelled: Followed::new(&changed, PartialEq::eq),
            named: Mutex::default(),
            changed,
        }
    }

    /// Follows all but the attachments of a name, until it is canceled.
    pub(super) async fn follow(&self) {
        let client = || self.client.clone();
        let all = |resource: &ApiResource| Api::<DynamicObject>::all_with(client(), resource);
        let (profiles, attachments) = (
            all(&ApiResource::erase::<MeshProfile>(&())),
            all(&attachment::resource()),
        );
        let nodes = Api::<NodeObject>::all_with(client(), &ApiResource::erase::<MeshNode>(&()));
        let namespaces = Api::<PartialObjectMeta<v1::Namespace>>::all(client());
        let config = Config::default;
        tokio::join!(
            self.profiles
                .follow("MeshProfiles", profiles, config(), profile),
            self.namespaces
                .follow("namespaces", namespaces, config(), namespace),
            self.nodes.follow("MeshNodes", nodes, config(), node),
            self.labelled.follow(
                "attachments",
                attachments,
                config().labels(PROFILE),
                present
            ),
        );
    }

    /// Waits until something may have changed.
    pub(super) async fn wait_for_change(&self) {
        self.changed.notified().await;
    }

    /// Follows the attachments of these names from now on, and of no others.
    pub(super) fn follow_named(&self, names: &BTreeSet<String>) {
        let mut named = self.named();
        named.retain(|name, known| {
            let is_kept = names.contains(name);
            if !is_kept {
                known.task.abort();
            }
            is_kept
        });
        for name in names {
            if named.contains_key(name) {
                continue;
            }
            let followed = Arc::new(Followed::new(&self.changed, PartialEq::eq));
            let api = Api::<DynamicObject>::all_with(self.client.clone(), &attachment::resource());
            let (what, of_task) = (format!("attachments {name}"), followed.clone());
            let config = Config::default().fields(&format!("metadata.name={name}"));
            let (follow, task) =
                abortable(async move { of_task.follow(&what, api, config, present).await });
            tokio::spawn(follow);
            named.insert(name.clone(), Named { followed, task });
        }
    }

    /// Why nothing can be done yet.
    pub(super) fn unknown(&self) -> Option<&'static str> {
        let named = self.named();
        let known = [
            (self.profiles.lock().is_complete, "MeshProfiles"),
            (self.namespaces.lock().is_complete, "namespaces"),
            (self.nodes.lock().is_complete, "MeshNodes"),
            (
                self.labelled.lock().is_complete
                    && named.values().all(|n| n.followed.lock().is_complete),
                "NetworkAttachmentDefinitions",
            ),
        ];
        known
            .into_iter()
            .find_map(|(is_known, what)| (!is_known).then_some(what))
    }

    /// Whether the cluster has attachments at all, as far as is known.
    pub(super) fn has_attachments(&self) -> bool {
        let is_served = |followed: &Followed<Present>| followed.lock().unserved.is_none();
        let named = self.named();
        is_served(&self.labelled) && named.values().all(|n| is_served(&n.followed))
    }

    /// Every attachment that counts. Of two reports of one the newer counts.
    pub(super) fn attachments(&self) -> BTreeMap<ObjectKey, Present> {
        let mut all = BTreeMap::<ObjectKey, Present>::new();
        let version = |present: &Present| version(&present.resource_version);
        let mut add = |key: &ObjectKey, present: &Present| {
            let known = all.get(key);
            if known.is_none_or(|known| version(known) < version(present)) {
                all.insert(key.clone(), present.clone());
            }
        };
        for named in self.named().values() {
            let heard = named.followed.lock();
            heard.objects.iter().for_each(|(k, p)| add(k, p));
        }
        let heard = self.labelled.lock();
        heard.objects.iter().for_each(|(k, p)| add(k, p));
        all
    }

    /// Takes in what a write of ours made that was sent at this time, before the watch says so.
    pub(super) fn note_written(&self, object: DynamicObject, sent: Instant) {
        let (key, present) = present(object);
        // the cluster's own are not among those with the label of a profile
        let is_profiles = matches!(present.owner, Some(AttachmentOwner::Profile(_)));
        self.with(&key, |followed, of_name| {
            if of_name || is_profiles {
                let version = version(&present.resource_version);
                followed.lock().make(&key, present.clone(), version, sent);
            }
        });
    }

    /// The same of one that we have deleted, unless another one has taken its place.
    pub(super) fn note_deleted(&self, key: &ObjectKey, deleted: &Present) {
        self.with(key, |followed, _| {
            let objects = &mut followed.lock().objects;
            if objects.get(key).is_some_and(|p| p.uid == deleted.uid) {
                objects.remove(key);
            }
        });
    }

    /// What follows attachments of this name, and what those with the label of a profile.
    fn with(&self, key: &ObjectKey, each: impl Fn(&Followed<Present>, bool)) {
        if let Some(named) = self.named().get(&key.name) {
            each(&named.followed, true);
        }
        each(&self.labelled, false);
    }

    fn named(&self) -> MutexGuard<'_, BTreeMap<String, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
