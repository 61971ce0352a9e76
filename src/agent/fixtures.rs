//! An agent for unit tests: no root, no node, and an API server that a function plays.

use std::sync::Arc;

use clap::Parser;
use serde_json::{Value, json};

use super::{
    args::Args,
    cache::{Cache, WatchedPod},
    cluster::Cluster,
    health::Health,
    install::Installer,
    metrics::Metrics,
    namespaces::Namespaces,
    outcomes::Outcomes,
    profiles::Profiles,
    shared::Agent,
};
use crate::{
    cni::PodRef,
    mesh::{Namespace, Pod, annotation},
    node::{OfCluster, ProfileKind},
    telemetry::{Events, WantedEvents},
};

/// The node that the agent runs on.
pub(super) const NODE: &str = "n1";

/// An agent whose API server answers a path with a status and an object. Nothing sends its Events.
pub(super) fn agent(
    api: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static,
    profiles: Option<OfCluster>,
) -> Arc<Agent> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let line = ["agent", "--node", NODE, "--api-server", "127.0.0.1"];
    let args = Line::parse_from(line).args;
    let (events, _queue) = Events::new(WantedEvents::All);
    let cluster = Arc::new(Cluster::played_by(api));
    let (cache, profiles) = (Arc::new(Cache::new()), Arc::new(Profiles::of(profiles)));
    let agent = Agent {
        node: NODE.into(),
        namespaces: Arc::new(Namespaces::new(cluster.clone(), cache.clone())),
        health: Health::new(cache.clone(), profiles.clone()),
        cache,
        cluster,
        profiles,
        metrics: Arc::new(Metrics::new()),
        events,
        installer: Installer::new(args.install),
        outcomes: Outcomes::default(),
    };
    Arc::new(agent)
}

/// Profiles of a cluster, by name and spec.
pub(super) fn profiles(all: &[(&str, Value)]) -> Option<OfCluster> {
    let text = |(name, spec): &(&str, Value)| {
        let (api_version, kind) = ("meshoptin.dev/v1alpha1", "MeshProfile");
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        ((*name).to_owned(), object.to_string())
    };
    Some(OfCluster {
        texts: all.iter().map(text).collect(),
        kind: ProfileKind::Served,
    })
}

/// A running pod `team/NAME` of this node with this UID, as the API server has it; an injected one has a sidecar.
pub(super) fn pod(name: &str, uid: &str, is_injected: bool) -> Value {
    let mut containers = vec![json!({"name": "app"})];
    let mut annotations = json!({annotation::NETWORKS: "mesh"});
    if is_injected {
        let env = json!([{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "REDIRECT"}]);
        let user = json!({"runAsUser": 1337, "runAsGroup": 1337});
        containers.push(json!({"name": "istio-proxy", "args": ["proxy", "sidecar"], "env": env, "securityContext": user}));
        annotations[annotation::STATUS] = "{}".into();
    }
    json!({
        "metadata": {"namespace": "team", "name": name, "uid": uid, "annotations": annotations},
        "spec": {"nodeName": NODE, "containers": containers},
        "status": {"phase": "Running"},
    })
}

/// Namespace `team`, enrolled.
pub(super) fn namespace() -> Value {
    json!({"metadata": {"name": "team", "labels": {"istio-injection": "enabled"}}})
}

/// Puts a pod and its namespace into the cache, as the watch would.
pub(super) fn put(cache: &Cache, pod: Value) {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let is_running = true;
    cache.list(vec![WatchedPod { pod, is_running }]);
    let namespace: Namespace = serde_json::from_value(namespace()).unwrap();
    let keep = std::time::Duration::from_secs(3600);
    cache.put_namespace("team", Some(namespace), cache.sending(), false, keep);
}

/// Pod `team/NAME`, as a plugin asks for it.
pub(super) fn asked(name: &str, uid: Option<&str>) -> PodRef {
    PodRef {
        namespace: "team".into(),
        name: name.into(),
        uid: uid.map(Into::into),
    }
}
