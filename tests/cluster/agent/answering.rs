//! What the agent answers, and to whom.

use super::*;

#[test]
fn a_pod_is_answered_from_memory_and_told_on_the_pod() {
    on_agent_s_node(|node| {
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
        agent.reaches(r#"mesh_optin_decisions_total{reason="Redirected"}"#, 1.0);
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        assert_eq!(
            cluster().events_of(&pod),
            [("Redirected".to_owned(), "Normal".to_owned())]
        );
    });
}

#[test]
fn a_pod_without_a_uid_or_newer_than_the_watch_is_asked_of_the_api_and_never_mixed_up_with_an_earlier_one()
 {
    on_agent_s_node(|node| {
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
fn known_pods_are_answered_while_the_api_server_is_down() {
    let cluster = Cluster::start_with_team_a();
    on_agent_s_node(|node| {
        let agent = Agent::start(node, &cluster, "down", &[]).ready();
        let pod = cluster.create_pod_on("down", "defaults", "known");
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        let lab = node.pod("a", V4);
        let before = node.pod("before", V4);
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
                "list /api/v1/pods" => about.contains(&"fieldSelector=spec.nodeName%3Ddown"),
                "list /api/v1/namespaces" => {
                    about.contains(&"fieldSelector=metadata.name%3Dteam-a")
                }
                "create /apis/events.k8s.io/v1/namespaces/team-a/events"
                | "list /apis/meshoptin.dev/v1alpha1/meshprofiles" => true,
                _ => false,
            };
            assert!(expected, "{request}");
        }
        assert!(
            of_agent.iter().any(|r| r.starts_with("list /api/v1/pods")),
            "{of_agent:?}"
        );
        cluster.signal(Signal::SIGKILL);
        let started = Instant::now();
        let call = add(node, &cluster, &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
        node.write("etc/mesh-optin/node.yaml", "{deadline: 2s}");
        let unknown = cni_args(&pod).replace("NAME=known", "NAME=unknown");
        let (message, _) = add(node, &cluster, &lab.netns, &unknown).error();
        assert!(
            message.starts_with("ApiUnreachable: https://127.0.0.1:6443"),
            "{message}"
        );
    });
}

#[test]
fn the_socket_is_root_s_alone_and_slow_peers_hold_up_nobody() {
    on_agent_s_node(|node| {
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
            started.elapsed() < Duration::from_secs(5),
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
