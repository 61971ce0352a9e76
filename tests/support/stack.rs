//! A whole node: the control plane, kubelet, containerd and Multus, thin or thick, in namespaces that end with the test program.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::{SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use mesh_optin::kernel::Netns;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, script},
    lab::inside,
    run,
    stack_pod::Pod,
};

/// Where pods connect to: the node itself, outside of the mesh.
pub const WORLD: &str = "203.0.113.7:80";
/// As long as anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stack {
    pub cluster: Cluster,
    pub thick: bool,
    imported: Mutex<BTreeSet<String>>,
    /// What was measured.
    pub notes: Mutex<Vec<String>>,
}

impl Stack {
    /// Brings it up with the program and its credential installed.
    pub fn start(multus: &'static str) -> Self {
        Self {
            cluster: Cluster::start_as(multus),
            thick: multus == "thick",
            imported: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Says what was measured, below the table.
    pub fn note(&self, measured: String) {
        self.notes.lock().unwrap().push(measured);
    }

    /// Makes an image of the cache known to containerd.
    pub fn import(&self, image: &str) {
        let mut imported = self.imported.lock().unwrap();
        if imported.insert(image.to_owned()) {
            let file = format!("{}/{image}", run(&script("build"), &[], "").trim());
            self.cluster.enter(&[
                "ctr",
                "-a",
                "/mnt/containerd/socket",
                "-n",
                "k8s.io",
                "images",
                "import",
                "--snapshotter",
                "overlayfs",
                &file,
            ]);
        }
    }

    /// A path of the node.
    pub fn path(&self, path: &str) -> PathBuf {
        self.cluster.root.join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Does `work` while a file of the node has other contents, or with `None` is not there.
    pub fn while_changed<T>(&self, path: &str, text: Option<&str>, work: impl FnOnce() -> T) -> T {
        let (path, away) = (self.path(path), self.path(&format!("{path}.away")));
        std::fs::rename(&path, &away).unwrap();
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let done = catch_unwind(AssertUnwindSafe(work));
        std::fs::rename(&away, &path).unwrap();
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Does `work` while the API server refuses every connection, as if there were none.
    pub fn without_api_server<T>(&self, work: impl FnOnce() -> T) -> T {
        let nft =
            |commands: &str| inside(&self.cluster.netns, || run("nft", &["-f", "-"], commands));
        nft(
            "table inet down { chain input { type filter hook input priority 0; tcp dport 6443 reject with tcp reset; }; }",
        );
        let done = catch_unwind(AssertUnwindSafe(work));
        nft("delete table inet down");
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Every file of ours on the node, and what it says, but the records and locks that come and go with pods.
    pub fn own_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn add(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for path in std::fs::read_dir(path)
                .into_iter()
                .flatten()
                .map(|e| e.unwrap().path())
            {
                if path.is_dir() {
                    add(&path, files)
                } else {
                    drop(files.insert(path.clone(), std::fs::read(&path).unwrap_or_default()))
                }
            }
        }
        let mut files = BTreeMap::new();
        for directory in [
            "/etc/mesh-optin",
            "/var/lib/mesh-optin",
            "/run/mesh-optin",
            "/etc/cni",
            "/mnt/cni/bin",
        ] {
            add(&self.path(directory), &mut files);
        }
        files.retain(|path, _| {
            !path
                .parent()
                .is_some_and(|p| p.ends_with("attachments") || p.ends_with("slots"))
        });
        files
    }

    /// The records of a pod's attachments.
    pub fn records(&self, pod: &Pod) -> Vec<Value> {
        let files = std::fs::read_dir(self.path("/run/mesh-optin/attachments"))
            .into_iter()
            .flatten()
            .flatten();
        let records = files.filter_map(|file| {
            serde_json::from_str::<Value>(&std::fs::read_to_string(file.path()).ok()?).ok()
        });
        records
            .filter(|r| r["namespace"] == pod.namespace.as_str() && r["pod"] == pod.name.as_str())
            .collect()
    }

    /// Waits until there is none: the runtime's last DEL may come when the pod is gone already.
    pub fn has_no_record(&self, pod: &Pod) {
        let none = self.wait_for(|| self.records(pod).is_empty().then_some(()));
        assert!(none.is_some(), "{:?}", self.records(pod));
    }

    /// The path of a running pod's network namespace, on the node.
    pub fn netns(&self, pod: &Pod) -> String {
        let address = format!(" {}/", self.ip(pod));
        let of_pod = |path: &PathBuf| {
            let netns = Netns::open(path).ok()?;
            inside(&netns, || run("ip", &["-4", "addr"], ""))
                .contains(&address)
                .then_some(())
        };
        let mut all = std::fs::read_dir(self.path("/run/netns"))
            .unwrap()
            .map(|e| e.unwrap().path());
        let found = all
            .find(|path| of_pod(path).is_some())
            .unwrap_or_else(|| panic!("no network namespace has{address}"));
        format!(
            "/run/netns/{}",
            found.file_name().unwrap().to_str().unwrap()
        )
    }

    /// A NetworkAttachmentDefinition; without a configuration it is looked up on the node by its name.
    pub fn attachment(&self, namespace: &str, name: &str, config: Option<&str>) {
        let spec = config.map_or(json!({}), |c| json!({"config": c}));
        let path = format!(
            "/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions"
        );
        let body = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": spec});
        self.cluster.create(&path, &body);
    }

    /// Creates a pod bound to the node.
    pub fn create(&self, pod: &Pod) {
        self.cluster.create(
            &format!("/api/v1/namespaces/{}/pods", pod.namespace),
            &pod.manifest(),
        );
    }

    /// The pod as the API server has it.
    pub fn get(&self, pod: &Pod) -> Option<Value> {
        self.cluster.request("GET", &pod.path(), &json!(null)).ok()
    }

    /// Waits until it runs, with all its containers.
    pub fn running(&self, pod: &Pod) {
        let runs = self.wait_for(|| {
            let found = self.get(pod)?;
            let all = found["status"]["containerStatuses"]
                .as_array()?
                .iter()
                .all(|c| c["state"]["running"].is_object());
            (found["status"]["phase"] == "Running" && all).then_some(())
        });
        assert!(
            runs.is_some(),
            "{}/{} does not run: {:?}",
            pod.namespace,
            pod.name,
            self.events(pod)
        );
    }

    /// Waits until an event says why it does not start.
    pub fn refused(&self, pod: &Pod) -> String {
        // what was created a moment ago the daemon may not have seen yet; kubelet tries again
        let is_ours =
            |message: &str| !message.contains("cannot find a network-attachment-definition");
        let refusal = || {
            let mut events = self.events(pod).into_iter();
            events
                .find(|(reason, message)| reason == "FailedCreatePodSandBox" && is_ours(message))
                .map(|(_, message)| message)
        };
        self.wait_for(refusal)
            .unwrap_or_else(|| panic!("{}/{} is not refused", pod.namespace, pod.name))
    }

    /// Reasons and messages of its events.
    pub fn events(&self, pod: &Pod) -> Vec<(String, String)> {
        let list = self
            .cluster
            .request(
                "GET",
                &format!("/api/v1/namespaces/{}/events", pod.namespace),
                &json!(null),
            )
            .unwrap();
        let text =
            |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let of_pod = |event: &&Value| event["involvedObject"]["name"] == pod.name.as_str();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_pod)
            .map(|e| (text(e, "reason"), text(e, "message")))
            .collect()
    }

    /// What a container has printed.
    pub fn log(&self, pod: &Pod, container: &str) -> String {
        let of_pod = format!("{}_{}_", pod.namespace, pod.name);
        let pods = std::fs::read_dir(self.cluster.directory.join("pods"))
            .into_iter()
            .flatten()
            .flatten();
        let logs = pods.filter(|p| p.file_name().to_string_lossy().starts_with(&of_pod));
        logs.filter_map(|p| std::fs::read_to_string(p.path().join(container).join("0.log")).ok())
            .collect()
    }

    /// What answered the application's last connection to the world: the port, the original destination, and whom it saw.
    pub fn answered(&self, pod: &Pod) -> String {
        let last = || {
            let log = self.log(pod, "app");
            let line = log
                .lines()
                .rfind(|l| !l.contains(" error ") && l.split(' ').count() > 6)?;
            Some(line.split(' ').skip(4).collect::<Vec<_>>().join(" "))
        };
        self.wait_for(last)
            .unwrap_or_else(|| panic!("no answer: {}", self.log(pod, "app")))
    }

    /// What answers a connection from the node to the application's port, likewise.
    pub fn answered_inside(&self, pod: &Pod) -> String {
        let to = SocketAddr::new(self.ip(pod).parse().unwrap(), Pod::PORT);
        let ask = || {
            let mut text = String::new();
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
            stream
                .read_to_string(&mut text)
                .ok()
                .filter(|_| !text.is_empty())
                .map(|_| text)
        };
        self.wait_for(|| inside(&self.cluster.netns, ask))
            .unwrap_or_else(|| panic!("{to} does not answer"))
    }

    pub fn ip(&self, pod: &Pod) -> String {
        self.get(pod).unwrap()["status"]["podIP"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Deletes it and waits until it is gone; how long that took.
    pub fn delete(&self, pod: &Pod) -> Duration {
        self.delete_all(std::slice::from_ref(pod))
    }

    /// The same of several at once.
    pub fn delete_all(&self, pods: &[Pod]) -> Duration {
        let started = Instant::now();
        pods.iter().for_each(|pod| self.mark_deleted(pod));
        for pod in pods {
            assert!(
                self.wait_for(|| self.get(pod).is_none().then_some(()))
                    .is_some(),
                "{} is not gone",
                pod.name
            );
        }
        started.elapsed()
    }

    /// Deletes all pods there are, and waits until they are gone.
    pub fn delete_every_pod(&self) {
        let all = || {
            self.cluster
                .request("GET", "/api/v1/pods", &json!(null))
                .unwrap()["items"]
                .as_array()
                .unwrap()
                .clone()
        };
        let text = |pod: &Value, field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
        for pod in all() {
            self.cluster
                .request(
                    "DELETE",
                    &Pod::new(&text(&pod, "namespace"), &text(&pod, "name"), "").path(),
                    &json!({}),
                )
                .ok();
        }
        let gone = self.wait_for(|| all().is_empty().then_some(()));
        assert!(
            gone.is_some(),
            "{:?}",
            all()
                .iter()
                .map(|pod| text(pod, "name"))
                .collect::<Vec<_>>()
        );
    }

    /// Deletes it, without waiting.
    pub fn mark_deleted(&self, pod: &Pod) {
        self.cluster
            .request("DELETE", &pod.path(), &json!({}))
            .unwrap();
    }

    pub fn wait_for<T>(&self, what: impl Fn() -> Option<T>) -> Option<T> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(found) = what() {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }
}
