//! What a pod says about itself, in labels, annotations and containers.

use super::*;
use crate::words::words;

words! {
    /// A proxy that is no sidecar.
    pub enum OtherProxy("type of a proxy") {
        /// A gateway.
        Router = "router",
        /// Of ambient mode.
        Waypoint = "waypoint",
        /// Of ambient mode, on nodes.
        Ztunnel = "ztunnel",
    }
}

/// The sidecar's name.
const PROXY: &str = "istio-proxy";

impl Pod {
    /// Drops everything that no decision needs, for a cache of many pods. The decision stays the same.
    #[must_use]
    pub fn reduce(mut self) -> Self {
        let read = |key: &str| {
            key.contains("istio.io/")
                || [annotation::NETWORKS, annotation::CONFIG_HASH].contains(&key)
        };
        self.metadata.labels.retain(|key, _| read(key));
        self.metadata.annotations.retain(|key, _| read(key));
        if let Some(status) = self.metadata.annotations.get_mut(annotation::STATUS) {
            *status = String::new(); // only its presence counts
        }
        let of_pod = &mut self.spec;
        for container in of_pod
            .init_containers
            .iter_mut()
            .chain(&mut of_pod.containers)
        {
            if container.name == PROXY {
                container.args.truncate(2);
                container
                    .env
                    .retain(|e| env::ALL.contains(&e.name.as_str()));
            } else {
                container.args = Vec::new();
                container.env = Vec::new();
            }
            let added = &mut container.security_context.capabilities.add;
            added.retain(|capability| capability::ALL.contains(&capability.as_str()));
            added.shrink_to_fit();
            container.env.shrink_to_fit();
        }
        let status = &mut self.status;
        // one is enough: whether the pod has run, and since when it runs
        let ran = status
            .init_container_statuses
            .drain(..)
            .chain(status.container_statuses.drain(..));
        let last = ran
            .filter(|c| c.has_run())
            .max_by_key(|c| c.started().unwrap_or(Timestamp::MAX));
        status.container_statuses = last.into_iter().collect();
        self
    }

    /// All containers that Istio reads: init containers first (a native sidecar is one), no ephemeral ones.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.spec
            .init_containers
            .iter()
            .chain(&self.spec.containers)
    }

    /// The sidecar: the container named `istio-proxy`.
    pub fn proxy(&self) -> Option<&Container> {
        self.containers().find(|c| c.name == PROXY)
    }

    /// Whether it is only a gateway: the proxy is the only container that keeps running.
    pub fn is_gateway(&self) -> bool {
        match self.spec.containers.as_slice() {
            [only] => {
                only.name == PROXY
                    && matches!(
                        only.other_proxy(),
                        Some(OtherProxy::Router | OtherProxy::Waypoint)
                    )
            }
            _ => false,
        }
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key).map(String::as_str)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key).map(String::as_str)
    }

    /// The value of `sidecar.istio.io/inject`: the label's if there is one, even empty, else the annotation's.
    pub fn inject(&self) -> Option<&str> {
        self.label(label::INJECT)
            .or_else(|| self.annotation(annotation::INJECT))
    }

    /// The control plane revision that injected the pod: the annotation that the injector wrote, else the pod's label, else `default`.
    pub fn revision(&self) -> &str {
        self.annotation(annotation::REVISION)
            .or_else(|| self.label(label::REVISION))
            .unwrap_or("default")
    }

    /// Whether the pod itself asks for a sidecar: by label, else annotation, or by naming a revision.
    pub fn asks_for_sidecar(&self) -> bool {
        self.inject() == Some("true") || self.label(label::REVISION).is_some()
    }

    /// Whether a container of it has run: then this sandbox replaces an earlier one, after a reboot for example.
    pub fn has_run(&self) -> bool {
        self.container_statuses().any(ContainerStatus::has_run)
    }

    /// Whether a container of it was started at this time or later. A container that has run at an unknown time counts.
    pub fn has_run_since(&self, time: Timestamp) -> bool {
        let second = time.as_second(); // kubelet's precision
        let is_since = |c: &ContainerStatus| {
            c.started()
                .is_none_or(|started| started.as_second() >= second)
        };
        self.container_statuses()
            .filter(|c| c.has_run())
            .any(is_since)
    }

    fn container_statuses(&self) -> impl Iterator<Item = &ContainerStatus> {
        let status = &self.status;
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
    }

    /// Whether the runtime's UID is this pod's. The runtime knows a static pod by its manifest's hash, which its mirror pod carries. A tenant
    /// who writes it on another pod gains nothing: the runtime names that pod by its own UID.
    pub fn is_incarnation(&self, uid: &str) -> bool {
        self.metadata.uid == uid || self.annotation(annotation::CONFIG_HASH) == Some(uid)
    }
}

