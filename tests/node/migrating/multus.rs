//! From istio-cni that Multus calls, Istio's provider "multus", and back: both name the attachment default/istio-cni.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    ATTACHMENT, NAD, installed, kubectl, migrated, removed, reports,
    traffic::{By, Talking, iptables_rule, redirected_by},
    upgraded,
};
use crate::{
    Scenario,
    agent::helm::ready,
    alone,
    istio_cni::{self, IstioCni},
    support::{stack::Stack, stack_pod::Pod},
};

const NAMESPACE: &str = "multus";

pub(super) const SCENARIO: Scenario = alone(
    "from istio-cni with provider multus and back, while its pods and ours talk",
    |s| {
        migrated(s, || {
            let labels = json!({"istio-injection": "enabled"});
            s.cluster.namespace(NAMESPACE, &labels);
            let mut talking = Talking::new(s);
            there(s, &mut talking);
            back(s, &mut talking);
            talking.note("istio-cni with provider multus, there and back");
        });
    },
);

fn pod(name: &str) -> Pod {
    Pod::new(NAMESPACE, name, ATTACHMENT)
}

/// Istio's values: with thin Multus as its profile for OpenShift has them, with thick Multus the chart's own name of the configuration. What is
/// migrated does not depend on Multus; so each shows one of two ways.
fn of_istio(s: &Stack) -> Value {
    let mut values = istio_cni::values("/mnt/cni/confdir");
    values["chained"] = json!(false);
    values["provider"] = json!("multus");
    if !s.thick {
        values["cniConfFileName"] = json!("istio-cni.conf");
    }
    values
}

fn there(s: &Stack, talking: &mut Talking<'_>) {
    let istio = IstioCni::install(s, &of_istio(s), &[]);
    talking.start(pod("old-1"), By::Istio);
    talking.start(pod("old-2"), By::Istio);
    // beside Istio's plugin nothing changes, and the agent says why it is not ready
    let said = installed(s);
    assert!(said.contains("IN THE WAY: Istio's own CNI"), "{said}");
    reports(s, "it is in the way", |status| {
        let mut all = status["conditions"].as_array().into_iter().flatten();
        all.any(|c| c["status"] == "False" && c["message"].to_string().contains("istio-cni"))
    });
    talking.start(pod("old-3"), By::Istio);
    let theirs = starts(s, "theirs", By::Istio);
    let started = Instant::now();
    if s.thick {
        attachment_goes_with_istio(s, talking, istio);
    } else {
        attachment_becomes_ours(s, talking, istio);
    }
    talking.start(pod("new-2"), By::Us);
    ready(s, "mesh-optin-agent");
    // older pods need it, and Istio's pod removes its own after its configuration
    let alias = s.path("/mnt/cni/bin/istio-cni");
    assert!(s.wait_for(|| alias.exists().then_some(())).is_some());
    s.note(format!(
        "{:.0} s later Istio's CNI chart was gone and the agent ready",
        started.elapsed().as_secs_f32()
    ));
    let ours = starts(s, "ours", By::Us);
    s.note(format!(
        "of ten pods, one after the other, the fifth was Running and Ready {theirs} after its creation with istio-cni, and {ours} with this"
    ));
    talking.end(&["old-1", "old-2"]);
    // OpenShift's IPTablesUsageObserved
    let rule = iptables_rule(s, &pod("old-3"));
    assert!(rule.is_some_and(|rule| rule.contains("ISTIO_")));
    assert_eq!(iptables_rule(s, &pod("new-1")), None);
}

/// Starts ten pods one after the other; the fifth of the times to Running, and to Ready.
fn starts(s: &Stack, name: &str, by: By) -> String {
    let pods: Vec<_> = (0..10).map(|n| pod(&format!("{name}-{n}"))).collect();
    let (mut running, mut ready) = (Vec::new(), Vec::new());
    for pod in &pods {
        let created = Instant::now();
        s.create(pod);
        let after = |is: fn(&Value) -> bool| {
            while !s.get(pod).is_some_and(|pod| is(&pod["status"])) {
                assert!(created.elapsed() < Duration::from_secs(60), "{}", pod.name);
                std::thread::sleep(Duration::from_millis(10));
            }
            created.elapsed()
        };
        running.push(after(|status| status["phase"] == "Running"));
        ready.push(after(|status| {
            let mut all = status["conditions"].as_array().into_iter().flatten();
            all.any(|c| c["type"] == "Ready" && c["status"] == "True")
        }));
        assert_eq!(redirected_by(s, pod), by, "{}", pod.name);
    }
    s.delete_all(&pods);
    let fifth = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all[4].as_secs_f32()
    };
    format!("{:.2} and {:.2} s", fifth(running), fifth(ready))
}

/// And with it new pods, before Istio's plugin goes with its configuration and program.
fn attachment_becomes_ours(s: &Stack, talking: &mut Talking<'_>, istio: IstioCni<'_>) {
    let ours = "meta.helm.sh/release-name=mesh-optin meta.helm.sh/release-namespace=mesh-optin";
    kubectl(s, &format!("annotate --overwrite {NAD} {ours}"));
    upgraded(s, &[]);
    talking.start(pod("new-1"), By::Us);
    istio.uninstall();
}

/// As where an operator deletes it: pods that name it wait for ours.
fn attachment_goes_with_istio(s: &Stack, talking: &mut Talking<'_>, istio: IstioCni<'_>) {
    istio.uninstall();
    assert!(s.cluster.attachment("default", "istio-cni").is_none());
    s.create(&pod("new-1"));
    upgraded(s, &[]);
    talking.joins(pod("new-1"), By::Us);
}

fn back(s: &Stack, talking: &mut Talking<'_>) {
    let take = ["--take-ownership", "--force-conflicts"];
    let istio = IstioCni::install(s, &of_istio(s), &take);
    talking.start(pod("again-1"), By::Istio);
    talking.all_land();
    // otherwise it would go with our release, whose it was
    kubectl(s, &format!("annotate {NAD} helm.sh/resource-policy=keep"));
    removed(s, || {
        talking.start(pod("again-2"), By::Istio);
        talking.end(&["new-1", "new-2"]);
    });
    kubectl(s, &format!("annotate {NAD} helm.sh/resource-policy-"));
    talking.start(pod("again-3"), By::Istio);
    talking.end(&["old-3", "again-1", "again-2", "again-3"]);
    istio.uninstall();
}
