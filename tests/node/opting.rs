//! Which pods are redirected, however their attachment is named.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    CONFIG, Scenario, THICK, are_redirected, enrolled, is_left_alone, is_redirected,
    lands_at_the_sidecar,
    support::{run, stack::Stack, stack_pod::Pod},
    together,
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    together(
        "a NAD in the pod's own namespace redirects it, out and in",
        |s| {
            enrolled(s, "own");
            let pod = Pod::new("own", "web", "mesh");
            is_redirected(s, &pod);
            s.delete_at_first_attempt(std::slice::from_ref(&pod));
        },
    ),
    together("a pod opts in by its namespace", |s| {
        s.cluster
            .namespace("by-namespace", &json!({"istio.io/rev": "stable"}));
        s.attachment("by-namespace", "mesh", Some(CONFIG));
        is_redirected(s, &Pod::new("by-namespace", "web", "mesh"));
    }),
    together("a workload opts in in a plain namespace", |s| {
        s.cluster.namespace("workload", &json!({}));
        s.attachment("workload", "mesh", Some(CONFIG));
        is_redirected(
            s,
            &Pod::new("workload", "web", "mesh").label("sidecar.istio.io/inject", "true"),
        );
    }),
    together("an opted-out pod is left alone", |s| {
        enrolled(s, "out");
        is_left_alone(
            s,
            &Pod::new("out", "web", "mesh").label("sidecar.istio.io/inject", "false"),
        );
    }),
    together("a pod that is not enrolled is left alone", |s| {
        s.cluster.namespace("plain", &json!({}));
        s.attachment("plain", "mesh", Some(CONFIG));
        is_left_alone(s, &Pod::new("plain", "web", "mesh").without_sidecar());
    }),
    together(
        "the NAD default/istio-cni without a spec finds the node's configuration, across namespaces",
        |s| {
            s.cluster
                .namespace("injected", &json!({"istio-injection": "enabled"}));
            let conf = r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"istio-cni"}"#;
            s.write("/mnt/cni/confdir/istio-cni.conf", conf);
            s.attachment("default", "istio-cni", None);
            is_redirected(s, &Pod::new("injected", "web", "default/istio-cni"));
        },
    ),
    together(
        "a member of an OpenShift Service Mesh 2 mesh is redirected by its own NAD",
        |s| {
            s.cluster
                .namespace("member", &json!({"maistra.io/member-of": "mesh-system"}));
            let conf = r#"{"cniVersion":"1.1.0","name":"v2-6-istio-cni","type":"v2-6-istio-cni"}"#;
            s.write("/mnt/cni/confdir/v2-6-istio-cni.conf", conf);
            s.attachment("member", "v2-6-istio-cni", None);
            is_redirected(s, &Pod::new("member", "web", "v2-6-istio-cni"));
        },
    ),
    together(
        "named first, last and twice, and between macvlan interfaces, it redirects once",
        |s| {
            enrolled(s, "many");
            let macvlan = |name: &str| {
                format!(
                    r#"{{"cniVersion":"1.0.0","name":"{name}","type":"macvlan","master":"node0","ipam":{{}}}}"#
                )
            };
            for name in ["mac-a", "mac-b"] {
                s.attachment("many", name, Some(&macvlan(name)));
            }
            let orders = [
                ("first", "mesh,mac-a"),
                ("last", "mac-a,mac-b,mesh"),
                ("twice", "mesh,mesh"),
                ("between", "mac-a,mesh,mac-b"),
            ];
            are_redirected(
                s,
                &orders.map(|(name, networks)| Pod::new("many", name, networks)),
            );
        },
    ),
    together(
        "a tenant's NAD with settings applies beside the one that Istio's injector adds",
        |s| {
            enrolled(s, "tenant");
            // what its injector names, and what it writes on every pod
            s.attachment("tenant", "istio-cni", Some(CONFIG));
            let settings = json!({"traffic": {"excludeOutboundPorts": "5432"}});
            let config = json!({"cniVersion": "1.1.0", "name": "m", "type": "mesh-optin", "meshOptin": settings});
            s.attachment("tenant", "settings", Some(&config.to_string()));
            let in_json =
                json!([{"name": "settings"}, {"name": "istio-cni", "namespace": "tenant"}])
                    .to_string();
            let pods = [
                ("before", "settings, tenant/istio-cni"),
                ("after", "tenant/istio-cni, settings"),
                ("in-json", &in_json),
            ]
            .map(|(name, networks)| {
                let of_istio = |key: &str| format!("traffic.sidecar.istio.io/{key}");
                Pod::new("tenant", name, networks)
                    .annotation(&of_istio("includeInboundPorts"), "*")
                    .annotation(&of_istio("includeOutboundIPRanges"), "*")
                    .annotation(&of_istio("excludeInboundPorts"), "15020")
            });
            are_redirected(s, &pods);
            for pod in &pods {
                let records = s.records(pod);
                assert_eq!(records.len(), 1, "{records:?}");
                assert_eq!(records[0]["interfaces"], json!(["net1", "net2"]));
                assert_eq!(
                    records[0]["intent"]["outbound"]["excludePorts"],
                    json!([5432])
                );
            }
        },
    ),
    together(
        "the JSON form with an interface's odd name and cni-args redirects",
        |s| {
            enrolled(s, "json");
            let networks = |interface: &str| {
                let args = json!({"meshOptin": {"profile": "other"}, "x": [1, {"y": null}]});
                json!([{"name": "mesh", "namespace": "json", "interface": interface, "cni-args": args}]).to_string()
            };
            are_redirected(
                s,
                &["mesh0", "a.b_c-d@é\"$"]
                    .map(|name| Pod::new("json", &format!("pod-{}", name.len()), &networks(name))),
            );
        },
    ),
    together(
        "a static pod is redirected, though its mirror has another UID",
        |s| {
            enrolled(s, "static");
            let mut pod = Pod::new("static", "web", "mesh");
            let file = s.path("/mnt/manifests/web.json");
            std::fs::write(s.path("/mnt/web.json"), pod.manifest().to_string()).unwrap();
            std::fs::rename(s.path("/mnt/web.json"), &file).unwrap();
            pod.name = "web-node1".into(); // kubelet's name for it
            lands_at_the_sidecar(s, &pod);
            let (mirror, records) = (s.get(&pod).unwrap(), s.records(&pod));
            assert!(
                mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string(),
                "{mirror}"
            );
            assert_eq!(records[0]["uid"], mirror["metadata"]["uid"], "{records:?}");
            std::fs::remove_file(file).unwrap();
            let gone = || (s.get(&pod).is_none() && s.records(&pod).is_empty()).then_some(());
            assert!(s.wait_for(gone).is_some(), "{:?}", s.records(&pod));
        },
    ),
    together(
        "hot-plugged through the daemon it redirects a running pod; its DEL succeeds",
        |s| {
            enrolled(s, "hot");
            let pod = Pod::new("hot", "web", "");
            is_left_alone(s, &pod);
            delegate(s, "ADD", &pod);
            let redirected = || {
                s.answered(&pod)
                    .starts_with("15001 203.0.113.7:80 ")
                    .then_some(())
            };
            assert!(s.wait_for(redirected).is_some(), "{}", s.answered(&pod));
            assert!(s.answered_inside(&pod).starts_with("15006 "));
            delegate(s, "DEL", &pod);
            assert!(
                s.answered_inside(&pod).starts_with("15006 "),
                "while the pod lives it stays redirected"
            );
            s.delete_at_first_attempt(std::slice::from_ref(&pod));
        },
    )
    .only_with(THICK),
    together(
        "pods are redirected while the program is replaced by rename again and again",
        |s| {
            enrolled(s, "replaced");
            let (program, new) = (
                s.path("/mnt/cni/bin/mesh-optin"),
                s.path("/mnt/mesh-optin.new"),
            );
            let done = AtomicBool::new(false);
            let replaced = std::thread::scope(|scope| {
                let replacing = scope.spawn(|| {
                    let mut replaced = 0;
                    while !done.load(Ordering::Relaxed) {
                        // a child of ours would for a moment have it open for writing, and nobody could execute it
                        let copied = [env!("CARGO_BIN_EXE_mesh-optin"), new.to_str().unwrap()];
                        run("cp", &copied, "");
                        std::fs::rename(&new, &program).unwrap();
                        replaced += 1;
                    }
                    replaced
                });
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    are_redirected(
                        s,
                        &std::array::from_fn::<_, 8, _>(|n| {
                            Pod::new("replaced", &format!("p{n}"), "mesh")
                        }),
                    );
                }));
                done.store(true, Ordering::Relaxed);
                ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                replacing.join().unwrap()
            });
            // how often depends on the disk
            assert!(replaced > 3, "{replaced}");
        },
    ),
    together("nothing in a forged prevResult is trusted", |s| {
        s.cluster
            .namespace("forged", &json!({"istio-injection": "enabled"}));
        let forged = r#"{"cniVersion":"1.0.0","name":"m","type":"mesh-optin","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/proc/1/ns/net"}],"ips":[{"address":"192.0.2.1/24","interface":0}]}}"#;
        s.attachment("forged", "mesh", Some(forged));
        is_redirected(s, &Pod::new("forged", "web", "mesh"));
    }),
    together(
        "a pod that is deleted and recreated under its name is redirected again",
        |s| {
            enrolled(s, "again");
            let pod = Pod::new("again", "web", "mesh");
            for _ in 0..2 {
                is_redirected(s, &pod);
                s.delete(&pod);
            }
        },
    ),
    together(
        "pods whose NAD is deleted keep their redirection and can be deleted",
        |s| {
            enrolled(s, "gone");
            let pod = Pod::new("gone", "web", "mesh");
            is_redirected(s, &pod);
            s.cluster
                .request(
                    "DELETE",
                    "/apis/k8s.cni.cncf.io/v1/namespaces/gone/network-attachment-definitions/mesh",
                    &json!({}),
                )
                .unwrap();
            assert!(s.answered_inside(&pod).starts_with("15006 "));
            s.delete_at_first_attempt(std::slice::from_ref(&pod));
        },
    ),
];

/// Asks Multus's daemon for our delegate, as controllers that hot-plug do; fails the test if it fails.
fn delegate(s: &Stack, verb: &str, pod: &Pod) {
    let uid = s.get(pod).unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let args = format!(
        "K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={uid}",
        pod.namespace, pod.name
    );
    let env = json!({"CNI_COMMAND": verb, "CNI_CONTAINERID": "hotplug", "CNI_NETNS": s.netns(pod), "CNI_IFNAME": "net1", "CNI_ARGS": args});
    let body = json!({"env": env, "config": STANDARD.encode(CONFIG)}).to_string();
    let socket = s.path("/mnt/socket/multus.sock");
    let answer = run(
        "curl",
        &[
            "-sS",
            "-w",
            "%{http_code}",
            "--unix-socket",
            socket.to_str().unwrap(),
            "-d",
            "@-",
            "http://multus/delegate",
        ],
        &body,
    );
    assert!(answer.ends_with("200"), "{verb}: {answer}");
}
