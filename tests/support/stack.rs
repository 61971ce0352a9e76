//! A whole node: the control plane, kubelet, containerd and Multus, thin or thick, in namespaces that end with the test program.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::cluster::Cluster;

/// Where pods connect to: the node itself, outside of the mesh.
pub const WORLD: &str = "203.0.113.7:80";
const CGROUPS: &str = "/sys/fs/cgroup";

pub struct Stack {
    pub cluster: Cluster,
    /// The node's root, as its processes see it.
    root: PathBuf,
    init: nix::unistd::Pid,
    cgroup: String,
}

impl Stack {
    /// Brings it up with the program and its credential installed.
    pub fn start(multus: &str) -> Self {
        remove_cgroups_of_the_dead();
        let cgroup = format!("mesh-optin-stack-{}-{multus}", std::process::id());
        make_cgroup(&cgroup);
        let cluster = Cluster::start_as("node", &[multus.to_owned(), cgroup.clone()], "node-ready");
        let is_init = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|l| l.starts_with("NSpid:") && l.split_whitespace().count() == 3 && l.ends_with("\t1"))
        };
        let init = cluster.process(is_init);
        let stack = Self { root: format!("/proc/{init}/root").into(), init, cgroup, cluster };
        stack.cluster.namespace("mesh-optin", &json!({}));
        stack.cluster.grant_gets();
        for name in ["mesh-optin", "istio-cni", "v2-6-istio-cni"] {
            stack.install(name);
        }
        stack.write("/etc/mesh-optin/node.yaml", "{sources: [api], deadline: 5s}");
        stack.install_credential();
        stack
    }

    /// Puts the program there under a name, by rename.
    pub fn install(&self, name: &str) {
        let bin = self.cluster.directory.join("cni/bin");
        std::fs::copy(env!("CARGO_BIN_EXE_mesh-optin"), bin.join(".new")).unwrap();
        std::fs::rename(bin.join(".new"), bin.join(name)).unwrap();
    }

    pub fn install_credential(&self) {
        let token = self.cluster.token("mesh-optin", "node");
        for (name, text) in [("server", "https://127.0.0.1:6443".to_owned()), ("ca.crt", self.cluster.file("ca.crt")), ("token", token)] {
            self.write(&format!("/var/lib/mesh-optin/api/{name}"), &text);
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(self.path("/var/lib/mesh-optin/api"), private).unwrap();
    }

    /// A path of the node.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Every file of ours on the node, but the records of pods that go meanwhile, and what it says.
    pub fn own_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn add(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for path in std::fs::read_dir(path).into_iter().flatten().map(|e| e.unwrap().path()) {
                if path.is_dir() { add(&path, files) } else { drop(files.insert(path.clone(), std::fs::read(&path).unwrap_or_default())) }
            }
        }
        let mut files = BTreeMap::new();
        for directory in ["/etc/mesh-optin", "/var/lib/mesh-optin", "/run/mesh-optin", "/etc/cni"] {
            add(&self.path(directory), &mut files);
        }
        add(&self.cluster.directory.join("cni/bin"), &mut files);
        files.retain(|path, _| !path.parent().is_some_and(|p| p.ends_with("attachments")));
        files
    }

    /// A NetworkAttachmentDefinition; without a configuration it is looked up on the node by its name.
    pub fn attachment(&self, namespace: &str, name: &str, config: Option<&str>) {
        let spec = config.map_or(json!({}), |c| json!({"config": c}));
        let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions");
        let body =
            json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": spec});
        self.cluster.create(&path, &body);
    }

    /// Creates a pod bound to the node.
    pub fn create(&self, pod: &Pod) {
        self.cluster.create(&format!("/api/v1/namespaces/{}/pods", pod.namespace), &pod.manifest());
    }

    /// Waits until it runs.
    pub fn running(&self, pod: &Pod) {
        let path = pod.path();
        let status = self.wait_for(|| {
            let found = self.cluster.request("GET", &path, &json!(null)).ok()?;
            let all = found["status"]["containerStatuses"].as_array()?.iter().all(|c| c["state"]["running"].is_object());
            (found["status"]["phase"] == "Running" && all).then_some(())
        });
        assert!(status.is_some(), "{}/{} does not run: {:?}", pod.namespace, pod.name, self.events(pod));
    }

    /// Waits until an event says why it does not start.
    pub fn refused(&self, pod: &Pod) -> String {
        let refusal = || self.events(pod).into_iter().find(|(reason, _)| reason == "FailedCreatePodSandBox").map(|(_, message)| message);
        self.wait_for(refusal).unwrap_or_else(|| panic!("{}/{} is not refused", pod.namespace, pod.name))
    }

    /// Reasons and messages of its events.
    pub fn events(&self, pod: &Pod) -> Vec<(String, String)> {
        let list = self.cluster.request("GET", &format!("/api/v1/namespaces/{}/events", pod.namespace), &json!(null)).unwrap();
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let of_pod = |event: &&Value| event["involvedObject"]["name"] == pod.name.as_str();
        list["items"].as_array().unwrap().iter().filter(of_pod).map(|e| (text(e, "reason"), text(e, "message"))).collect()
    }

    /// What the application's connection to the world was answered by: the port and the original destination.
    pub fn answered(&self, pod: &Pod) -> String {
        let found = self.cluster.request("GET", &pod.path(), &json!(null)).unwrap();
        let uid = found["metadata"]["uid"].as_str().unwrap();
        let log = self.cluster.directory.join(format!("pods/{}_{}_{uid}/app/0.log", pod.namespace, pod.name));
        let last = || {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.lines().rfind(|l| !l.contains(" error "))?;
            let words: Vec<_> = line.split(' ').skip(4).take(2).map(str::to_owned).collect();
            Some(words.join(" "))
        };
        self.wait_for(last).unwrap_or_else(|| panic!("no answer: {:?}", std::fs::read_to_string(&log)))
    }

    /// Deletes it and waits until it is gone; how long that took.
    pub fn delete(&self, pod: &Pod) -> Duration {
        let started = Instant::now();
        self.cluster.request("DELETE", &pod.path(), &json!({"gracePeriodSeconds": 1})).unwrap();
        let gone = self.wait_for(|| self.cluster.request("GET", &pod.path(), &json!(null)).is_err().then_some(()));
        assert!(gone.is_some(), "{} is not gone", pod.name);
        started.elapsed()
    }

    fn wait_for<T>(&self, what: impl Fn() -> Option<T>) -> Option<T> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let Some(found) = what() {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        nix::sys::signal::kill(self.init, nix::sys::signal::Signal::SIGKILL).ok();
        for _ in 0..100 {
            if !PathBuf::from(format!("/proc/{}", self.init)).exists() && remove_cgroup(&self.cgroup) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let cgroup2 = PathBuf::from(CGROUPS).join("cgroup.controllers").exists();
    let all = std::fs::read_dir(CGROUPS).unwrap().filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir() && !p.is_symlink());
    if cgroup2 { vec![CGROUPS.into()] } else { all.collect() }
}

