//! istiod as a process of the node, its webhooks by URL, and pods as their owners write them.

use serde_json::{Value, json};

use crate::{
    agent::Agent,
    support::{
        cluster::script,
        lab::{CONFIG, inside},
        run,
        stack::Stack,
        stack_pod::Pod,
        try_run,
    },
};

pub(super) const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?labelSelector=istio.io/rev=stable";
/// Where pods serve HTTP.
pub(super) const PORT: u16 = 8080;

/// The mesh of a node. It ends with this.
pub(super) struct Mesh<'a> {
    pub(super) s: &'a Stack,
    pub(super) agent: &'a Agent<'a>,
    manifests: String,
    /// Of namespace mtls, which lets nobody in without mTLS.
    pub(super) strict: Server,
    pub(super) permissive: Server,
}

/// A pod that serves HTTP, and the URL of its service.
pub(super) struct Server {
    pub(super) plain: Plain,
    pub(super) url: String,
}

/// A pod before Istio's injector has seen it.
#[derive(Clone)]
pub(super) struct Plain {
    pub(super) pod: Pod,
    pub(super) manifest: Value,
}

// === impl Mesh ===

impl<'a> Mesh<'a> {
    /// Brings istiod up, and two servers, whose clients are to be in namespace client.
    pub(super) fn start(s: &'a Stack, agent: &'a Agent<'a>) -> Self {
        s.import("istio-proxy.tar");
        let [strict, permissive] = ["mtls", "permissive"].map(|namespace| Server {
            plain: Plain::server(namespace, "server"),
            url: String::new(),
        });
        let mut mesh = Self {
            s,
            agent,
            manifests: format!("{}/istio.yaml", run(&script("build"), &[], "").trim()),
            strict,
            permissive,
        };
        s.cluster.namespace("istio-system", &json!({}));
        mesh.kubectl(&["apply", "--server-side", "-f", &mesh.manifests]);
        // its chart's own attachment is this one, by name
        let attachment = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "istio-cni", "namespace": "default"}, "spec": {"config": CONFIG}});
        s.cluster.apply(&attachment.to_string());
        mesh.start_istiod();
        for namespace in ["client", "mtls", "permissive"] {
            mesh.enrolled(namespace);
        }
        let mtls = json!({"mtls": {"mode": "STRICT"}});
        let kind = ("PeerAuthentication", "peerauthentications");
        mesh.configure("security", "mtls", kind, &mtls);
        mesh.strict.url = mesh.service("mtls", "server");
        mesh.permissive.url = mesh.service("permissive", "server");
        for server in [&mesh.strict, &mesh.permissive] {
            mesh.create(&server.plain);
        }
        for server in [&mesh.strict, &mesh.permissive] {
            mesh.serves(&server.plain);
        }
        mesh
    }

    pub(super) fn enrolled(&self, namespace: &str) {
        let labels = json!({"istio-injection": "enabled"});
        self.s.cluster.namespace(namespace, &labels);
    }

    /// A pod of namespace client that asks these URLs again and again.
    pub(super) fn client(&self, name: &str, urls: &[&str]) -> Plain {
        Plain::new("client", name, &[&["get"], urls].concat())
    }

    pub(super) fn start_istiod(&self) {
        // upstream's Envoy lacks two extensions of Istio's
        let start = "cd /mnt && exec setsid env POD_NAME=istiod POD_NAMESPACE=istio-system REVISION=stable ISTIOD_CUSTOM_HOST=192.0.2.10 \
            PILOT_ENABLE_METADATA_EXCHANGE=false PILOT_ENABLE_ALPN_FILTER=false \
            pilot-discovery discovery --kubeconfig kubeconfig >log/istiod 2>&1 </dev/null &";
        self.s.cluster.enter(&["sh", "-c", start]);
        let answers = || {
            self.outside("http://127.0.0.1:8080/ready").ok()?;
            let patched = |webhook: &Value| webhook["clientConfig"]["caBundle"].is_string();
            let list = self.s.cluster.request("GET", WEBHOOKS, &Value::Null).ok()?;
            let of_all = list["items"].as_array()?.iter();
            let mut webhooks = of_all.flat_map(|c| c["webhooks"].as_array().unwrap());
            webhooks.all(patched).then_some(())
        };
        let log = || std::fs::read_to_string(self.s.path("/mnt/log/istiod"));
        assert!(self.s.wait_for(answers).is_some(), "{:?}", log());
    }

    /// Ends istiod and, with it, its webhooks.
    pub(super) fn stop_istiod(&self) {
        let stop =
            "pkill -TERM -x pilot-discovery; while pgrep -x pilot-discovery; do sleep .1; done";
        self.s.cluster.enter(&["sh", "-c", stop]);
    }

    pub(super) fn kubectl(&self, args: &[&str]) -> String {
        self.s.cluster.enter(&[&["kubectl"], args].concat())
    }

    /// Creates an object of Istio's.
    pub(super) fn configure(&self, group: &str, namespace: &str, kind: (&str, &str), spec: &Value) {
        let (kind, plural) = kind;
        let path = format!("/apis/{group}.istio.io/v1/namespaces/{namespace}/{plural}");
        let body = json!({"apiVersion": format!("{group}.istio.io/v1"), "kind": kind, "metadata": {"name": "test"}, "spec": spec});
        self.s.cluster.create(&path, &body);
    }

    /// A service of the pods that have its name as their label; the URL at its cluster IP.
    pub(super) fn service(&self, namespace: &str, name: &str) -> String {
        let spec = json!({"selector": {"app": name}, "ports": [{"name": "http", "port": PORT}]});
        let path = format!("/api/v1/namespaces/{namespace}/services");
        let body = json!({"metadata": {"name": name}, "spec": spec});
        let created = self.s.cluster.create(&path, &body);
        let ip = created["spec"]["clusterIP"].as_str().unwrap();
        format!("http://{ip}:{PORT}/")
    }

    pub(super) fn create(&self, plain: &Plain) {
        let path = format!("/api/v1/namespaces/{}/pods", plain.pod.namespace);
        self.s.cluster.create(&path, &plain.manifest);
    }

    /// Deletes pods, and waits until they are gone.
    pub(super) fn delete(&self, pods: &[Plain]) {
        let pods: Vec<_> = pods.iter().map(|plain| plain.pod.clone()).collect();
        self.s.delete_all(&pods);
    }

    /// The agent is not uninstalled while pods need it.
    pub(super) fn delete_servers(&self) {
        self.delete(&[&self.strict, &self.permissive].map(|server| server.plain.clone()));
    }

    /// Waits until kubelet says so of the pod; what it looks like then.
    pub(super) fn ready(&self, plain: &Plain) -> Value {
        let pod = &plain.pod;
        let is_ready = || {
            let found = self.s.get(pod)?;
            let mut conditions = found["status"]["conditions"].as_array()?.iter();
            let ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
            ready.then_some(found)
        };
        self.s.wait_for(is_ready).unwrap_or_else(|| {
            let logs = ["app", "istio-proxy", "istio-validation"].map(|c| self.s.log(pod, c));
            panic!(
                "{}/{} is not ready: {:#?}\n{}",
                pod.namespace,
                pod.name,
                self.s.events(pod),
                logs.join("\n")
            )
        })
    }

    /// Waits until it is ready and its sidecar knows the port: a connection before that lands in a chain without headers, and stays there.
    pub(super) fn serves(&self, plain: &Plain) {
        self.ready(plain);
        let netns = mesh_optin::kernel::Netns::open(&self.s.path(&self.s.netns(&plain.pod)));
        let netns = netns.unwrap();
        let knows = || {
            let clusters = inside(&netns, || curl(&["http://127.0.0.1:15000/clusters"]));
            clusters
                .is_ok_and(|text| text.contains(&format!("inbound|{PORT}||::")))
                .then_some(())
        };
        assert!(self.s.wait_for(knows).is_some(), "{}", plain.pod.name);
    }

    /// Waits until the application has logged a line with all of this; the line.
    pub(super) fn says(&self, plain: &Plain, words: &[&str]) -> String {
        let line = || {
            let log = self.s.log(&plain.pod, "app");
            let mut lines = log.lines();
            let found = lines.find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned)
        };
        self.s.wait_for(line).unwrap_or_else(|| {
            let of_both = ["app", "istio-proxy"].map(|c| self.s.log(&plain.pod, c));
            panic!(
                "{} never says {words:?}: {}",
                plain.pod.name,
                of_both.join("\n")
            )
        })
    }

    /// What answers a request from the node itself, which is not in the mesh.
    pub(super) fn outside(&self, url: &str) -> Result<String, String> {
        inside(&self.s.cluster.netns, || curl(&[url]))
    }
}

