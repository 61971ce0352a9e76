//! A real kube-apiserver of its own, in namespaces that end with the test program.

use std::{
    path::PathBuf,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use mesh_optin::kernel::Netns;
use nix::{
    mount::MsFlags,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    lab::{OWN_DIRECTORY, inside, mount_, new_namespaces},
    pods::data,
    run,
};

/// Where the API server listens, in the cluster's network namespace.
pub const SERVER: &str = "https://127.0.0.1:6443";

pub struct Cluster {
    pub netns: Netns,
    /// Its files, seen from outside of its mount namespace.
    pub directory: PathBuf,
}

impl Cluster {
    /// Brings it up; fails the test if it does not come up.
    pub fn start() -> Self {
        Self::start_as("control-plane", &[], "ready")
    }

    /// One of the scripts in tests/stack, which writes a file when it is up.
    pub fn start_as(script: &'static str, args: &[String], up: &str) -> Self {
        let (send, receive) = mpsc::channel();
        let args = args.to_vec();
        // The thread stays: with it, or with the test program, the control plane's init is killed and all of it ends.
        let control_plane = std::thread::spawn(move || {
            new_namespaces();
            mount_("tmpfs", OWN_DIRECTORY, "tmpfs", MsFlags::empty());
            send.send(format!("/proc/{}/task/{}", std::process::id(), nix::unistd::gettid())).unwrap();
            #[allow(clippy::disallowed_methods, reason = "the control plane is programs")]
            let mut init = Command::new("setpriv");
            init.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]);
            init.arg(format!("{}/tests/stack/{script}", env!("CARGO_MANIFEST_DIR"))).arg(OWN_DIRECTORY).args(args);
            init.status()
        });
        let thread: String = receive.recv().unwrap();
        let netns = Netns::open(format!("{thread}/ns/net").as_ref()).unwrap();
        let cluster = Self { netns, directory: format!("{thread}/root{OWN_DIRECTORY}").into() };
        let started = Instant::now();
        while !cluster.directory.join(up).exists() {
            assert!(!control_plane.is_finished(), "the control plane ended: {:?}", control_plane.join());
            assert!(started.elapsed() < Duration::from_secs(900), "the control plane does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    /// Its network, for a thread that outlasts a borrow.
    pub fn another_handle(&self) -> Netns {
        let thread = self.directory.parent().and_then(|root| root.parent()).expect("below the thread");
        Netns::open(&thread.join("ns/net")).unwrap()
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// Sends the API server a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.apiserver(), signal).unwrap();
    }

    /// A merge patch.
    pub fn patch(&self, path: &str, body: &Value) {
        self.request_of("application/merge-patch+json", "PATCH", path, body).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// A request as admin; the error is the API server's.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        self.request_of("application/json", method, path, body)
    }

    fn request_of(&self, content: &str, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let content = format!("Content-Type: {content}");
        let (ca, url) = (self.directory.join("ca.crt"), format!("{SERVER}{path}"));
        let mut args = vec!["-sS", "--cacert", ca.to_str().unwrap(), "-X", method];
        args.extend(["-H", "Authorization: Bearer admin", "-H", &content]);
        if !body.is_null() {
            args.extend(["-d", "@-"]);
        }
        args.push(&url);
        let answer: Value = serde_json::from_str(&inside(&self.netns, || run("curl", &args, &body.to_string()))).unwrap();
        if answer["status"] == "Failure" { Err(answer) } else { Ok(answer) }
    }

    /// How many requests of this user the API server has answered: verb and path of each, watches when they end.
    pub fn requests_of(&self, user: &str) -> Vec<String> {
        let of_user = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["user"]["username"] == user)
                .then(|| format!("{} {}", event["verb"].as_str().unwrap(), event["requestURI"].as_str().unwrap()))
        };
        self.file("audit.log").lines().filter_map(of_user).collect()
    }

    /// Creates an object.
    pub fn create(&self, path: &str, body: &Value) -> Value {
        self.request("POST", path, body).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A namespace with what the controller manager would put into it.
    pub fn namespace(&self, name: &str, labels: &Value) {
        self.create("/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": labels}}));
        self.service_account(name, "default");
    }

    pub fn service_account(&self, namespace: &str, name: &str) {
        self.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &json!({"metadata": {"name": name}}));
    }

    /// Service account mesh-optin/node, which may only get pods and namespaces.
    pub fn grant_gets(&self) {
        self.service_account("mesh-optin", "node");
        let (name, rbac) = (json!({"name": "mesh-optin-node"}), "/apis/rbac.authorization.k8s.io/v1");
        let rules = json!([{"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get"]}]);
        self.create(&format!("{rbac}/clusterroles"), &json!({"metadata": name, "rules": rules}));
        let subjects = json!([{"kind": "ServiceAccount", "name": "node", "namespace": "mesh-optin"}]);
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "mesh-optin-node"});
        self.create(&format!("{rbac}/clusterrolebindings"), &json!({"metadata": name, "subjects": subjects, "roleRef": role}));
    }

    /// Creates a pod of tests/data/pods under this name; the object that the API server made of it.
    pub fn create_data_pod(&self, file: &str, name: &str) -> Value {
        self.create_changed_pod(file, name, |_| {})
    }

    /// The same with changes.
    pub fn create_changed_pod(&self, file: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let (mut pod, _) = data(file);
        let metadata = pod["metadata"].as_object_mut().unwrap();
        metadata.retain(|k, _| !["uid", "resourceVersion", "creationTimestamp"].contains(&k.as_str()));
        metadata["name"] = json!(name);
        pod["status"] = json!({});
        change(&mut pod);
        self.create("/api/v1/namespaces/team-a/pods", &pod)
    }

    /// A token for a service account.
    pub fn token(&self, namespace: &str, name: &str) -> String {
        let request = json!({"spec": {"expirationSeconds": 3600}});
        let answer = self.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"), &request);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Its pid as we see it.
    fn apiserver(&self) -> Pid {
        self.process(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "kube-apiserver"))
    }

    /// The first process of ours that it is true for.
    pub fn process(&self, is: impl Fn(&str) -> bool) -> Pid {
        let thread = self.directory.parent().and_then(|root| root.parent()).expect("below the thread");
        let mut pids = vec![std::fs::read_to_string(thread.join("children")).unwrap()];
        while let Some(list) = pids.pop() {
            for pid in list.split_whitespace() {
                if is(pid) {
                    return Pid::from_raw(pid.parse().unwrap());
                }
                pids.push(std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default());
            }
        }
        panic!("there is no such process")
    }
}
