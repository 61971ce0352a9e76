//! Follows this node's pods into the cache.

use std::time::Duration;

use kube::runtime::watcher::Event;
use serde::Deserialize;
use tracing::warn;

use super::{
    cache::{Cache, Moment, WatchedPod},
    cluster::Cluster,
};
use crate::{
    cluster::{Object, WatchUpdate, follow, kind},
    mesh::{Metadata, Pod},
    reason::{Explanation, Reason},
};

/// How long pods or profiles may not be followed before that is reported.
pub(super) const LOST: Duration = Duration::from_secs(60);

/// Why the agent is not ready: these have not been followed for that long.
pub(super) fn out_of_reach(what: &str) -> Explanation {
    Reason::ApiUnreachable
        .because(format!(
            "{what} could not be followed for over a minute: the last that were known count"
        ))
        .remedy("check the API server and the rights of the agent's service account")
}

/// Keeps the node's pods in the cache that have a network of their own and have not finished. `arrived` is called for each new pod that can be
/// one of the mesh.
pub(super) async fn pods(
    cluster: &Cluster,
    node: &str,
    cache: &Cache,
    arrived: &(dyn Fn(String, Moment) + Send + Sync),
) {
    let pods = kind("", "v1", "Pod", "pods");
    let of_node = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    // older API servers do not support the first selector
    let selectors = [format!("{of_node},spec.hostNetwork=false"), of_node];
    let mut listed = Vec::new();
    follow(
        cluster.client(),
        &pods,
        &selectors,
        &mut |heard| match heard {
            WatchUpdate::Failed | WatchUpdate::NotServed => cache.mark_broken(),
            WatchUpdate::Watching => cache.mark_resumed(),
            WatchUpdate::Event(Event::Init) => listed.clear(),
            WatchUpdate::Event(Event::InitApply(pod)) => listed.extend(read_pod(pod).ok()),
            WatchUpdate::Event(Event::InitDone) => cache.list(std::mem::take(&mut listed)),
            WatchUpdate::Event(Event::Apply(pod)) => match read_pod(pod) {
                Ok(seen) => {
                    let namespace = seen.pod.metadata.namespace.clone();
                    if let Some(moment) = cache.put(seen) {
                        arrived(namespace, moment);
                    }
                }
                Err(metadata) => cache.remove(&metadata),
            },
            WatchUpdate::Event(Event::Delete(pod)) => cache.remove(&pod.metadata()),
        },
    )
    .await;
}

/// A pod that cannot be read is not kept: then the API server is asked, and the error says why. A partial pod would be decided wrongly.
fn read_pod(object: Object) -> Result<WatchedPod, Metadata> {
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
            Ok(WatchedPod {
                pod: Pod {
                    metadata: object.metadata(),
                    spec,
                    status,
                }
                .reduce(),
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
