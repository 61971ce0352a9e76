//! What the agent answers, and to whom.

use super::*;
use crate::support::{cluster::SERVER, lab::inside};

#[test]
fn a_pod_is_answered_from_memory_and_gets_an_event() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "memory", &[]).ready();
        let pod = cluster().create_pod_on("memory", "defaults", "from-memory");
        agent.reaches("mesh_optin_cached_pods", 1.0);
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(
            (call.code, call.logged_reason().as_str()),
            (0, "Redirected"),
            "{call:?}"
        );
        is_redirected(&lab);
        assert_eq!(
            agent.metric(r#"mesh_optin_look_ups_total{source="cache"}"#),
            1.0
        );
        agent.reaches(
            r#"mesh_optin_adds_total{outcome="redirected",reason="Redirected",source="agent"}"#,
            1.0,
        );
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        assert_eq!(
            cluster().events_of(&pod),
            [("Redirected".to_owned(), "Normal".to_owned())]
        );
    });
}

#[test]
fn a_pod_without_a_uid_or_newer_than_the_watch_is_read_from_the_api_and_never_mistaken_for_an_earlier_one()
 {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "fresh", &[]).ready();
        let lab = node.pod("a", V4);
        let first = cluster().create_pod_on("fresh", "defaults", "again");
        let without_uid = cni_args(&first)
            .split(";K8S_POD_UID")
            .next()
            .unwrap()
            .to_owned()
            + ";K8S_POD_UID=";
        assert_eq!(
            add(node, cluster(), &lab.netns, &without_uid).logged_reason(),
            "Redirected"
        );
        assert_eq!(
            agent.metric(r#"mesh_optin_look_ups_total{source="api"}"#),
            1.0
        );
        for n in 0..10 {
            cluster()
                .request(
                    "DELETE",
                    "/api/v1/namespaces/team-a/pods/again",
                    &json!({"gracePeriodSeconds": 0}),
                )
                .unwrap();
            let again = cluster().create_pod_on("fresh", "opt-out", "again");
            let other = node.pod(&format!("again-{n}"), V4);
            let call = add(node, cluster(), &other.netns, &cni_args(&again));
            assert_eq!(call.logged_reason(), "OptedOut", "{call:?}");
            let (message, code) = add(node, cluster(), &lab.netns, &cni_args(&first)).error();
            assert!(
                message.starts_with("PodUidMismatch: ") && code == 11,
                "{message}"
            );
        }
    });
}

#[test]
fn connections_held_open_do_not_block_the_metrics() {
    on_node_with_agent(|node| {
        let args = ["--metrics-address", "127.0.0.1", "--metrics-port", "19648"];
        let _agent = Agent::start(node, cluster(), "blind", &args).ready();
        inside(&cluster().netns, || {
            let connect = || std::net::TcpStream::connect("127.0.0.1:19648");
            let started = Instant::now();
            while connect().is_err() {
                assert!(started.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(50));
            }
            let idle: Vec<_> = (0..300).map(|_| connect().unwrap()).collect();
            let text = crate::support::run(
                "curl",
                &["-sS", "-m", "5", "http://127.0.0.1:19648/metrics"],
                "",
            );
            assert!(text.contains("mesh_optin_build_info"), "{text}");
            drop(idle);
        });
    });
}

#[test]
fn known_pods_are_answered_while_the_api_server_is_down() {
    let cluster = Cluster::start_with_team_a();
    on_node_with_agent(|node| {
        let agent = Agent::start(node, &cluster, "down", &[]).ready();
        let pod = cluster.create_pod_on("down", "defaults", "known");
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        let lab = node.pod("a", V4);
        let before = node.pod("before", V4);
        let has_run = cluster.create_pod_on("down", "defaults", "has-run");
        cluster.patch(
            "/api/v1/namespaces/team-a/pods/has-run/status",
            &json!({"status": {"containerStatuses": [{"name": "istio-proxy", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "containerID": "containerd://1"}]}}),
        );
        assert_eq!(
            add(node, &cluster, &before.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        // that ADD asked the API server nothing; the agent follows this node's pods and their namespaces only
        let of = |account: &str| {
            cluster.requests_of(&format!("system:serviceaccount:mesh-optin:{account}"))
        };
        assert!(of("node").is_empty(), "{:?}", of("node"));
        let of_agent = of("agent");
        for request in &of_agent {
            let about = request.split(['?', '&']).collect::<Vec<_>>();
            let expected = match about[0] {
                "list /api/v1/pods" => about.contains(&concat!(
                    "fieldSelector=spec.nodeName%3Ddown%2Cstatus.phase%21%3DSucceeded",
                    "%2Cstatus.phase%21%3DFailed%2Cspec.hostNetwork%3Dfalse"
                )),
                "get /api/v1/namespaces/team-a" => true,
                "create /apis/events.k8s.io/v1/namespaces/team-a/events"
                | "list /apis/meshoptin.dev/v1alpha1/meshprofiles"
                | "patch /apis/meshoptin.dev/v1alpha1/meshnodes/down" => true,
                _ => false,
            };
            assert!(expected, "{request}");
        }
        assert!(
            of_agent.iter().any(|r| r.starts_with("list /api/v1/pods")),
            "{of_agent:?}"
        );
        agent.reaches("mesh_optin_cached_pods", 2.0);
        cluster.signal(Signal::SIGKILL);
        let started = Instant::now();
        let call = add(node, &cluster, &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        // the namespace of one that has run would be read again, but it is not held up
        let other = node.pod("b", V4);
        let started = Instant::now();
        let call = add(node, &cluster, &other.netns, &cni_args(&has_run));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        node.write("etc/mesh-optin/node.yaml", "{deadline: 10s}");
        let unknown = cni_args(&pod).replace("NAME=known", "NAME=unknown");
        let (message, _) = add(node, &cluster, &lab.netns, &unknown).error();
        assert!(
            message.starts_with("ApiUnreachable: https://127.0.0.1:6443"),
            "{message}"
        );
    });
}

#[test]
fn only_root_can_use_the_socket_and_slow_peers_block_no_one() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "socket", &[]).ready();
        let socket = node.path("run/mesh-optin/agent.sock");
        let mode = |path: &std::path::Path| {
            std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
        };
        assert_eq!(
            (mode(&socket), mode(socket.parent().unwrap())),
            (0o600, 0o700)
        );
        let silent: Vec<_> = (0..300)
            .map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap())
            .collect();
        let mut endless = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut endless, &vec![b'x'; 100 << 10]).ok();
        let pod = cluster().create_pod_on("socket", "defaults", "socket");
        let lab = node.pod("a", V4);
        let started = Instant::now();
        assert_eq!(
            add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        for (question, part) in [
            (r#"{"version":7,"ask":{"bypassing":{}}}"#, "speaks version"),
            ("nonsense", "cannot read the question"),
            (
                r#"{"version":1,"ask":{"bypassing":{}}}"#,
                r#""reply":{"bypassing":[]}"#,
            ),
        ] {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            std::io::Write::write_all(&mut stream, format!("{question}\n").as_bytes()).unwrap();
            let answer = std::io::read_to_string(&stream).unwrap();
            assert!(answer.contains(part), "{question}: {answer}");
        }
        drop(silent);
        assert_eq!(agent.get("/healthz"), "ok\n");
    });
}

