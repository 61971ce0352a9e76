//! Pods for the whole node.

use serde_json::{Value, json};

use super::stack::{BLOCKED, WORLD};

/// What the container istio-proxy is.
#[derive(Clone, PartialEq)]
pub enum Sidecar {
    None,
    /// Answers on the sidecar's ports, and says where connections were to go.
    StandIn,
    /// This container, but its name.
    Container(Value),
}

/// A pod as Istio's injector makes it, with an application that connects to the world and serves.
#[derive(Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub networks: String,
    pub labels: Value,
    pub annotations: Value,
    pub sidecar: Sidecar,
    pub grace: u32,
}

impl Pod {
    /// Where the application serves.
    pub const PORT: u16 = 8080;

    pub fn new(namespace: &str, name: &str, networks: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            networks: networks.into(),
            labels: json!({}),
            annotations: json!({}),
            sidecar: Sidecar::StandIn,
            grace: 0,
        }
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels[key] = json!(value);
        self
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    pub fn without_sidecar(self) -> Self {
        self.with(Sidecar::None)
    }

    pub fn with(mut self, sidecar: Sidecar) -> Self {
        self.sidecar = sidecar;
        self
    }

    /// Its application ends this number of seconds after the pod was deleted.
    pub fn ends_after(mut self, seconds: u32) -> Self {
        self.grace = seconds;
        self
    }

    pub fn manifest(&self) -> Value {
        let stand_in = |name: &str, uid: u32, args: &[&str]| {
            json!({"name": name, "image": "stack.test/app:1", "imagePullPolicy": "Never", "args": args,
                   "securityContext": {"runAsUser": uid, "runAsGroup": uid}})
        };
        let mut app = stand_in(
            "app",
            1000,
            &["serve", &Self::PORT.to_string(), "dial", WORLD, BLOCKED],
        );
        if self.grace > 0 {
            app["lifecycle"] = json!({"preStop": {"sleep": {"seconds": self.grace}}});
        }
        let mut annotations = self.annotations.clone();
        annotations["k8s.v1.cni.cncf.io/networks"] = json!(self.networks);
        let proxy = match &self.sidecar {
            Sidecar::None => None,
            Sidecar::StandIn => Some(stand_in(
                "istio-proxy",
                1337,
                &["serve", "15001", "15006", "block", BLOCKED],
            )),
            Sidecar::Container(container) => Some(container.clone()),
        };
        let mut containers = vec![app];
        containers.extend(proxy.map(|mut proxy| {
            annotations["sidecar.istio.io/status"] = json!("{}");
            proxy["name"] = json!("istio-proxy");
            proxy
        }));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels, "annotations": annotations},
            "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": self.grace + 1, "automountServiceAccountToken": false,
                     "containers": containers},
        })
    }

    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}
