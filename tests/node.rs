//! On the real stack: kube-apiserver, kubelet, containerd, and Multus thin and thick call the program as on any node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking, and prints its scenarios")]

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use serde_json::json;
use support::stack::{Pod, Stack};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;
/// What a redirected application's connection is answered by: the sidecar, which knows where it was to go.
const BY_THE_SIDECAR: &str = "15001 203.0.113.7:80";
const BY_THE_WORLD: &str = "80 203.0.113.7:80";

/// A namespace that Istio injects, with our attachment.
fn enrolled(stack: &Stack, name: &str) {
    stack.cluster.namespace(name, &json!({"istio-injection": "enabled"}));
    stack.attachment(name, "mesh", Some(CONFIG));
}

fn is_redirected(stack: &Stack, pod: &Pod) {
    stack.create(pod);
    stack.running(pod);
    assert_eq!(stack.answered(pod), BY_THE_SIDECAR);
}

fn is_left_alone(stack: &Stack, pod: &Pod) {
    stack.create(pod);
    stack.running(pod);
    assert_eq!(stack.answered(pod), BY_THE_WORLD);
}

/// The event names the Reason and the remedy, in what is shown of an event whatever the callers put around them.
fn is_refused(stack: &Stack, pod: &Pod, reason: &str, part: &str) {
    stack.create(pod);
    let message = stack.refused(pod);
    let shown = message.get(..1024).unwrap_or(&message);
    assert!(shown.contains(&format!("{reason}: ")) && shown.contains(part), "{message}");
}

