//! The controller in the network of a control plane, with the rights that deploy/ gives it.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, SERVER},
    cpu_of,
    held::{Held, metric_in},
};

/// Its user, as the audit log has it.
pub const USER: &str = "system:serviceaccount:mesh-optin:controller";
pub const PROFILES: &str = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
pub const NODES: &str = "/apis/meshoptin.dev/v1alpha1/meshnodes";
pub const ALL_ATTACHMENTS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";

/// The program, which is built with its own feature alone: tests/run does that.
pub fn program() -> PathBuf {
    let path =
        PathBuf::from(env!("CARGO_BIN_EXE_mesh-optin")).with_file_name("mesh-optin-controller");
    assert!(
        path.exists(),
        "{} is needed: cargo build --locked --features controller --bin mesh-optin-controller",
        path.display()
    );
    path
}

/// A replica that runs; it ends with this.
pub struct Controller<'a> {
    cluster: &'a Cluster,
    pub pid: Pid,
    /// The id of its token, by which the audit log tells replicas apart.
    credential: String,
    port: u16,
    process: Held,
}

impl<'a> Controller<'a> {
    /// Starts a replica of this name, which serves its metrics at this port.
    #[allow(clippy::disallowed_methods, reason = "a controller is a process")]
    pub fn start(cluster: &'a Cluster, name: &str, port: u16, args: &[&str]) -> Self {
        let token = cluster.token("mesh-optin", "controller");
        let kubeconfig = cluster.kubeconfig(name, &json!({"token": token}));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program())
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--identity", name, "--listen", &format!("127.0.0.1:{port}")])
            .args(args);
        let process = Held::start(cluster, command);
        Self {
            cluster,
            credential: id_of(&token),
            pid: process.pid,
            port,
            process,
        }
    }

    /// What one of its paths answers; empty where nothing does.
    pub fn get(&self, path: &str) -> String {
        self.cluster.answer_at(&self.port.to_string(), path)
    }

    /// The value of a metric, if there is one.
    pub fn metric(&self, name: &str) -> Option<f64> {
        metric_in(&self.get("/metrics"), name)
    }

    pub fn leads(&self) -> bool {
        self.metric("mesh_optin_controller_leader") == Some(1.0)
    }

    /// The writes of this replica by now, but for the Lease.
    pub fn writes(&self) -> Vec<String> {
        let ids = "authentication.kubernetes.io/credential-id";
        let requests = self.cluster.requests_with(&self.credential, |event| {
            event["user"]["extra"][ids][0] == self.credential
        });
        requests
            .into_iter()
            .filter(|request| is_write(request))
            .collect()
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid)
    }

    /// Resident memory now and at most, in MB.
    pub fn memory(&self) -> [f64; 2] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        ["VmRSS:", "VmHWM:"].map(|field| {
            let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap();
            let kilobytes = line.split_whitespace().next().unwrap();
            kilobytes.parse::<f64>().unwrap() / 1024.0
        })
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it by this signal; its log.
    pub fn end(self, signal: Signal) -> String {
        self.process.end(signal)
    }
}

/// The id of a token: its claim jti.
fn id_of(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    format!("JTI={}", claims["jti"].as_str().unwrap())
}

fn is_write(request: &str) -> bool {
    let is_read = ["get ", "list ", "watch "]
        .iter()
        .any(|verb| request.starts_with(verb));
    !is_read && !request.contains("/leases")
}

impl Cluster {
    /// A kubeconfig of this name for this user.
    pub fn kubeconfig(&self, name: &str, user: &Value) -> PathBuf {
        let path = self.directory.join(format!("{name}.kubeconfig"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": SERVER, "certificate-authority": self.directory.join("ca.crt")}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [
                {"name": "x", "context": {"cluster": "c", "user": "u"}},
                {"name": "in-team-a", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}},
            ],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Waits until a MeshProfile is Ready, as an admin does.
    pub fn wait_for_profile(&self, name: &str) {
        let profile = format!("meshprofile/{name}");
        let wait = ["kubectl", "wait", "--for=condition=Ready", "--timeout=60s"];
        self.enter(&[&wait[..], &[&profile]].concat());
    }

    /// The control plane with our CRDs, Multus's, and the controller's account.
    pub fn start_with_crds() -> Self {
        let cluster = Self::start();
        cluster.apply_rbac();
        let file = |path: &str| {
            std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        };
        cluster.apply(&file("deploy/controller/rbac.yaml"));
        cluster.apply_attachments_crd();
        cluster.apply_crds();
        cluster
    }

    /// Multus's CRD; it is served when this returns.
    pub fn apply_attachments_crd(&self) {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/crds/k8s.cni.cncf.io_network-attachment-definitions.yaml"
        );
        self.apply(&std::fs::read_to_string(path).unwrap());
        self.wait_until_served("network-attachment-definitions.k8s.cni.cncf.io", "v1");
    }

    /// Creates a MeshProfile.
    pub fn profile(&self, name: &str, spec: &Value) {
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": name}, "spec": spec});
        self.create(PROFILES, &object);
    }

    /// A condition of a MeshProfile: its status, reason and message.
    pub fn condition(&self, profile: &str, kind: &str) -> (String, String, String) {
        let object = self
            .request("GET", &format!("{PROFILES}/{profile}"), &Value::Null)
            .unwrap();
        let conditions = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let condition = conditions
            .into_iter()
            .find(|c| c["type"] == kind)
            .unwrap_or_default();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// An attachment, if it is there.
    pub fn attachment(&self, namespace: &str, name: &str) -> Option<Value> {
        self.request("GET", &attachment_path(namespace, name), &Value::Null)
            .ok()
    }

    /// Namespace, name and resourceVersion of all attachments.
    pub fn attachments(&self) -> Vec<[String; 3]> {
        let list = self.request("GET", ALL_ATTACHMENTS, &Value::Null).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        let of = |metadata: &Value| {
            ["namespace", "name", "resourceVersion"]
                .map(|field| metadata[field].as_str().unwrap().to_owned())
        };
        items.map(|item| of(&item["metadata"])).collect()
    }

    /// Waits until nothing more is written: Events are sent after the status that they report.
    pub fn wait_for_last_write(&self) {
        until("nothing more is written", || {
            let before = self.writes().len();
            std::thread::sleep(Duration::from_secs(2));
            self.writes().len() == before
        });
    }

    /// The controller's writes by now, but for its Lease.
    pub fn writes(&self) -> Vec<String> {
        self.requests_of(USER)
            .into_iter()
            .filter(|request| is_write(request))
            .collect()
    }
}

pub fn attachment_path(namespace: &str, name: &str) -> String {
    format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions/{name}")
}

/// Waits until something is so; fails the test with what is said if it takes too long.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    within(Duration::from_secs(60), what, is_so);
}

pub fn within(longest: Duration, what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(
            started.elapsed() < longest,
            "not within {longest:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
