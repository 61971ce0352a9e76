//! Admins, tenants and Istio's chart beside each other: all of it by Helm, profiles, labels and Deployments.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    daemonset::{import_image, restored},
    footprint::Footprint,
    helm::{CRD_NAMES, CRDS, helm, ready, remove_everything, values},
};
use crate::{
    Scenario, alone,
    istio_cni::IstioCni,
    lands_at_the_sidecar,
    support::{controller, lab::inside, run, stack::Stack, stack_pod::Pod},
};

const CONTROLLER: &str = "deployment/mesh-optin-controller";
/// The attachment that Istio's injector names, and a namespace's own.
const SHARED: &str = "default/istio-cni";
const OWN: &str = "istio-cni";
const NAMESPACES: [&str; 6] = ["shop", "annex", "bank", "vault", "late", "early"];

pub(super) const SCENARIO: Scenario = alone(
    "tenants opt in by labels alone, also while the controller is away, and nothing is left of it",
    |s| {
        restored(s, || {
            let program = controller::program();
            import_image(s, &[program.to_str().unwrap()]);
            remove_everything(s);
            with_service_network(s, || {
                let before = Footprint::once_settled(s);
                let started = Instant::now();
                let took = |what: &str| {
                    let took = started.elapsed().as_secs_f32();
                    s.note(format!("{took:.0} s after `helm install` {what}"));
                };
                let istio = installed_beside_istio(s);
                tenants_opt_in(s);
                took("with the controller, 5 Deployments had started as their labels say");
                istio_goes_comes_and_goes(s, istio);
                took("Istio's CNI chart had gone, come and gone");
                without_the_controller(s);
                took("the controller was away, and 6 namespaces were gone");
                removed(s);
                before.is_restored(s, &[]);
                took("nothing was left of it");
            });
            s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
        });
    },
);

/// Does `work` while pods, and programs of the node, reach the API server by its Service, which nobody serves on this node.
pub(crate) fn with_service_network(s: &Stack, work: impl FnOnce()) {
    let nft = |commands: &str| {
        inside(&s.cluster.netns, || run("nft", &["-f", "-"], commands));
    };
    let routed = "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip route replace 10.96.0.0/24 dev node0";
    s.cluster.enter(&["sh", "-c", routed]);
    let service = "ip daddr 10.96.0.1 tcp dport 443 dnat to 127.0.0.1:6443;";
    nft(&format!(
        "table ip services {{ chain pods {{ type nat hook prerouting priority -100; {service} }}; chain node {{ type nat hook output priority -100; {service} }}; }}",
    ));
    let done = catch_unwind(AssertUnwindSafe(work));
    nft("delete table ip services");
    s.cluster
        .enter(&["ip", "route", "del", "10.96.0.0/24", "dev", "node0"]);
    done.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Istio's chart was there first; its attachment serves as well.
fn installed_beside_istio(s: &Stack) -> IstioCni<'_> {
    let istio = IstioCni::install_elsewhere(s, &[]);
    let mut values = values(s);
    values["controller"] = json!({"enabled": true});
    values["meshProfile"] = json!({"create": false});
    helm(s, &["install", "--create-namespace"], &values);
    let established = ["wait", "--for=condition=Established", "crd"];
    kubectl(s, &[&established[..], &CRD_NAMES].concat());
    s.cluster.profile("default", &json!({}));
    let own = json!({"namespaces": {"matchLabels": {"tenancy": "own"}}, "attachment": {"placement": "PerNamespace"}});
    s.cluster.profile("own", &own);
    let injected = json!({"istio-injection": "enabled"});
    s.cluster.namespace("shop", &injected);
    s.cluster.namespace("annex", &json!({}));
    let own = json!({"tenancy": "own"});
    s.cluster.namespace("vault", &own);
    let own = json!({"tenancy": "own", "istio-injection": "enabled"});
    s.cluster.namespace("bank", &own);
    profiles_are_ready(s);
    let attachment = s.cluster.attachment("default", OWN).unwrap();
    assert!(is_of_istio(&attachment), "{attachment:#}");
    let is_left = attachment["spec"].is_null() && !is_shared(&attachment);
    assert!(is_left, "Istio's is left as it was: {attachment:#}");
    istio
}

