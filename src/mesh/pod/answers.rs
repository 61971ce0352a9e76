//! What a pod says of itself, in labels, annotations and containers.

use super::*;

/// The sidecar's name.
const PROXY: &str = "istio-proxy";

impl Pod {
    /// Drops all that does not decide, for who keeps many. What is decided on it stays the same.
    #[must_use]
    pub fn reduced(mut self) -> Self {
        let read = |key: &str| {
            key.contains("istio.io/")
                || [annotation::NETWORKS, annotation::CONFIG_HASH].contains(&key)
        };
        self.metadata.labels.retain(|key, _| read(key));
        self.metadata.annotations.retain(|key, _| read(key));
        if let Some(status) = self.metadata.annotations.get_mut(annotation::STATUS) {
            *status = String::new(); // that it is there says all
        }
        for container in self
            .spec
            .init_containers
            .iter_mut()
            .chain(&mut self.spec.containers)
        {
            if container.name == PROXY {
                container.args.truncate(2);
                container
                    .env
                    .retain(|e| env::ALL.contains(&e.name.as_str()));
            } else {
                *container = Container {
                    name: std::mem::take(&mut container.name),
                    ..Container::default()
                };
            }
            container.env.shrink_to_fit();
        }
        let has_run = self.has_run();
        self.status.init_container_statuses.clear();
        self.status
            .container_statuses
            .retain(|c| has_run && !c.container_id.is_empty());
        self.status.container_statuses.truncate(1);
        if has_run && self.status.container_statuses.is_empty() {
            self.status.container_statuses.push(ContainerStatus {
                container_id: "an init container's".into(),
            });
        }
        self
    }

    /// All containers that Istio looks at: init containers first (a native sidecar is one), no ephemeral ones.
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

    /// Whether the pod's own labels ask for a sidecar.
    pub fn asks_for_sidecar(&self) -> bool {
        self.label(label::INJECT) == Some("true") || self.label(label::REVISION).is_some()
    }

    /// Whether a container of it has run: then this sandbox replaces an earlier one, after a reboot for example.
    pub fn has_run(&self) -> bool {
        let status = &self.status;
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .any(|c| !c.container_id.is_empty())
    }

    /// Whether the runtime's UID names this incarnation. A static pod is known to the runtime by its manifest's hash, which its
    /// mirror pod carries; A tenant who writes
    /// it on another pod gains nothing: the runtime names that pod by its own UID.
    pub fn is_incarnation(&self, uid: &str) -> bool {
        self.metadata.uid == uid || self.annotation(annotation::CONFIG_HASH) == Some(uid)
    }
}

impl Container {
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

    /// The proxy's type, `sidecar` or `router`: the argument after `proxy`.
    pub fn proxy_type(&self) -> Option<&str> {
        match self.args.as_slice() {
            [proxy, kind, ..] if proxy == "proxy" && !kind.is_empty() => Some(kind),
            _ => None,
        }
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
    fn a_static_pod_is_known_by_its_manifest_s_hash_only() {
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
    fn the_last_of_two_variables_counts() {
        let proxy: Container =
            serde_json::from_str(r#"{"env":[{"name":"INVALID_DROP","value":"true"},{"name":"INVALID_DROP","value":"yes"}]}"#).unwrap();
        assert!(!proxy.env_flag("INVALID_DROP"));
    }
}
