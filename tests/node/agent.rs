//! The node agent, as deploy/ has it, in a pod that kubelet runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Scenario, alone, enrolled, lands_at_the_sidecar,
    support::{cluster::script, lab::inside, run, stack::Stack, stack_pod::Pod},
};

const USER: &str = "system:serviceaccount:mesh-optin:agent";
const IMAGE: &str = "stack.test/mesh-optin:1";

pub(crate) const SCENARIOS: &[Scenario] = &[
    alone(
        "with the agent a crowd of pods starts at once, and none of them asks the API server anything",
        |s| {
            with_agent(s, |agent| {
                let count = if s.thick { 110 } else { 30 };
                enrolled(s, "crowd");
                let pods: Vec<_> = (0..count)
                    .map(|n| Pod::new("crowd", &format!("p{n}"), "mesh"))
                    .collect();
                let (by_node, started) = (
                    s.cluster
                        .requests_of("system:serviceaccount:mesh-optin:node")
                        .len(),
                    Instant::now(),
                );
                pods.iter().for_each(|pod| s.create(pod));
                pods.iter().for_each(|pod| lands_at_the_sidecar(s, pod));
                let took = started.elapsed();
                assert_eq!(
                    s.cluster
                        .requests_of("system:serviceaccount:mesh-optin:node")
                        .len(),
                    by_node
                );
                let gets: Vec<_> = s
                    .cluster
                    .requests_of(USER)
                    .into_iter()
                    .filter(|r| r.starts_with("get /api/v1/namespaces/crowd"))
                    .collect();
                assert!(gets.is_empty(), "{gets:#?}");
                let redirected = agent.metric(r#"mesh_optin_decisions_total{reason="Redirected"}"#);
                assert!(redirected >= count as f64, "{redirected}");
                s.note(format!(
                    "{count} pods with the agent ran after {:.1} s; it was at {:.1} MB",
                    took.as_secs_f32(),
                    agent.memory()
                ));
                s.delete_all(&pods);
            });
        },
    ),
    alone(
        "no pod is lost or left out while the agent is killed, stopped and made anew",
        |s| {
            with_agent(s, |agent| {
                enrolled(s, "stream");
                let mut pods = Vec::new();
                for round in 0..3 {
                    let more: Vec<_> = (0..6)
                        .map(|n| Pod::new("stream", &format!("p{round}-{n}"), "mesh"))
                        .collect();
                    match round {
                        0 => agent.kill(),
                        1 => agent.delete(),
                        _ => {}
                    }
                    more.iter().for_each(|pod| s.create(pod));
                    if round == 1 {
                        std::thread::sleep(Duration::from_secs(2));
                        agent.create();
                    }
                    more.iter().for_each(|pod| lands_at_the_sidecar(s, pod));
                    agent.ready();
                    pods.extend(more);
                }
                agent.delete();
                let took = s.delete_all(&pods);
                s.note(format!(
                    "without the agent {} pods were gone {:.1} s after their deletion",
                    pods.len(),
                    took.as_secs_f32()
                ));
                assert!(took < Duration::from_secs(30), "{took:?}");
                agent.create();
                agent.ready();
            });
        },
    ),
    alone(
        "the agent tells on the pod that it was redirected and that it drifted, and puts it right",
        |s| {
            with_agent(s, |_agent| {
                s.cluster.apply(
                    &std::fs::read_to_string(concat!(
                        env!("CARGO_MANIFEST_DIR"),
                        "/crds/meshoptin.dev_meshprofiles.yaml"
                    ))
                    .unwrap(),
                );
                let profile = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "default"}, "spec": {"drift": "Repair"}});
                assert!(
                    s.wait_for(|| s
                        .cluster
                        .request(
                            "POST",
                            "/apis/meshoptin.dev/v1alpha1/meshprofiles",
                            &profile
                        )
                        .ok())
                        .is_some()
                );
                let kept = s.path("/var/lib/mesh-optin/profiles/default.yaml");
                assert!(
                    s.wait_for(|| kept.exists().then_some(())).is_some(),
                    "the profile is not taken"
                );
                enrolled(s, "told");
                let pod = Pod::new("told", "web", "mesh");
                s.create(&pod);
                lands_at_the_sidecar(s, &pod);
                let told = |reason: &str| {
                    let event = || s.events(&pod).into_iter().find(|(of, _)| of == reason);
                    s.wait_for(event)
                        .unwrap_or_else(|| panic!("no {reason}: {:?}", s.events(&pod)))
                };
                told("Redirected");
                let netns = mesh_optin::kernel::Netns::open(&s.path(&s.netns(&pod))).unwrap();
                inside(&netns, || {
                    run("nft", &["flush", "table", "inet", "mesh-optin"], "")
                });
                let (_, message) = told("Drifted");
                assert!(message.ends_with("; none: it was put right"), "{message}");
                assert!(
                    s.wait_for(|| s.answered(&pod).starts_with("15001 ").then_some(()))
                        .is_some(),
                    "{}",
                    s.answered(&pod)
                );
                assert!(
                    inside(&netns, || run("nft", &["list", "ruleset"], ""))
                        .contains("redirect to :15001")
                );
                s.cluster
                    .request(
                        "DELETE",
                        "/apis/meshoptin.dev/v1alpha1/meshprofiles/default",
                        &Value::Null,
                    )
                    .unwrap();
                s.delete(&pod);
            });
        },
    ),
];

/// The pod of the agent's DaemonSet.
struct Agent<'a> {
    stack: &'a Stack,
    pod: Pod,
    manifest: Value,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-optin");

/// Does `work` on a node that the agent alone has installed, and uninstalls it. The node is then as it was, however that ends.
fn with_agent(s: &Stack, work: impl FnOnce(&Agent<'_>)) {
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
    let import = [
        "ctr",
        "-a",
        "/mnt/containerd/socket",
        "-n",
        "k8s.io",
        "images",
        "import",
        "--snapshotter",
        "overlayfs",
        "/mnt/agent.tar",
    ];
    s.cluster.enter(&import);
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
    fn create(&self) {
        self.stack
            .cluster
            .create("/api/v1/namespaces/mesh-optin/pods", &self.manifest);
    }

    fn ready(&self) {
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

    fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:9646{path}");
        inside(&self.stack.cluster.netns, || {
            crate::support::try_run("curl", &["-s", "-m", "5", &url], "").unwrap_or_default()
        })
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Its process, killed as by the kernel; kubelet starts it again.
    fn kill(&self) {
        self.stack
            .cluster
            .enter(&["pkill", "-KILL", "-f", "^/mesh-optin agent"]);
    }

    /// Its resident memory in MB.
    fn memory(&self) -> f64 {
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

    fn delete(&self) {
        self.stack.delete(&self.pod);
    }
}
