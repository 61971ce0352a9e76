//! What the API server tells of this node's pods and their namespaces, brought into the cache. The load on it, and what is kept, grow
//! with the node's pods: pods are selected by node, namespaces one by one.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use kube::{
    Api, Resource,
    core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::task::AbortHandle;
use tracing::warn;

use super::{
    cache::{Cache, Seen},
    cluster::Cluster,
    metrics::Metrics,
};
use crate::mesh::{Metadata, Namespace, Pod, PodSpec, PodStatus};

/// Objects of one page of a list: what is parsed at a time.
const PAGE: u32 = 100;
/// How long a namespace without pods is still watched.
const LINGER: Duration = Duration::from_secs(60);

/// Follows an object's kind for ever. What cannot be followed is told and tried again, with growing pauses.
pub(super) async fn follow<K>(
    api: Api<K>,
    kind: &K::DynamicType,
    config: watcher::Config,
    metrics: &Metrics,
    mut each: impl FnMut(Event<K>),
) where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut events = pin!(watcher(api, config.page_size(PAGE)).default_backoff());
    let mut last = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                last.clear();
                each(event);
            }
            Err(error) => {
                let is_unknown = matches!(&error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
                metrics.api_error("watch");
                let error = if is_unknown { "the cluster does not know them".to_owned() } else { error.to_string() };
                if error != last {
                    warn!("watching {}: {error}", K::plural(kind));
                    last = error;
                }
            }
        }
    }
}

/// Keeps the node's pods in the cache.
pub(super) async fn pods(cluster: &Cluster, node: &str, cache: &Cache, metrics: &Metrics) {
    let mut listed = Vec::new();
    let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    follow(Api::<WatchedPod>::all(cluster.client()), &(), of_node, metrics, |event| match event {
        Event::Init => listed.clear(),
        Event::InitApply(pod) => listed.push(pod.seen()),
        Event::InitDone => cache.list(std::mem::take(&mut listed)),
        Event::Apply(pod) => cache.put(pod.seen()),
        Event::Delete(pod) => cache.remove(&pod.seen().pod),
    })
    .await;
}

/// Keeps the namespaces of the node's pods in the cache.
pub(super) async fn namespaces(cluster: Arc<Cluster>, cache: Arc<Cache>, metrics: Arc<Metrics>) {
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    let mut changes = cache.changes();
    loop {
        let wanted = cache.wanted_namespaces();
        for (name, namespace) in &mut watched {
            if wanted.contains(name) {
                namespace.needed = Instant::now();
            }
        }
        watched.retain(|name, namespace| {
            let is_needed = namespace.needed.elapsed() < LINGER;
            if !is_needed {
                namespace.task.abort();
                cache.remove_namespace(name);
            }
            is_needed
        });
        for name in wanted {
            let connection = free_connection(&watched);
            watched.entry(name).or_insert_with_key(|name| {
                let follow = namespace(cluster.clone(), connection, name.clone(), cache.clone(), metrics.clone());
                Watched { connection, task: tokio::spawn(follow).abort_handle(), needed: Instant::now() }
            });
        }
        // the look after LINGER is for those that are no longer needed
        tokio::time::timeout(LINGER, changes.changed()).await.ok();
    }
}

/// A namespace that is watched.
struct Watched {
    connection: usize,
    task: AbortHandle,
    needed: Instant,
}

/// A connection takes a limited number of streams: an API server's default is 250, of some proxies in front of one 100.
const WATCHES_PER_CONNECTION: usize = 80;

fn free_connection(watched: &BTreeMap<String, Watched>) -> usize {
    let is_free = |c: &usize| watched.values().filter(|w| w.connection == *c).count() < WATCHES_PER_CONNECTION;
    (0..).find(is_free).unwrap_or_default()
}

async fn namespace(cluster: Arc<Cluster>, connection: usize, name: String, cache: Arc<Cache>, metrics: Arc<Metrics>) {
    let Ok(client) = cluster.watching_client(connection) else { return future::pending().await };
    let mut is_listed = false;
    let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    follow(Api::<WatchedNamespace>::all(client), &(), one, &metrics, |event| match event {
        Event::Init => is_listed = false,
        Event::InitApply(namespace) | Event::Apply(namespace) => {
            is_listed = true;
            cache.put_namespace(Namespace { metadata: reduced(namespace.metadata) });
        }
        Event::InitDone if is_listed => {}
        Event::InitDone | Event::Delete(_) => cache.remove_namespace(&name),
    })
    .await;
}

/// A pod as it is watched: what decides, and whether it runs.
#[derive(Debug, Clone, Deserialize)]
struct WatchedPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: WatchedStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct WatchedStatus {
    #[serde(default)]
    phase: String,
    #[serde(flatten)]
    status: PodStatus,
}

#[derive(Debug, Clone, Deserialize)]
struct WatchedNamespace {
    metadata: ObjectMeta,
}

impl WatchedPod {
    fn seen(self) -> Seen {
        let is_running = self.status.phase == "Running" && self.metadata.deletion_timestamp.is_none();
        let pod = Pod { metadata: reduced(self.metadata), spec: self.spec, status: self.status.status };
        Seen { pod: pod.reduced(), is_running }
    }
}

fn reduced(metadata: ObjectMeta) -> Metadata {
    Metadata {
        name: metadata.name.unwrap_or_default(),
        namespace: metadata.namespace.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        annotations: metadata.annotations.unwrap_or_default(),
    }
}

macro_rules! core_resource {
    ($kind:ty, $scope:ty, $name:literal, $plural:literal) => {
        impl Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $name.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

core_resource!(WatchedPod, NamespaceResourceScope, "Pod", "pods");
core_resource!(WatchedNamespace, ClusterResourceScope, "Namespace", "namespaces");
