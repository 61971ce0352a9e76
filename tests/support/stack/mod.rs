//! A whole node: the control plane, kubelet, containerd and Multus, thin, thick or as on OpenShift, in namespaces that end with the test program.

mod pods;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use mesh_optin::kernel::Netns;
use serde_json::Value;

use super::{
    cluster::{Cluster, script},
    lab::inside,
    run,
    stack_pod::Pod,
};

/// Where pods connect to: the node itself, outside of the mesh.
pub const WORLD: &str = "203.0.113.7:80";

/// The node answers here as well, but the sidecar's stand-in resets connections to it: only one that bypasses the sidecar is answered.
pub const BLOCKED: &str = "203.0.113.7:81";

/// As long as anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Parts of the messages with which Multus itself fails a sandbox: it asks the API server for the pod first, and its daemon may hear of a new
/// attachment a moment later. Kubelet tries again.
pub const MULTUS_FAILURES: [&str; 2] = [
    ": error waiting for pod: ",
    "cannot find a network-attachment-definition",
];

pub struct Stack {
    pub cluster: Cluster,
    pub thick: bool,
    imported: Mutex<BTreeSet<String>>,
    /// What was measured.
    pub notes: Mutex<Vec<String>>,
}

impl Stack {
    /// Brings it up with the program and its credential installed, but for `openshift`.
    pub fn start(multus: &'static str) -> Self {
        Self {
            cluster: Cluster::start_as(multus),
            thick: multus != "thin",
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
            self.import_archive(&file);
        }
    }

    /// Imports an archive into containerd, by its path in the node's namespaces.
    pub fn import_archive(&self, archive: &str) {
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
            archive,
        ]);
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
            !path.parent().is_some_and(|p| {
                ["attachments", "locks", "slots"]
                    .iter()
                    .any(|d| p.ends_with(d))
            })
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