type Scenario = (&'static str, fn(&Stack));

const SCENARIOS: &[Scenario] = &[
    ("a NAD in the pod's own namespace redirects it", |s| {
        enrolled(s, "own");
        let pod = Pod::new("own", "web", "mesh");
        is_redirected(s, &pod);
        assert!(s.delete(&pod) < Duration::from_secs(20));
    }),
    ("an opted-out pod is left alone", |s| {
        enrolled(s, "out");
        is_left_alone(s, &Pod::new("out", "web", "mesh").label("sidecar.istio.io/inject", "false"));
    }),
    ("a pod of a namespace that is not enrolled and has no sidecar is left alone", |s| {
        s.cluster.namespace("plain", &json!({}));
        s.attachment("plain", "mesh", Some(CONFIG));
        is_left_alone(s, &Pod::new("plain", "web", "mesh").without_sidecar());
    }),
    ("a workload opts in in a plain namespace", |s| {
        s.cluster.namespace("workload", &json!({}));
        s.attachment("workload", "mesh", Some(CONFIG));
        is_redirected(s, &Pod::new("workload", "web", "mesh").label("sidecar.istio.io/inject", "true"));
    }),
    ("the NAD default/istio-cni without a spec finds the node's configuration, across namespaces", |s| {
        s.cluster.namespace("injected", &json!({"istio-injection": "enabled"}));
        let conf = r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"istio-cni"}"#;
        std::fs::write(s.cluster.directory.join("cni/confdir/istio-cni.conf"), conf).unwrap();
        s.attachment("default", "istio-cni", None);
        is_redirected(s, &Pod::new("injected", "web", "default/istio-cni"));
    }),
    ("a member of an OpenShift Service Mesh 2 mesh is redirected by its own NAD", |s| {
        s.cluster.namespace("member", &json!({"maistra.io/member-of": "mesh-system"}));
        let conf = r#"{"cniVersion":"1.1.0","name":"v2-6-istio-cni","type":"v2-6-istio-cni"}"#;
        std::fs::write(s.cluster.directory.join("cni/confdir/v2-6-istio-cni.conf"), conf).unwrap();
        s.attachment("member", "v2-6-istio-cni", None);
        is_redirected(s, &Pod::new("member", "web", "v2-6-istio-cni"));
    }),
    ("named first, last and twice, and between macvlan interfaces, it redirects once", |s| {
        enrolled(s, "many");
        let macvlan = |name: &str| format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"macvlan","master":"node0","ipam":{{}}}}"#);
        for name in ["mac-a", "mac-b"] {
            s.attachment("many", name, Some(&macvlan(name)));
        }
        for (name, networks) in
            [("first", "mesh,mac-a"), ("last", "mac-a,mac-b,mesh"), ("twice", "mesh,mesh"), ("between", "mac-a,mesh,mac-b")]
        {
            is_redirected(s, &Pod::new("many", name, networks));
        }
    }),
    ("the JSON form with an interface's name and cni-args redirects", |s| {
        enrolled(s, "json");
        let networks =
            r#"[{"name":"mesh","namespace":"json","interface":"mesh0","cni-args":{"meshOptin":{"profile":"other"},"x":[1,{"y":null}]}}]"#;
        is_redirected(s, &Pod::new("json", "web", networks));
    }),
    ("a pod that asks for a sidecar and has none is refused, and the event says why and what to do", |s| {
        enrolled(s, "missing");
        let pod = Pod::new("missing", "web", "mesh").without_sidecar().label("sidecar.istio.io/inject", "true");
        is_refused(s, &pod, "SidecarMissing", "check that the sidecar injector is running");
        assert!(s.delete(&pod) < Duration::from_secs(20));
    }),
    ("a hostile NAD is named in the event and changes nothing on the node", |s| {
        s.cluster.namespace("hostile", &json!({"istio-injection": "enabled"}));
        let before = s.own_files();
        for (name, mesh_optin) in [
            ("path", r#"{"credential":"/etc/shadow"}"#.to_owned()),
            ("type", r#"{"traffic":{"excludeOutboundPorts":80}}"#.to_owned()),
            ("text", r#"{"traffic":{"excludeInterfaces":"x; reboot"}}"#.to_owned()),
            ("long", format!(r#"{{"profile":"{}"}}"#, "x".repeat(100_000))),
        ] {
            s.attachment(
                "hostile",
                name,
                Some(&format!(r#"{{"cniVersion":"1.1.0","name":"m","type":"mesh-optin","meshOptin":{mesh_optin}}}"#)),
            );
            let pod = Pod::new("hostile", name, name);
            s.create(&pod);
            let message = s.refused(&pod);
            assert!(message.contains("InvalidAttachment: ") || message.contains("UnknownProfile: "), "{message}");
            s.delete(&pod);
        }
        assert_eq!(s.own_files(), before);
    }),
    ("a forged prevResult is trusted in nothing", |s| {
        s.cluster.namespace("forged", &json!({"istio-injection": "enabled"}));
        let forged = r#"{"cniVersion":"1.0.0","name":"m","type":"mesh-optin","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/proc/1/ns/net"}],"ips":[{"address":"192.0.2.1/24","interface":0}]}}"#;
        s.attachment("forged", "mesh", Some(forged));
        is_redirected(s, &Pod::new("forged", "web", "mesh"));
    }),
    ("as the default network it finds no eth0 and says so", |s| {
        enrolled(s, "default-network");
        let mut pod = Pod::new("default-network", "web", "");
        pod.annotations.push(("v1.multus-cni.io/default-network".into(), "default-network/mesh".into()));
        is_refused(s, &pod, "NoPrimaryInterface", "never as the default network");
        s.delete(&pod);
    }),
    ("a pod waits while the credential is missing, and starts when it is back", |s| {
        enrolled(s, "credential");
        std::fs::remove_file(s.path("/var/lib/mesh-optin/api/token")).unwrap();
        let pod = Pod::new("credential", "web", "mesh");
        s.create(&pod);
        let message = s.refused(&pod);
        s.install_credential();
        assert!(message.contains("NoSource: ") || message.contains("NodeConfigInvalid: "), "{message}");
        s.running(&pod);
        assert_eq!(s.answered(&pod), BY_THE_SIDECAR);
    }),
    ("a pod waits while the node's configuration is broken, and starts when it is mended; one that is deleted meanwhile goes", |s| {
        enrolled(s, "broken");
        s.write("/etc/mesh-optin/node.yaml", "deadlin: 5s");
        let (stays, goes) = (Pod::new("broken", "stays", "mesh"), Pod::new("broken", "goes", "mesh"));
        for pod in [&stays, &goes] {
            is_refused(s, pod, "NodeConfigInvalid", "deadlin");
        }
        assert!(s.delete(&goes) < Duration::from_secs(20));
        s.write("/etc/mesh-optin/node.yaml", "{sources: [api], deadline: 5s}");
        s.running(&stays);
        assert_eq!(s.answered(&stays), BY_THE_SIDECAR);
    }),
    ("a pod waits while the program is missing, and starts when it is back", |s| {
        enrolled(s, "program");
        let program = s.cluster.directory.join("cni/bin/mesh-optin");
        std::fs::remove_file(&program).unwrap();
        let pod = Pod::new("program", "web", "mesh");
        s.create(&pod);
        let message = s.refused(&pod);
        s.install("mesh-optin");
        assert!(message.contains("mesh-optin"), "{message}");
        s.running(&pod);
        assert_eq!(s.answered(&pod), BY_THE_SIDECAR);
    }),
    ("a pod that is deleted and made anew under its name is redirected again", |s| {
        enrolled(s, "again");
        let pod = Pod::new("again", "web", "mesh");
        for _ in 0..2 {
            is_redirected(s, &pod);
            s.delete(&pod);
        }
    }),
    ("pods whose NAD is deleted keep their redirection and can be deleted", |s| {
        enrolled(s, "gone");
        let pod = Pod::new("gone", "web", "mesh");
        is_redirected(s, &pod);
        s.cluster.request("DELETE", "/apis/k8s.cni.cncf.io/v1/namespaces/gone/network-attachment-definitions/mesh", &json!({})).unwrap();
        assert_eq!(s.answered(&pod), BY_THE_SIDECAR);
        assert!(s.delete(&pod) < Duration::from_secs(30));
    }),
    ("pods can be deleted while the API server's credential and the node's configuration are broken", |s| {
        enrolled(s, "del");
        let pods: Vec<_> = (0..10).map(|n| Pod::new("del", &format!("p{n}"), "mesh")).collect();
        pods.iter().for_each(|p| s.create(p));
        pods.iter().for_each(|p| s.running(p));
        s.write("/etc/mesh-optin/node.yaml", "[");
        s.write("/var/lib/mesh-optin/api/token", "nonsense");
        let started = Instant::now();
        for pod in &pods {
            s.cluster.request("DELETE", &pod.path(), &json!({"gracePeriodSeconds": 1})).unwrap();
        }
        let all_gone = || pods.iter().all(|p| s.cluster.request("GET", &p.path(), &json!(null)).is_err());
        while !all_gone() && started.elapsed() < Duration::from_secs(40) {
            std::thread::sleep(Duration::from_millis(200));
        }
        s.write("/etc/mesh-optin/node.yaml", "{sources: [api], deadline: 5s}");
        s.install_credential();
        assert!(all_gone(), "{:?}", started.elapsed());
    }),
];

/// Runs every scenario and prints them as a table.
fn all(multus: &str) {
    let started = Instant::now();
    let stack = Stack::start(multus);
    println!("{multus} Multus: up in {:.1} s", started.elapsed().as_secs_f32());
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS {
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| scenario(&stack)));
        println!("  {multus:5}  {}  {:5.1} s  {name}", if ended.is_ok() { "ok    " } else { "FAILED" }, started.elapsed().as_secs_f32());
        if ended.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{multus} Multus: {failed:#?}");
}

#[test]
fn on_a_node_with_thin_multus() {
    all("thin");
}

#[test]
fn on_a_node_with_thick_multus() {
    all("thick");
}
