//! On which labels of its namespace a pod is decided, and what it costs the API server that the agent knows them.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::support::lab::inside;

/// A port that leads to the API server, everything a while later.
fn delayed(cluster: &Cluster, delay: Duration) -> u16 {
    inside(&cluster.netns, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let carry = move |mut from: TcpStream, mut to: TcpStream| {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                std::thread::sleep(delay);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            to.shutdown(std::net::Shutdown::Both).ok();
        };
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect("127.0.0.1:6443") else {
                    continue;
                };
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || carry(near_too, far));
                std::thread::spawn(move || carry(far_too, near));
            }
        });
        port
    })
}

fn labeled(cluster: &Cluster, namespace: &str, labels: &Value) {
    let path = format!("/api/v1/namespaces/{namespace}");
    cluster.patch(&path, &json!({"metadata": {"labels": labels}}));
}

#[test]
fn a_pod_is_decided_on_the_labels_that_its_namespace_had_when_it_was_created() {
    const TIMES: usize = 200;
    on_node_with_agent(|node| {
        for (name, spec) in [
            ("a", json!({"namespaces": {"matchLabels": {"team": "a"}}})),
            (
                "b",
                json!({"namespaces": {"matchLabels": {"team": "b"}}, "suspended": true}),
            ),
        ] {
            let mut profile = profile(&spec);
            profile["metadata"]["name"] = json!(name);
            let path = format!("etc/mesh-optin/profiles/{name}.yaml");
            node.write(&path, &profile.to_string());
        }
        cluster().namespace("moving", &json!({"team": "a"}));
        let port = delayed(cluster(), Duration::from_millis(25)).to_string();
        let _agent = Agent::start_at(node, cluster(), "moving", &port, &[]).ready();
        let states = [
            (
                json!({"team": "a", "istio-injection": "enabled"}),
                "Redirected",
            ),
            (
                json!({"team": "b", "istio-injection": "enabled"}),
                "Suspended",
            ),
            (
                json!({"team": "a", "istio-injection": null}),
                "UnenrolledSidecar",
            ),
        ];
        for n in 0..TIMES {
            // each follows each of the others
            let (labels, expected) = &states[(n + n / 3) % 3];
            labeled(cluster(), "moving", labels);
            let name = format!("p{n}");
            let pod = cluster().create_changed_pod_in("moving", "defaults", &name, |pod| {
                pod["spec"]["nodeName"] = json!("moving");
            });
            let lab = node.pod(&name, V4);
            let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
            assert_eq!(call.logged_reason(), *expected, "{n}: {call:?}");
        }
    });
}

#[test]
fn a_refused_pod_starts_when_its_namespace_is_labeled() {
    on_node_with_agent(|node| {
        cluster().namespace("late", &json!({}));
        let _agent = Agent::start(node, cluster(), "late", &[]).ready();
        let pod = cluster().create_changed_pod_in("late", "defaults", "late", |pod| {
            pod["spec"]["nodeName"] = json!("late");
        });
        let lab = node.pod("a", V4);
        let reason = || add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason();
        assert_eq!(reason(), "UnenrolledSidecar");
        labeled(cluster(), "late", &json!({"istio-injection": "enabled"}));
        let started = Instant::now();
        while reason() != "Redirected" {
            assert!(started.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_secs(1)); // as kubelet does, every 15 s
        }
    });
}

#[test]
fn the_pods_of_sixty_namespaces_take_two_watches_and_one_read_of_each_namespace() {
    const NAMESPACES: usize = 60;
    let cluster = Cluster::start_with_team_a();
    cluster.apply(include_str!(
        "../../../crds/meshoptin.dev_meshprofiles.yaml"
    ));
    for n in 0..NAMESPACES {
        let name = format!("n{n}");
        cluster.namespace(&name, &json!({"istio-injection": "enabled"}));
        cluster.create_changed_pod_in(&name, "defaults", "web", |pod| {
            pod["spec"]["nodeName"] = json!("sixty");
        });
    }
    let watches = || {
        let metrics = cluster.enter(&["kubectl", "get", "--raw", "/metrics"]);
        let is_watch = |line: &&str| {
            line.starts_with("apiserver_longrunning_requests{") && line.contains("verb=\"WATCH\"")
        };
        let counts = metrics.lines().filter(is_watch);
        counts
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum::<f64>()
    };
    // the API server has some of its own
    let mut own = watches();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = watches();
        if now == own {
            break;
        }
        own = now;
    }
    on_node_with_agent(|node| {
        let agent = Agent::start(node, &cluster, "sixty", &[]).ready();
        agent.reaches("mesh_optin_cached_namespaces", NAMESPACES as f64);
        // of pods, and of MeshProfiles
        until(
            || watches() - own == 2.0,
            || format!("{} watches", watches() - own),
        );
        let requests = cluster.requests_of("system:serviceaccount:mesh-optin:agent");
        let of = |start: &str| requests.iter().filter(|r| r.starts_with(start)).count();
        assert_eq!(of("get /api/v1/namespaces/n"), NAMESPACES, "{requests:#?}");
        assert_eq!(of("list /api/v1/namespaces"), 0);
    });
}