fn make_cgroup(name: &str) {
    for hierarchy in hierarchies() {
        let cgroup = hierarchy.join(name);
        if std::fs::create_dir(&cgroup).is_ok() {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                std::fs::read(hierarchy.join(file)).and_then(|text| std::fs::write(cgroup.join(file), text)).ok();
            }
        }
    }
}

/// Whether nothing is left of it.
fn remove_cgroup(name: &str) -> bool {
    fn remove(path: &Path) {
        for child in std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()) {
            remove(&child);
        }
        std::fs::remove_dir(path).ok();
    }
    hierarchies().iter().map(|h| h.join(name)).filter(|c| c.exists()).all(|c| {
        remove(&c);
        !c.exists()
    })
}

/// What test programs that were killed have left.
fn remove_cgroups_of_the_dead() {
    for name in hierarchies()
        .iter()
        .flat_map(|h| std::fs::read_dir(h).into_iter().flatten().flatten())
        .filter_map(|e| e.file_name().into_string().ok())
    {
        let pid = name.strip_prefix("mesh-optin-stack-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            remove_cgroup(&name);
        }
    }
}

/// A pod as Istio's injector makes it, with an application that connects to the world and a stand-in for the sidecar.
#[derive(Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub networks: String,
    pub labels: Value,
    pub annotations: Vec<(String, String)>,
    pub sidecar: bool,
}

impl Pod {
    pub fn new(namespace: &str, name: &str, networks: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            networks: networks.into(),
            labels: json!({}),
            annotations: vec![],
            sidecar: true,
        }
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels[key] = json!(value);
        self
    }

    pub fn without_sidecar(mut self) -> Self {
        self.sidecar = false;
        self
    }

    pub fn manifest(&self) -> Value {
        let container = |name: &str, uid: u32, args: &[&str]| {
            json!({"name": name, "image": "stack.test/app:1", "imagePullPolicy": "Never", "args": args,
                   "securityContext": {"runAsUser": uid, "runAsGroup": uid}})
        };
        let mut containers = vec![container("app", 1000, &["dial", WORLD])];
        let mut annotations = json!({"k8s.v1.cni.cncf.io/networks": self.networks});
        if self.sidecar {
            containers.push(container("istio-proxy", 1337, &["serve", "15001", "15006"]));
            annotations["sidecar.istio.io/status"] = json!("{}");
        }
        for (key, value) in &self.annotations {
            annotations[key] = json!(value);
        }
        json!({
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels, "annotations": annotations},
            "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false, "containers": containers},
        })
    }

    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}