impl Drop for Mesh<'_> {
    fn drop(&mut self) {
        let cluster = &self.s.cluster;
        let ends = "pkill -KILL -x pilot-discovery; kubectl delete namespace istio-system --wait=false; \
            exec kubectl delete --ignore-not-found --wait=false -f";
        let ended = cluster.try_enter(&["sh", "-c", &format!("{ends} {}", self.manifests)]);
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

fn curl(args: &[&str]) -> Result<String, String> {
    try_run("curl", &[&["-sSf", "-m", "5"], args].concat(), "")
}

// === impl Server ===

impl Server {
    /// Past the service.
    pub(super) fn url_of_pod(&self, mesh: &Mesh<'_>) -> String {
        format!("http://{}:{PORT}/", mesh.s.ip(&self.plain.pod))
    }
}

// === impl Plain ===

impl Plain {
    /// A pod whose application has these arguments.
    pub(super) fn new(namespace: &str, name: &str, args: &[&str]) -> Self {
        Self {
            pod: Pod::new(namespace, name, ""),
            manifest: json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}, "annotations": {}},
                "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
                         "containers": [container("app", args)]},
            }),
        }
    }

    /// One that serves HTTP.
    pub(super) fn server(namespace: &str, name: &str) -> Self {
        Self::new(namespace, name, &["http", &PORT.to_string()])
    }

    pub(super) fn label(mut self, key: &str, value: &str) -> Self {
        self.manifest["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(super) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.manifest["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub(super) fn spec(mut self, key: &str, value: Value) -> Self {
        self.manifest["spec"][key] = value;
        self
    }
}

/// A container of the application's image.
pub(super) fn container(name: &str, args: &[&str]) -> Value {
    json!({"name": name, "image": "stack.test/app:1", "imagePullPolicy": "Never", "args": args, "securityContext": {"runAsUser": 1000}})
}