impl Namespace {
    /// Drops everything that no decision needs.
    #[must_use]
    pub fn reduce(self) -> Self {
        let Metadata { name, labels, .. } = self.metadata;
        Self {
            metadata: Metadata {
                name,
                labels,
                ..Metadata::default()
            },
        }
    }
}

impl ContainerStatus {
    /// A runtime that forgets containers at a reboot keeps only the last state.
    fn has_run(&self) -> bool {
        let ContainerState {
            running,
            terminated,
        } = &self.last_state;
        !self.container_id.is_empty() || running.is_some() || terminated.is_some()
    }

    /// When the container was started, now or the last time.
    fn started(&self) -> Option<Timestamp> {
        let of = |state: &ContainerState| {
            let ContainerState {
                running,
                terminated,
            } = state;
            running
                .iter()
                .chain(terminated)
                .filter_map(|started| started.started_at)
                .max()
        };
        of(&self.state).max(of(&self.last_state))
    }
}

impl Container {
    /// Whether it may program the network of its pod: it has NET_ADMIN and NET_RAW, which Istio's own init container has.
    pub fn may_redirect(&self) -> bool {
        let SecurityContext {
            privileged,
            capabilities,
            ..
        } = &self.security_context;
        let has = |wanted: &str| {
            capabilities
                .add
                .iter()
                .any(|added| added == wanted || added == capability::EVERY)
        };
        *privileged || (has(capability::NET_ADMIN) && has(capability::NET_RAW))
    }

    /// The literal value of a variable, the last one if it is given twice. `envFrom` and `$(VAR)` are not evaluated, as in Istio.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .rev()
            .find(|e| e.name == name)
            .map(|e| e.value.as_str())
    }

    /// A boolean variable as Go's `ParseBool` reads it; anything else is false, as in Istio.
    pub fn env_flag(&self, name: &str) -> bool {
        matches!(
            self.env(name),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True")
        )
    }

    /// Its type, if it is a proxy other than a sidecar, from the argument after `proxy`. A flag there is no type.
    pub fn other_proxy(&self) -> Option<OtherProxy> {
        match self.args.as_slice() {
            [proxy, kind, ..] if proxy == "proxy" => kind.parse().ok(),
            _ => None,
        }
    }

    /// The interception mode that the sidecar was built for, if it names one.
    pub fn built_for(&self) -> Option<&str> {
        self.env(env::INTERCEPTION_MODE)
            .filter(|mode| !mode.is_empty())
    }

    /// Whether the sidecar was built to have traffic redirected to it, which nothing in the pod's metadata can change.
    pub fn is_built_to_redirect(&self) -> bool {
        matches!(self.built_for(), Some("REDIRECT" | "TPROXY"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_missing_fields_are_empty() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"a","labels":null},"spec":{"containers":[{"name":"istio-proxy","env":[{"name":"X","valueFrom":{}}],"securityContext":null}],"initContainers":null}}"#,
        )
        .unwrap();
        assert_eq!(pod.proxy().unwrap().env("X"), Some(""));
        assert!(!pod.has_run() && pod.metadata.labels.is_empty());
    }

    #[test]
    fn a_static_pod_is_identified_only_by_the_hash_of_its_manifest() {
        let mut pod = Pod::default();
        pod.metadata.uid = "mirror".into();
        pod.metadata
            .annotations
            .insert("kubernetes.io/config.source".into(), "file".into());
        assert!(pod.is_incarnation("mirror") && !pod.is_incarnation("hash"));
        pod.metadata
            .annotations
            .insert(annotation::CONFIG_HASH.into(), "hash".into());
        assert!(pod.is_incarnation("hash"));
    }

    #[test]
    fn the_last_of_two_variables_of_one_name_counts() {
        let proxy: Container =
            serde_json::from_str(r#"{"env":[{"name":"INVALID_DROP","value":"true"},{"name":"INVALID_DROP","value":"yes"}]}"#).unwrap();
        assert!(!proxy.env_flag("INVALID_DROP"));
    }
}
