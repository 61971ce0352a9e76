//! Istio's CNI plugin: its chart on this node, whose DaemonSet puts the plugin there and takes it away again.

use serde_json::{Value, json};

use crate::support::{cluster::script, run, stack::Stack, stack_pod::Pod};

const PODS: &str = "/api/v1/namespaces/istio-cni/pods?labelSelector=k8s-app%3Distio-cni-node";

const IMAGE: &str = "stack.test/istio-cni:1";

/// The release of the chart. It ends with this.
pub(crate) struct IstioCni<'a> {
    s: &'a Stack,
}

// === impl IstioCni ===

impl<'a> IstioCni<'a> {
    /// Installs the chart, and waits until the node has the plugin.
    pub(crate) fn install(s: &'a Stack, values: &Value, args: &[&str]) -> Self {
        let release = Self { s };
        release.helm(&[&["install", "--create-namespace"], args].concat(), values);
        release.is_ready();
        release
    }

    /// Installs the chart without a pod of its DaemonSet on this node, as on nodes that its `affinity` excludes: what is there is its attachment.
    pub(crate) fn install_elsewhere(s: &'a Stack, args: &[&str]) -> Self {
        let release = Self { s };
        let mut values = values("/mnt/cni/confdir");
        values["provider"] = json!("multus");
        let elsewhere = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "DoesNotExist"}]});
        values["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [elsewhere]}}});
        release.helm(
            &[&["install", "--create-namespace"], args].concat(),
            &values,
        );
        release
    }

    /// Lets its plugin leave these namespaces alone as well, and restarts its DaemonSet, which does not notice by itself.
    pub(crate) fn exclude(&self, namespaces: &[&str]) {
        let excluded = [&["kube-system"], namespaces].concat();
        let excluded = json!({"excludeNamespaces": excluded});
        self.helm(&["upgrade", "--reuse-values"], &excluded);
        for step in ["restart", "status"] {
            let step = [step, "daemonset/istio-cni-node"];
            let rollout = ["kubectl", "-n", "istio-cni", "rollout"];
            self.s.cluster.enter(&[&rollout[..], &step].concat());
        }
        self.is_ready();
    }

    fn helm(&self, args: &[&str], values: &Value) {
        let s = self.s;
        s.write("/mnt/istio-cni.yaml", &values.to_string());
        let chart = format!("{}/istio-cni.tgz", run(&script("build"), &[], "").trim());
        let fixed = [
            "istio-cni",
            &chart,
            "--namespace=istio-cni",
            "--values=/mnt/istio-cni.yaml",
        ];
        s.cluster.enter(&[&["helm"], args, &fixed].concat());
    }

    /// Waits until there is one pod, which is ready.
    fn is_ready(&self) {
        let is_ready = || {
            let pods = self.pods();
            let [pod] = &pods[..] else { return None };
            let mut conditions = pod["status"]["conditions"].as_array()?.iter();
            let ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
            ready.then_some(())
        };
        assert!(
            self.s.wait_for(is_ready).is_some(),
            "Istio's DaemonSet is not ready: {:#?}",
            self.pods()
        );
    }

    fn pods(&self) -> Vec<Value> {
        let list = self.s.cluster.request("GET", PODS, &Value::Null).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Uninstalls it, and waits until its pod has taken away what it put on the node.
    pub(crate) fn uninstall(self) {
        drop(self);
    }
}

impl Drop for IstioCni<'_> {
    fn drop(&mut self) {
        let uninstall = ["helm", "uninstall", "istio-cni", "--namespace=istio-cni"];
        let ended = self.s.cluster.try_enter(&uninstall);
        let gone = || self.pods().is_empty().then_some(());
        let is_gone = self.s.wait_for(gone).is_some();
        let right = ended.is_ok() && is_gone;
        assert!(right || std::thread::panicking(), "{ended:?}");
    }
}

/// The chart's values on this node, with its configuration there; all others are the chart's own.
pub(crate) fn values(directory: &str) -> Value {
    json!({
        "cniBinDir": "/mnt/cni/bin",
        "cniConfDir": directory,
        "image": IMAGE,
        "global": {"imagePullPolicy": "Never"},
    })
}

/// What Istio's template gives istio-init and istio-validation, and what it gives one of them.
pub(crate) fn iptables_args(further: &[&str]) -> Vec<String> {
    let both =
        "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020";
    let further = further.iter().copied();
    both.split(' ').chain(further).map(str::to_owned).collect()
}

pub(crate) fn init_container(name: &str, args: &[String]) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["pilot-agent"], "args": args})
}

/// Creates a pod with this init container.
pub(crate) fn create_with(s: &Stack, pod: &Pod, container: &Value) {
    let mut manifest = pod.manifest();
    manifest["spec"]["initContainers"] = json!([container]);
    let path = format!("/api/v1/namespaces/{}/pods", pod.namespace);
    s.cluster.create(&path, &manifest);
}
