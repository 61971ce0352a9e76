//! What the API server tells of this node's pods and their namespaces, brought into the cache. The load on it, and what is kept, grow
//! with the node's pods: pods are selected by node, namespaces one by one.

mod follow;
mod object;
mod pause;

use std::{
    collections::BTreeMap,
    future,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::runtime::watcher::Event;
use serde::Deserialize;
use tokio::task::AbortHandle;
use tracing::warn;

pub(super) use self::{
    follow::{Heard, follow, kind},
    object::Object,
};
use super::{
    cache::{Cache, Seen},
    cluster::Cluster,
    metrics::Metrics,
};
use crate::mesh::{Metadata, Namespace, Pod};

/// How long a namespace without pods is still watched.
const LINGER: Duration = Duration::from_secs(60);

/// Keeps the node's pods in the cache.
pub(super) async fn pods(cluster: &Cluster, node: &str, cache: &Cache, metrics: &Metrics) {
    let (pods, of_node) = (
        kind("", "v1", "Pod", "pods"),
        format!("spec.nodeName={node}"),
    );
    let mut listed = Vec::new();
    follow(
        cluster.client(),
        &pods,
        Some(of_node),
        metrics,
        &mut |heard| match heard {
            Heard::Trouble | Heard::Unknown => cache.doubt(),
            Heard::Event(Event::Init) => listed.clear(),
            Heard::Event(Event::InitApply(pod)) => listed.extend(seen(pod).ok()),
            Heard::Event(Event::InitDone) => cache.list(std::mem::take(&mut listed)),
            Heard::Event(Event::Apply(pod)) => match seen(pod) {
                Ok(seen) => cache.put(seen),
                Err(metadata) => cache.remove(&metadata),
            },
            Heard::Event(Event::Delete(pod)) => cache.remove(&pod.metadata()),
        },
    )
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
                let follow = namespace(
                    cluster.clone(),
                    connection,
                    name.clone(),
                    cache.clone(),
                    metrics.clone(),
                );
                Watched {
                    connection,
                    task: tokio::spawn(follow).abort_handle(),
                    needed: Instant::now(),
                }
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
    let is_free = |c: &usize| {
        watched.values().filter(|w| w.connection == *c).count() < WATCHES_PER_CONNECTION
    };
    (0..).find(is_free).unwrap_or_default()
}

async fn namespace(
    cluster: Arc<Cluster>,
    connection: usize,
    name: String,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
) {
    let Ok(client) = cluster.watching_client(connection) else {
        return future::pending().await;
    };
    let (namespaces, one) = (
        kind("", "v1", "Namespace", "namespaces"),
        format!("metadata.name={name}"),
    );
    let mut is_listed = false;
    follow(
        client,
        &namespaces,
        Some(one),
        &metrics,
        &mut |heard| match heard {
            Heard::Trouble | Heard::Unknown => cache.doubt(),
            Heard::Event(Event::Init) => is_listed = false,
            Heard::Event(Event::InitApply(namespace) | Event::Apply(namespace)) => {
                is_listed = true;
                cache.put_namespace(Namespace {
                    metadata: namespace.metadata(),
                });
            }
            Heard::Event(Event::InitDone) if is_listed => {}
            Heard::Event(Event::InitDone | Event::Delete(_)) => cache.remove_namespace(&name),
        },
    )
    .await;
}

/// What cannot be read is not kept: then the API server is asked, and says why. Half of it would be another pod.
fn seen(object: Object) -> Result<Seen, Metadata> {
    #[derive(Deserialize)]
    struct Phase {
        #[serde(default)]
        phase: String,
    }
    let read = |object: &Object| {
        Ok::<_, serde_json::Error>((object.spec()?, object.status()?, object.status::<Phase>()?))
    };
    match read(&object) {
        Ok((spec, status, Phase { phase })) => {
            let is_running = phase == "Running" && !object.is_deleted();
            Ok(Seen {
                pod: Pod {
                    metadata: object.metadata(),
                    spec,
                    status,
                }
                .reduced(),
                is_running,
            })
        }
        Err(error) => {
            let metadata = object.metadata();
            warn!(
                namespace = metadata.namespace,
                name = metadata.name,
                "a pod cannot be read: {error}"
            );
            Err(metadata)
        }
    }
}
