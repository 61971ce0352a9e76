//! The agent's DaemonSet, and its pod alone.

use super::helm::{CRDS, remove_everything};
use crate::support::{cluster::script, lab::inside, run, stack::Stack, stack_pod::Pod};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) const IMAGE: &str = "stack.test/mesh-optin:1";

pub(crate) const DAEMONSET: &str =
    "/apis/apps/v1/namespaces/mesh-optin/daemonsets/mesh-optin-agent";

/// The pod of the agent's DaemonSet.
pub(crate) struct Agent<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) pod: Pod,
    pub(crate) manifest: Value,
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-optin");

/// Rolls a DaemonSet of mesh-optin back to the version before.
pub(super) fn roll_back(s: &Stack, name: &str) {
    let undo = ["kubectl", "-n", "mesh-optin", "rollout", "undo"];
    let daemonset = format!("daemonset/{name}");
    s.cluster.enter(&[&undo[..], &[&daemonset]].concat());
}

/// Does `work` on a node that the agent alone has installed, and uninstalls it. The node is then as it was, however that ends.
pub(crate) fn with_agent(s: &Stack, work: impl FnOnce(&Agent<'_>)) {
    restored(s, || {
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
    });
}

/// Does `work` on a node that has nothing of mesh-optin. The node is then as it was, however that ends.
pub(crate) fn restored(s: &Stack, work: impl FnOnce()) {
    s.delete_every_pod(); // those of other scenarios need the program
    for path in [
        "/var/lib/mesh-optin",
        "/run/mesh-optin",
        "/mnt/cni/bin/mesh-optin",
        "/etc/mesh-optin/node.yaml",
        // what other scenarios have there is another plugin's
        "/mnt/cni/confdir/istio-cni.conf",
        "/mnt/cni/confdir/v2-6-istio-cni.conf",
    ] {
        s.cluster.enter(&["rm", "-rf", path]);
    }
    let delete = |what: &[&str]| {
        s.cluster
            .enter(&[&["kubectl", "delete", "--all"], what].concat())
    };
    let what_makes_pods = ["-A", "daemonsets,deployments"];
    let put_back = || {
        delete(&what_makes_pods);
        s.delete_every_pod();
        s.cluster
            .enter(&["rm", "-rf", "/var/lib/mesh-optin", "/run/mesh-optin"]);
        s.cluster.enter(&[&script("install"), "/mnt", PROGRAM]);
    };
    let Err(panic) = catch_unwind(AssertUnwindSafe(work)) else {
        return put_back();
    };
    // the next scenario is not to fail of what this one has left
    let cleared = catch_unwind(AssertUnwindSafe(|| {
        delete(&what_makes_pods);
        delete(&["-n", "mesh-optin", "pods"]);
        // the other pods may need a program that it has removed
        s.cluster.enter(&[&script("install"), "/mnt", PROGRAM]);
        put_back();
        let uninstall = ["helm", "uninstall", "mesh-optin", "-n", "mesh-optin"];
        let anyway = ["--no-hooks", "--ignore-not-found"];
        s.cluster.enter(&[&uninstall[..], &anyway].concat());
        remove_everything(s);
        s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
        put_back();
    }));
    if cleared.is_err() {
        s.note("the node could not be cleared after a scenario that failed".into());
    }
    resume_unwind(panic)
}

/// The DaemonSet's template as a pod of this node.
fn manifest(s: &Stack) -> Value {
    let mut pod = daemonset(s)["spec"]["template"].take();
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    (pod["metadata"]["name"], pod["metadata"]["namespace"]) = (json!("agent"), json!("mesh-optin"));
    pod["spec"]["nodeName"] = json!("node1");
    let args = pod["spec"]["containers"][0]["args"].as_array_mut().unwrap();
    args.push(json!("--probe-port=9646"));
    pod
}

/// Makes an image of this program, and of others beside it, known to the node.
pub(crate) fn import_image(s: &Stack, others: &[&str]) {
    import_image_of(s, IMAGE, PROGRAM, others);
}

/// The same of another program.
pub(super) fn import_image_of(s: &Stack, name: &str, program: &str, others: &[&str]) {
    let image = s.cluster.directory.join("agent.tar");
    run(
        &script("image"),
        &[&[image.to_str().unwrap(), name, program], others].concat(),
        "",
    );
    s.import_archive("/mnt/agent.tar");
}

/// The DaemonSet for this node, which has paths of its own and no service network; all that it needs is there.
pub(super) fn daemonset(s: &Stack) -> Value {
    import_image(s, &[]);
    let text = s.cluster.enter(&[
        "kubectl",
        "kustomize",
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes"),
    ]);
    let documents = || text.split("\n---\n");
    let is_daemonset = |document: &&str| document.contains("kind: DaemonSet");
    let others: Vec<_> = documents().filter(|d| !is_daemonset(d)).collect();
    s.cluster.apply(&others.join("\n---\n"));
    let mut daemonset: Value =
        serde_yaml::from_str(documents().find(is_daemonset).unwrap()).unwrap();
    let container = &mut daemonset["spec"]["template"]["spec"]["containers"][0];
    (container["image"], container["imagePullPolicy"]) = (json!(IMAGE), json!("Never"));
    for (at, path) in [
        "/mnt/cni/bin",
        "/mnt/cni/confdir",
        "/mnt/cni/multus",
        "/mnt/cni/net.d",
    ]
    .into_iter()
    .enumerate()
    {
        container["volumeMounts"][at]["mountPath"] = json!(path);
    }
    let here = [
        "--api-server=127.0.0.1",
        "--api-port=6443",
        "--cni-bin-dir=/mnt/cni/bin",
        "--multus-conf-dir=/mnt/cni/confdir",
        "--multus-cache-dir=/mnt/cni/multus",
        "--runtime-conf-dir=/mnt/cni/net.d",
        "--audit-period=2",
        "--install-period=1",
    ];
    let args = container["args"].as_array_mut().unwrap();
    args.extend(here.map(|arg| json!(arg)));
    let mounts = container["volumeMounts"].clone();
    let volumes = &mut daemonset["spec"]["template"]["spec"]["volumes"];
    for at in 0..4 {
        volumes[at]["hostPath"]["path"] = mounts[at]["mountPath"].clone();
    }
    daemonset
}

impl Agent<'_> {
    pub(crate) fn create(&self) {
        self.stack
            .cluster
            .create("/api/v1/namespaces/mesh-optin/pods", &self.manifest);
    }

    pub(crate) fn ready(&self) {
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

    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:9646{path}");
        inside(&self.stack.cluster.netns, || {
            crate::support::try_run("curl", &["-s", "-m", "5", &url], "").unwrap_or_default()
        })
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Its process, killed as by the kernel; kubelet starts it again.
    pub(crate) fn kill(&self) {
        self.stack
            .cluster
            .enter(&["pkill", "-KILL", "-f", "^/mesh-optin agent"]);
    }

    /// Its resident memory in MB.
    pub(crate) fn memory(&self) -> f64 {
        let text = self.stack.cluster.enter(&[
            "sh",
            "-c",
            "grep VmRSS /proc/$(pgrep -o -f '^/mesh-optin agent')/status",
        ]);
        text.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1e3
    }

    pub(crate) fn delete(&self) {
        self.stack.delete(&self.pod);
    }
}
