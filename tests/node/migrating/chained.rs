//! From istio-cni that is chained to the node's plugins, namespace by namespace, and back.

use serde_json::json;

use super::{
    ATTACHMENT, installed,
    istio_cni::{self, IstioCni},
    migrated, removed, reports,
    traffic::{By, Talking},
};
use crate::{
    Scenario, THIN,
    agent::helm::ready,
    alone,
    support::{stack::Stack, stack_pod::Pod},
};

/// The one that moves first.
const FIRST: &str = "first";
const SECOND: &str = "second";

/// Of thin Multus alone, whose configuration no daemon writes: that is what Istio's plugin is chained to.
pub(super) const SCENARIO: Scenario = alone(
    "from chained istio-cni namespace by namespace and back, while its pods and ours talk",
    |s| {
        migrated(s, || {
            for namespace in [FIRST, SECOND] {
                let labels = json!({"istio-injection": "enabled"});
                s.cluster.namespace(namespace, &labels);
            }
            let _as_it_was = RuntimeConf::of_one_version(s);
            let mut talking = Talking::new(s);
            there(s, &mut talking);
            back(s, &mut talking);
            talking.note("chained istio-cni, there and back");
        });
    },
)
.only_with(THIN);

/// A pod that only the runtime's plugins are called for.
fn chained(namespace: &str, name: &str) -> Pod {
    Pod::new(namespace, name, "")
}

fn ours(namespace: &str, name: &str) -> Pod {
    Pod::new(namespace, name, ATTACHMENT)
}

fn there(s: &Stack, talking: &mut Talking<'_>) {
    let istio = IstioCni::install(s, &istio_cni::values("/mnt/cni/net.d"), &[]);
    talking.start(chained(FIRST, "old-1"), By::Istio);
    talking.start(chained(SECOND, "old-2"), By::Istio);
    installed(s);
    ready(s, "mesh-optin-agent");
    // first both redirect, to the same ports, and the agent says so; then ours alone
    talking.start(ours(FIRST, "both-1"), By::Both);
    reports(s, "both", |status| has(status, "both-1", "Preempted"));
    istio.exclude(&[FIRST]);
    talking.start(ours(FIRST, "new-1"), By::Us);
    talking.start(chained(SECOND, "old-3"), By::Istio);
    talking.all_land();
    // where Istio's plugin was called before ours, the pod does not start
    before_ours(s);
    let refused = Pod::new(FIRST, "refused", &format!("before,{ATTACHMENT}"));
    s.create(&refused);
    let why = s.refused(&refused);
    assert!(why.contains("Preempted"), "{why}");
    s.delete(&refused);
    // the other namespace
    talking.start(ours(SECOND, "both-2"), By::Both);
    istio.exclude(&[FIRST, SECOND]);
    talking.start(ours(SECOND, "new-2"), By::Us);
    // a pod that names no attachment: Istio's repair sees to it as long as it is there
    let missed = chained(SECOND, "missed");
    create_validated(s, &missed);
    talking.joins(missed, By::Istio);
    istio.uninstall();
    talking.end(&["old-1", "missed"]);
    talking.start(ours(FIRST, "new-3"), By::Us);
    without_repair(s);
}

/// Then it stays in its init container where Istio has put its validation there, and is reported where it runs.
fn without_repair(s: &Stack) {
    let (missed, runs) = (chained(SECOND, "missed-1"), chained(SECOND, "missed-2"));
    create_validated(s, &missed);
    s.create(&runs);
    s.running(&runs);
    reports(s, "missed", |status| has(status, "missed-2", "Bypassing"));
    let ended = s.wait_for(|| {
        let found = s.get(&missed)?;
        let validation = &found["status"]["initContainerStatuses"][0];
        let code = validation["lastState"]["terminated"]["exitCode"].as_u64()?;
        (code == 126).then_some(())
    });
    assert!(ended.is_some(), "{:#?}", s.get(&missed));
    // with the attachment it validates
    let validated = ours(SECOND, "validated");
    create_validated(s, &validated);
    s.running(&validated);
    s.delete_all(&[missed, runs, validated]);
}

fn back(s: &Stack, talking: &mut Talking<'_>) {
    // those of ours that start from now on have both
    let istio = IstioCni::install(s, &istio_cni::values("/mnt/cni/net.d"), &[]);
    talking.start(ours(FIRST, "both-3"), By::Both);
    talking.start(chained(FIRST, "again-1"), By::Istio);
    talking.all_land();
    removed(s, || {
        talking.start(chained(SECOND, "again-2"), By::Istio);
        let of_ours = ["both-1", "both-2", "both-3", "new-1", "new-2", "new-3"];
        talking.end(&of_ours);
    });
    talking.end(&["old-2", "old-3", "again-1", "again-2"]);
    istio.uninstall();
}

/// Whether the agent reports this of a pod.
fn has(status: &serde_json::Value, pod: &str, reason: &str) -> bool {
    let mut problems = status["problems"].as_array().into_iter().flatten();
    problems.any(|problem| problem["pod"] == pod && problem["reason"] == reason)
}

/// An attachment that calls Istio's plugin before ours, as a default network would that it is chained to.
fn before_ours(s: &Stack) {
    let config = json!({
        "cniVersion": "0.3.1", "name": "before", "type": "istio-cni",
        "cni_agent_run_dir": "/var/run/istio-cni", "plugin_log_level": "info",
    });
    s.attachment(FIRST, "before", Some(&config.to_string()));
}

/// Creates a pod with the init container that Istio's injector adds: it fails until the pod is redirected.
fn create_validated(s: &Stack, pod: &Pod) {
    let args = istio_cni::iptables_args(&["--run-validation", "--skip-rule-apply"]);
    let mut container = istio_cni::init_container("istio-validation", &args);
    container["securityContext"] = json!({"runAsUser": 1337, "runAsGroup": 1337});
    istio_cni::create_with(s, pod, &container);
}

/// What the runtime calls; it is as it was when this ends.
struct RuntimeConf<'a> {
    s: &'a Stack,
    was: String,
}

const CONF: &str = "/mnt/cni/net.d/00-multus.conf";

impl<'a> RuntimeConf<'a> {
    /// Of the version that Istio's installer gives the list that it makes of it: Istio's plugin reads no result of another.
    fn of_one_version(s: &'a Stack) -> Self {
        let was = std::fs::read_to_string(s.path(CONF)).unwrap();
        s.write(CONF, &was.replace("1.0.0", "0.3.1"));
        Self { s, was }
    }
}

impl Drop for RuntimeConf<'_> {
    fn drop(&mut self) {
        self.s.write(CONF, &self.was);
        std::fs::remove_file(self.s.path(&format!("{CONF}list"))).ok();
    }
}