#[test]
fn a_runtime_whose_packets_do_not_cross_the_namespace_is_known_by_its_handler() {
    for (class, handler) in [("isolated", "kata-qemu"), ("plain", "runc")] {
        cluster().create(
            "/apis/node.k8s.io/v1/runtimeclasses",
            &json!({"metadata": {"name": class}, "handler": handler}),
        );
    }
    let pod = |name: &str, class: &str| {
        cluster().create_changed_pod("defaults", name, |pod| {
            pod["spec"]["nodeName"] = json!("runtimes");
            pod["spec"]["runtimeClassName"] = json!(class);
        })
    };
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "runtimes", &[]).ready();
        let (isolated, plain) = (pod("isolated", "isolated"), pod("plain", "plain"));
        let lab = node.pod("a", V4);
        let is_refused = || {
            let call = add(node, cluster(), &lab.netns, &cni_args(&isolated));
            let (message, _) = call.error();
            let cause = r#"NotSupported: packets of runtime handler "kata-qemu" do not cross"#;
            assert!(message.starts_with(cause), "{message}");
        };
        let is_redirected = || {
            let lab = node.pod("b", V4);
            let call = add(node, cluster(), &lab.netns, &cni_args(&plain));
            assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        };
        is_refused();
        is_redirected();
        // each class was asked for once
        is_refused();
        let reads = || {
            let requests = cluster().requests_of("system:serviceaccount:mesh-optin:agent");
            let read = |request: &&String| request.starts_with("get /apis/node.k8s.io/");
            requests.iter().filter(read).count()
        };
        assert_eq!(reads(), 2);
        drop(agent);
        node.credential(
            SERVER,
            &cluster().file("ca.crt"),
            &cluster().token("mesh-optin", "node"),
        );
        node.write(
            "etc/mesh-optin/node.yaml",
            "{sources: [api], deadline: 15s}",
        );
        is_refused();
    });
}

#[test]
fn explain_shows_what_was_done_for_a_pod_or_what_would_be_done() {
    on_node_with_agent(|node| {
        let _agent = Agent::start(node, cluster(), "explain", &[]).ready();
        let explain = |name: &str| {
            let output = inside(&cluster().netns, || {
                node.program(&["explain", name, "-n", "team-a"])
                    .output()
                    .unwrap()
            });
            String::from_utf8(output.stdout).unwrap()
        };
        let pod = cluster().create_pod_on("explain", "defaults", "asked");
        cluster().create_changed_pod("defaults", "unasked", |pod| {
            pod["spec"]["nodeName"] = json!("explain");
            let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove("k8s.v1.cni.cncf.io/networks").unwrap();
        });
        for (name, parts) in [
            (
                "asked",
                &[
                    "Pod team-a/asked would be redirected.",
                    "On this node: nothing",
                ][..],
            ),
            (
                "unasked",
                &[
                    "Pod team-a/unasked would be redirected.",
                    "Bypassing: the pod names no attachment",
                ],
            ),
        ] {
            let said = explain(name);
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        assert!(
            !explain("asked").contains("Bypassing"),
            "its ADD may be still to come"
        );
        let lab = node.pod("a", V4);
        add(node, cluster(), &lab.netns, &cni_args(&pod));
        let said = explain("asked");
        let version = concat!(
            "by version ",
            env!("CARGO_PKG_VERSION"),
            " with nftables, under MeshProfile default"
        );
        for part in [
            "Pod team-a/asked was redirected.",
            "On this node: redirected at ",
            version,
            "Read: the pod and its namespace at 2",
            "through source agent",
        ] {
            assert!(said.contains(part), "{said}");
        }
        node.write("run/mesh-optin/attachments/broken.json", "{");
        assert_eq!(explain("asked"), "", "what was made cannot be told");
    });
}
