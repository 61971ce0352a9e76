//! The pod of the agent's DaemonSet, on a node without controllers.

use crate::support::{cluster::script, lab::inside, run, stack::Stack, stack_pod::Pod};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(super) const IMAGE: &str = "stack.test/mesh-optin:1";

/// The pod of the agent's DaemonSet.
pub(super) struct Agent<'a> {
    pub(super) stack: &'a Stack,
    pub(super) pod: Pod,
    pub(super) manifest: Value,
}

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-optin");

/// Does `work` on a node that the agent alone has installed, and uninstalls it. The node is then as it was, however that ends.
pub(super) fn with_agent(s: &Stack, work: impl FnOnce(&Agent<'_>)) {
    s.delete_every_pod(); // those of other scenarios need the program
    for path in [
        "/var/lib/mesh-optin",
        "/run/mesh-optin",
        "/mnt/cni/bin/mesh-optin",
        "/etc/mesh-optin/node.yaml",
    ] {
        s.cluster.enter(&["rm", "-rf", path]);
    }
    let done = catch_unwind(AssertUnwindSafe(|| {
        s.write("/etc/mesh-optin/node.yaml", "{deadline: 15s}");
        let agent = Agent {
            stack: s,
            pod: Pod::new("mesh-optin", "agent", ""),
            manifest: manifest(s),
        };
        agent.create();
        agent.ready();
        work(&agent);
        agent.delete();
        let uninstall = || {
            s.cluster.enter(&[
                "sh",
                "-c",
                &format!("{PROGRAM} agent uninstall 2>&1 || true"),
            ])
        };
        assert!(
            s.wait_for(|| uninstall().is_empty().then_some(()))
                .is_some(),
            "{}",
            uninstall()
        );
        for path in [
            "/var/lib/mesh-optin",
            "/run/mesh-optin",
            "/mnt/cni/bin/mesh-optin",
        ] {
            assert!(!s.path(path).exists(), "{path} is left");
        }
    }));
    s.delete_every_pod();
    s.cluster
        .enter(&["rm", "-rf", "/var/lib/mesh-optin", "/run/mesh-optin"]);
    s.cluster.enter(&[&script("install"), "/mnt", PROGRAM]);
    done.unwrap_or_else(|panic| resume_unwind(panic));
}

/// The DaemonSet's template as a pod of this node, which has paths of its own and neither a scheduler nor a service network.
fn manifest(s: &Stack) -> Value {
    let image = s.cluster.directory.join("agent.tar");
    run(
        &script("image"),
        &[image.to_str().unwrap(), IMAGE, PROGRAM],
        "",
    );
    s.import_archive("/mnt/agent.tar");
    let root_ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": "mesh-optin"},
                         "data": {"ca.crt": s.cluster.file("ca.crt")}});
    s.cluster.apply(&root_ca.to_string());
    let text = s.cluster.enter(&[
        "kubectl",
        "kustomize",
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes"),
    ]);
    s.cluster.apply(
        &text
            .split("\n---\n")
            .filter(|d| !d.contains("kind: DaemonSet"))
            .collect::<Vec<_>>()
            .join("\n---\n"),
    );
    let of_kind = text
        .split("\n---\n")
        .find(|document| document.contains("kind: DaemonSet"))
        .unwrap();
    let mut pod: Value = serde_yaml::from_str::<Value>(of_kind).unwrap()["spec"]["template"].take();
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    (pod["metadata"]["name"], pod["metadata"]["namespace"]) = (json!("agent"), json!("mesh-optin"));
    pod["spec"]["nodeName"] = json!("node1");
    let container = &mut pod["spec"]["containers"][0];
    (container["image"], container["imagePullPolicy"]) = (json!(IMAGE), json!("Never"));
    let here = [
        "--api-server=127.0.0.1",
        "--api-port=6443",
        "--cni-bin-dir=/mnt/cni/bin",
        "--multus-conf-dir=/mnt/cni/confdir",
    ];
    let here = here.iter().chain(&[
        "--multus-cache-dir=/mnt/cni/multus",
        "--audit-period=2",
        "--install-period=1",
    ]);
    container["args"]
        .as_array_mut()
        .unwrap()
        .extend(here.map(|arg| json!(arg)));
    pod
}

impl Agent<'_> {
    pub(super) fn create(&self) {
        self.stack
            .cluster
            .create("/api/v1/namespaces/mesh-optin/pods", &self.manifest);
    }

    pub(super) fn ready(&self) {
        let is_ready = || {
            let conditions = self.stack.get(&self.pod)?["status"]["conditions"]
                .as_array()?
                .clone();
            conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
                .then_some(())
        };
        let said = || {
            (
                self.stack.events(&self.pod),
                self.stack.log(&self.pod, "agent"),
                self.get("/readyz"),
            )
        };
        assert!(
            self.stack.wait_for(is_ready).is_some(),
            "the agent is not ready: {:#?}",
            said()
        );
        // kubelet's word may be of the one before
        let answers = self
            .stack
            .wait_for(|| (self.get("/readyz") == "ready\n").then_some(()));
        assert!(answers.is_some(), "{:#?}", said());
    }

    pub(super) fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:9646{path}");
        inside(&self.stack.cluster.netns, || {
            crate::support::try_run("curl", &["-s", "-m", "5", &url], "").unwrap_or_default()
        })
    }

    pub(super) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Its process, killed as by the kernel; kubelet starts it again.
    pub(super) fn kill(&self) {
        self.stack
            .cluster
            .enter(&["pkill", "-KILL", "-f", "^/mesh-optin agent"]);
    }

    /// Its resident memory in MB.
    pub(super) fn memory(&self) -> f64 {
        let text = self.stack.cluster.enter(&[
            "sh",
            "-c",
            "grep VmRSS /proc/$(pgrep -f '^/mesh-optin agent')/status",
        ]);
        text.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1e3
    }

    pub(super) fn delete(&self) {
        self.stack.delete(&self.pod);
    }
}
