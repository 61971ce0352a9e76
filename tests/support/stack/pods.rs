//! Pods of the node, from their creation to their end.

use std::{
    fs::DirEntry,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::super::{lab::inside, stack_pod::Pod};
use super::{BLOCKED, MULTUS_FAILURES, Stack, WORLD};

impl Stack {
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
        let is_ours = |message: &str| !MULTUS_FAILURES.iter().any(|known| message.contains(known));
        let refusal = || {
            let mut events = self.events(pod).into_iter();
            events
                .find(|(reason, message)| reason == "FailedCreatePodSandBox" && is_ours(message))
                .map(|(_, message)| message)
        };
        self.wait_for(refusal).unwrap_or_else(|| {
            let (namespace, name, events) = (&pod.namespace, &pod.name, self.events(pod));
            panic!("{namespace}/{name} is not refused: {events:#?}")
        })
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

    /// What a container has printed since it was started last.
    pub fn log(&self, pod: &Pod, container: &str) -> String {
        let of_pod = format!("{}_{}_", pod.namespace, pod.name);
        let files = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let pods = files(&self.cluster.directory.join("pods"))
            .filter(|p| p.file_name().to_string_lossy().starts_with(&of_pod));
        let last = |pod: DirEntry| {
            let logs = files(&pod.path().join(container)).map(|log| log.path());
            let starts = |log: &PathBuf| log.file_stem()?.to_str()?.parse::<u32>().ok();
            logs.filter_map(|log| Some((starts(&log)?, log))).max()
        };
        pods.filter_map(last)
            .filter_map(|(_, log)| std::fs::read_to_string(log).ok())
            .collect()
    }

    /// What answered the application's last connection to the world: the port, the original destination, and whom it saw.
    pub fn answered(&self, pod: &Pod) -> String {
        let last = || {
            let mut answers = self.answers(pod, WORLD).into_iter();
            answers.rfind(|a| !a.starts_with("error ") && a.split(' ').count() > 2)
        };
        self.wait_for(last)
            .unwrap_or_else(|| panic!("no answer: {}", self.log(pod, "app")))
    }

    /// Fails unless all of the application's connections to the world that were answered landed there, and nearly all were answered from the
    /// first on: how many landed.
    pub fn all_landed(&self, pod: &Pod, at: &str) -> usize {
        let answers = self.answers(pod, WORLD).into_iter();
        // on a busy machine one may take longer than its application waits
        let is_none = |answer: &String| answer.is_empty() || answer.starts_with("error ");
        // nobody may serve yet when the application begins
        let (none, answered): (Vec<_>, Vec<_>) = answers.skip_while(is_none).partition(is_none);
        let (right, wrong): (Vec<_>, Vec<_>) =
            answered.into_iter().partition(|a| a.starts_with(at));
        let most = 1 + right.len() / 100;
        assert!(
            !right.is_empty() && wrong.is_empty() && none.len() <= most,
            "{}: {wrong:#?} {none:#?}",
            pod.name
        );
        right.len()
    }

    /// Waits until the sidecar has reset one of the application's connections to [`BLOCKED`], and fails if any of them was ever answered, as one
    /// that bypasses the sidecar is: how many failed.
    pub fn all_blocked(&self, pod: &Pod) -> usize {
        let failed = || {
            let answers = self.answers(pod, BLOCKED);
            let passed = |answer: &&String| !answer.is_empty() && !answer.starts_with("error ");
            let passed: Vec<_> = answers.iter().filter(passed).collect();
            assert!(passed.is_empty(), "{} bypassed: {passed:#?}", pod.name);
            let mut resets = answers.iter().map(|a| a.contains("connection reset"));
            resets.any(|is| is).then_some(answers.len())
        };
        self.wait_for(failed)
            .unwrap_or_else(|| panic!("none was reset: {:#?}", self.answers(pod, BLOCKED)))
    }

    /// What each of the application's connections to an address brought, the first one first.
    pub fn answers(&self, pod: &Pod, address: &str) -> Vec<String> {
        let log = self.log(pod, "app");
        // kubelet puts a time, a stream and a flag before what the application printed
        let printed = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        let answers = printed.filter_map(|line| line.strip_prefix(address)?.strip_prefix(' '));
        answers.map(str::to_owned).collect()
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

    /// The same, and none of their DELs fails: before kubelet tries again it sends an event.
    pub fn delete_at_first_attempt(&self, pods: &[Pod]) -> Duration {
        let took = self.delete_all(pods);
        for pod in pods {
            let mut events = self.events(pod).into_iter();
            let failed = events.find(|(reason, _)| reason == "FailedKillPod");
            assert_eq!(failed, None, "{}", pod.name);
        }
        took
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
}