/// In each namespace it opts in itself, or its workload alone does; each names an attachment that its placement has.
fn tenants_opt_in(s: &Stack) {
    let by_label = |namespace: &str, name: &str, networks: &str| {
        Pod::new(namespace, name, networks).label("sidecar.istio.io/inject", "true")
    };
    deploy(s, &Pod::new("shop", "web", SHARED));
    deploy(s, &by_label("annex", "web", SHARED));
    deploy(s, &Pod::new("bank", "web", OWN));
    deploy(s, &by_label("vault", "web", OWN));
    deploy(s, &Pod::new("annex", "batch", SHARED).without_sidecar());
    for namespace in ["shop", "annex", "bank", "vault"] {
        are_redirected(s, namespace);
    }
    let one = |name: &str| s.wait_for(|| pods(s, "annex", name).pop()).unwrap();
    let batch = one("batch");
    s.running(&batch);
    assert!(s.answered(&batch).starts_with("80 203.0.113.7:80 "));
    assert!(s.answered_inside(&batch).starts_with("8080 "));
    deploy(s, &by_label("annex", "lost", SHARED).without_sidecar());
    let why = s.refused(&one("lost"));
    assert!(why.contains("SidecarMissing"), "{why}");
    delete(s, "annex", &["deployment/lost"]);
}

fn istio_goes_comes_and_goes(s: &Stack, istio: IstioCni<'_>) {
    istio.uninstall();
    let is_ours = || {
        let made = s.cluster.attachment("default", OWN)?;
        (is_shared(&made) && !is_of_istio(&made)).then_some(())
    };
    assert!(s.wait_for(is_ours).is_some(), "ours takes its place");
    others_are_redirected(s, &["shop", "annex"]);
    // installed again, Istio's chart takes over the one that it finds, and the controller lets it
    let istio = IstioCni::install_elsewhere(s, &["--take-ownership", "--force-conflicts"]);
    others_are_redirected(s, &["shop"]);
    profiles_are_ready(s);
    let attachment = s.cluster.attachment("default", OWN).unwrap();
    assert!(is_of_istio(&attachment), "{attachment:#}");
    istio.uninstall();
    assert!(s.wait_for(is_ours).is_some(), "ours is there again");
    delete(s, "default", &["namespace/istio-cni"]);
}

fn without_the_controller(s: &Stack) {
    let in_namespace = ["-n", "mesh-optin"];
    let scale = ["scale", CONTROLLER, "--replicas=0"];
    kubectl(s, &[&in_namespace[..], &scale].concat());
    let labels = "app.kubernetes.io/name=mesh-optin-controller";
    let gone = [
        "wait",
        "--for=delete",
        "pod",
        "-l",
        labels,
        "--timeout=180s",
    ];
    kubectl(s, &[&in_namespace[..], &gone].concat());
    s.cluster
        .namespace("late", &json!({"istio-injection": "enabled"}));
    deploy(s, &Pod::new("late", "web", SHARED));
    // what the controller would have made is missing: its pod does not start instead of starting outside of the mesh
    let own = json!({"tenancy": "own", "istio-injection": "enabled"});
    s.cluster.namespace("early", &own);
    deploy(s, &Pod::new("early", "web", OWN));
    others_are_redirected(s, &["shop", "annex", "bank", "vault"]);
    are_redirected(s, "late");
    let waits = || {
        let pod = pods(s, "early", "web").pop()?;
        let mut events = s.events(&pod).into_iter();
        events.find(|(_, message)| message.contains("cannot find a network-attachment-definition"))
    };
    assert!(s.wait_for(waits).is_some());
    // each of these waits for what it deletes to be gone
    delete(s, "annex", &["deployment/batch"]);
    delete(s, "default", &["meshprofile/own"]);
    let namespaces = NAMESPACES.map(|name| format!("namespace/{name}"));
    delete(s, "default", &namespaces.each_ref().map(String::as_str));
}

/// The steps of deploy/README.md.
fn removed(s: &Stack) {
    let uninstall = ["upgrade", "--reuse-values", "--set=uninstall=true"];
    helm(s, &uninstall, &json!({}));
    ready(s, "mesh-optin-uninstall");
    let started = Instant::now();
    s.cluster
        .enter(&["helm", "uninstall", "mesh-optin", "--namespace=mesh-optin"]);
    let pods = "/api/v1/namespaces/mesh-optin/pods";
    let gone = || {
        let list = s.cluster.request("GET", pods, &Value::Null).ok()?;
        list["items"].as_array()?.is_empty().then_some(())
    };
    assert!(s.wait_for(gone).is_some());
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(29), // of the 30 that they are given
        "its pods do not end before they are killed: {took:?}"
    );
    for label in ["meshoptin.dev/profile", "meshoptin.dev/shared"] {
        let attachments = ["delete", "network-attachment-definitions", "-A", "-l"];
        kubectl(s, &[&attachments[..], &[label]].concat());
    }
    let allow = ["meshoptin.dev/allow-delete=true"];
    kubectl(s, &[&["annotate", "crd"], &CRD_NAMES[..], &allow].concat());
    kubectl(s, &[&["delete", "crd"], &CRD_NAMES[..]].concat());
    delete(s, "default", &["namespace/mesh-optin"]);
}

fn kubectl(s: &Stack, args: &[&str]) -> String {
    s.cluster.enter(&[&["kubectl"], args].concat())
}

/// Deletes these, and waits until they are gone.
fn delete(s: &Stack, namespace: &str, what: &[&str]) {
    let args = ["-n", namespace, "delete", "--timeout=180s"];
    kubectl(s, &[&args[..], what].concat());
}

fn profiles_are_ready(s: &Stack) {
    for name in ["default", "own"] {
        s.cluster.wait_for_profile(name);
    }
}

/// Whether an attachment belongs to the release of Istio's chart.
fn is_of_istio(attachment: &Value) -> bool {
    attachment["metadata"]["annotations"]["meta.helm.sh/release-name"] == "istio-cni"
}

/// Whether the controller has made it for all namespaces.
fn is_shared(attachment: &Value) -> bool {
    attachment["metadata"]["labels"]["meshoptin.dev/shared"] == "true"
}

/// A Deployment of pods like this one, wherever they are scheduled.
fn deploy(s: &Stack, pod: &Pod) {
    let (name, pod) = (pod.name.as_str(), pod.clone().label("app", &pod.name));
    let mut template = pod.manifest();
    let object = json!({
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"]},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "containers": template["spec"]["containers"].take(),
            },
        }},
    });
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", pod.namespace);
    s.cluster.create(&path, &object);
}

/// The pods of a Deployment that stay.
fn pods(s: &Stack, namespace: &str, name: &str) -> Vec<Pod> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app={name}");
    let list = s.cluster.request("GET", &path, &Value::Null).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let stay = items.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    stay.map(|pod| Pod::new(namespace, pod["metadata"]["name"].as_str().unwrap(), ""))
        .collect()
}

/// The pods of a namespace's Deployment are up, and redirected.
fn are_redirected(s: &Stack, namespace: &str) {
    let status = ["rollout", "status", "deployment/web", "--timeout=180s"];
    kubectl(s, &[&["-n", namespace], &status[..]].concat());
    let pods = pods(s, namespace, "web");
    assert!(!pods.is_empty());
    pods.iter().for_each(|pod| lands_at_the_sidecar(s, pod));
}

/// Other pods take the place of those of these namespaces, and are redirected.
fn others_are_redirected(s: &Stack, namespaces: &[&str]) {
    for namespace in namespaces {
        let restart = ["-n", namespace, "rollout", "restart", "deployment/web"];
        kubectl(s, &restart);
    }
    for namespace in namespaces {
        are_redirected(s, namespace);
    }
}
