//! The node agent on a node of the lab, with a real kube-apiserver and the rights that deploy/ gives it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    agent::{Agent, add},
    cluster::Cluster,
    lab::{APP, Node, PodLab, PodNet, on_node},
    memory::Limited,
    pods::cni_args,
};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;
const V4: PodNet = PodNet { v4: true, v6: false, net1: false };

fn new_cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.namespace("team-a", &json!({"istio-injection": "enabled"}));
    cluster.apply_rbac();
    cluster
}

/// Shared by the tests that leave it as it is; each has a node of its own name.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(new_cluster)
}

/// A node that has no source but the agent.
fn on_agent_s_node<T: Send>(work: impl FnOnce(&Node) -> T + Send) -> T {
    on_node(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 15s}");
        work(node)
    })
}

fn is_redirected(lab: &PodLab) {
    assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "pod:15001");
}

#[test]
fn a_pod_is_answered_from_memory_and_told_on_the_pod() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "memory", &[]).ready();
        let pod = cluster().create_pod_on("memory", "defaults", "from-memory");
        agent.reaches("mesh_optin_cached_pods", 1.0);
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!((call.code, call.logged_reason().as_str()), (0, "Redirected"), "{call:?}");
        is_redirected(&lab);
        assert_eq!(agent.metric(r#"mesh_optin_look_ups_total{source="cache"}"#), 1.0);
        agent.reaches(r#"mesh_optin_decisions_total{reason="Redirected"}"#, 1.0);
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        assert_eq!(cluster().events_of(&pod), [("Redirected".to_owned(), "Normal".to_owned())]);
    });
}

#[test]
fn a_pod_without_a_uid_or_newer_than_the_watch_is_asked_of_the_api_and_never_mixed_up_with_an_earlier_one() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "fresh", &[]).ready();
        let lab = node.pod("a", V4);
        let first = cluster().create_pod_on("fresh", "defaults", "again");
        let without_uid = cni_args(&first).split(";K8S_POD_UID").next().unwrap().to_owned() + ";K8S_POD_UID=";
        assert_eq!(add(node, cluster(), &lab.netns, &without_uid).logged_reason(), "Redirected");
        assert_eq!(agent.metric(r#"mesh_optin_look_ups_total{source="api"}"#), 1.0);
        for n in 0..10 {
            cluster().request("DELETE", "/api/v1/namespaces/team-a/pods/again", &json!({"gracePeriodSeconds": 0})).unwrap();
            let again = cluster().create_pod_on("fresh", "opt-out", "again");
            let other = node.pod(&format!("again-{n}"), V4);
            let call = add(node, cluster(), &other.netns, &cni_args(&again));
            assert_eq!(call.logged_reason(), "OptedOut", "{call:?}");
            let (message, code) = add(node, cluster(), &lab.netns, &cni_args(&first)).error();
            assert!(message.starts_with("PodUidMismatch: ") && code == 11, "{message}");
        }
    });
}

#[test]
fn adds_wait_while_the_agent_is_away_and_all_succeed_when_it_is_back() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "away", &[]).ready();
        let pods: Vec<_> = (0..20).map(|n| cluster().create_pod_on("away", "defaults", &format!("away-{n}"))).collect();
        let labs: Vec<_> = (0..20).map(|n| node.pod(&format!("p{n}"), V4)).collect();
        agent.end(Signal::SIGKILL);
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap(); // as after a reboot
        std::thread::scope(|scope| {
            let add = |n: usize| add(node, cluster(), &labs[n].netns, &cni_args(&pods[n]));
            let calls: Vec<_> = (0..20).map(|n| scope.spawn(move || add(n))).collect();
            std::thread::sleep(Duration::from_secs(2));
            assert!(calls.iter().all(|c| !c.is_finished()), "they wait");
            let _back = Agent::start(node, cluster(), "away", &[]).ready();
            for call in calls {
                let call = call.join().unwrap();
                assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
            }
        });
        labs.iter().for_each(is_redirected);
    });
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a runtime calls plugins as processes")]
fn a_hundred_and_ten_adds_that_wait_fit_into_multus_s_memory_and_all_succeed() {
    use std::process::{Command, Stdio};
    const COUNT: usize = 110;
    on_agent_s_node(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 60s}");
        let pod = cluster().create_pod_on("crowd", "defaults", "crowd");
        let labs: Vec<_> = (0..COUNT).map(|n| node.new_netns_with_eth0(&format!("c{n}"))).collect();
        node.write("var/lib/mesh-optin/installed.json", r#"{"version":"0.1.0"}"#);
        let multus = Limited::new(50 << 20);
        let (procs, root, args) = (multus.procs(), node.path(""), cni_args(&pod));
        let mut calls: Vec<_> = support::lab::inside(&cluster().netns, || {
            labs.iter()
                .enumerate()
                .map(|(n, netns)| {
                    let script = format!("echo $$ > {}; exec /usr/sbin/chroot {} /mesh-optin", procs.display(), root.display());
                    let mut call = Command::new("/bin/sh");
                    call.args(["-c", &script]).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                    call.envs([("CNI_COMMAND", "ADD"), ("CNI_NETNS", netns), ("CNI_ARGS", &args), ("CNI_IFNAME", "net1")]);
                    let mut call = call.env("CNI_CONTAINERID", format!("c{n}")).spawn().unwrap();
                    std::io::Write::write_all(&mut call.stdin.take().unwrap(), CONFIG.as_bytes()).unwrap();
                    call
                })
                .collect()
        });
        std::thread::sleep(Duration::from_secs(2));
        assert!(calls.iter_mut().all(|c| c.try_wait().unwrap().is_none()), "they wait");
        println!("{COUNT} ADDs that wait are charged {:.1} MB", multus.used() as f64 / 1e6);
        let _agent = Agent::start(node, cluster(), "crowd", &[]).ready();
        for call in calls {
            let output = call.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        assert_eq!(multus.killed(), 0);
    });
}

#[test]
fn an_add_that_waits_too_long_is_refused_and_succeeds_when_it_is_tried_again() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "long", &[]).ready();
        let pod = cluster().create_pod_on("long", "defaults", "long");
        let lab = node.pod("a", V4);
        agent.end(Signal::SIGTERM);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 500ms}");
        for _ in 0..3 {
            let (message, code) = add(node, cluster(), &lab.netns, &cni_args(&pod)).error();
            assert!(message.starts_with("AgentUnavailable: ") && message.ends_with("check the mesh-optin agent on this node"), "{message}");
            assert_eq!((code, lab.dial_out(APP, "10.96.0.10:80").as_str()), (11, "world:80"));
        }
        let _agent = Agent::start(node, cluster(), "long", &[]).ready();
        assert_eq!(add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
    });
}

#[test]
fn a_stream_of_adds_loses_none_while_the_agent_is_killed_stopped_and_started() {
    on_agent_s_node(|node| {
        let mut agent = Some(Agent::start(node, cluster(), "stream", &[]).ready());
        let pod = cluster().create_pod_on("stream", "defaults", "stream");
        let ended = std::sync::atomic::AtomicBool::new(false);
        let count = std::thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let mut count = 0;
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    let netns = node.new_netns_with_eth0(&format!("s{count}"));
                    let call = add(node, cluster(), &netns, &cni_args(&pod));
                    assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
                    count += 1;
                }
                count
            });
            for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
                std::thread::sleep(Duration::from_millis(700));
                agent.take().unwrap().end(signal);
                std::thread::sleep(Duration::from_millis(300));
                agent = Some(Agent::start(node, cluster(), "stream", &[]).ready());
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            stream.join().unwrap()
        });
        assert!(count > 20, "{count}");
    });
}

#[test]
fn a_hanging_agent_is_given_up_for_the_api_where_there_is_a_credential() {
    on_agent_s_node(|node| {
        cluster().create("/api/v1/nodes", &json!({"metadata": {"name": "hanging"}}));
        let agent = Agent::start(node, cluster(), "hanging", &["--host-account", "mesh-optin/node", "--install-period", "1"]).ready();
        let pod = cluster().create_pod_on("hanging", "defaults", "hanging");
        let lab = node.pod("a", V4);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 4s}");
        agent.signal(Signal::SIGSTOP);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        agent.signal(Signal::SIGCONT);
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        is_redirected(&lab);
    });
}

#[test]
fn known_pods_are_answered_while_the_api_server_is_down() {
    let cluster = new_cluster();
    on_agent_s_node(|node| {
        let agent = Agent::start(node, &cluster, "down", &[]).ready();
        let pod = cluster.create_pod_on("down", "defaults", "known");
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        let lab = node.pod("a", V4);
        let before = node.pod("before", V4);
        assert_eq!(add(node, &cluster, &before.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        // that ADD asked the API server nothing; the agent follows this node's pods and their namespaces only
        let of = |account: &str| cluster.requests_of(&format!("system:serviceaccount:mesh-optin:{account}"));
        assert!(of("node").is_empty(), "{:?}", of("node"));
        let of_agent = of("agent");
        for request in &of_agent {
            let about = request.split(['?', '&']).collect::<Vec<_>>();
            let expected = match about[0] {
                "list /api/v1/pods" => about.contains(&"fieldSelector=spec.nodeName%3Ddown"),
                "list /api/v1/namespaces" => about.contains(&"fieldSelector=metadata.name%3Dteam-a"),
                "create /apis/events.k8s.io/v1/namespaces/team-a/events" | "list /apis/meshoptin.dev/v1alpha1/meshprofiles" => true,
                _ => false,
            };
            assert!(expected, "{request}");
        }
        assert!(of_agent.iter().any(|r| r.starts_with("list /api/v1/pods")), "{of_agent:?}");
        cluster.signal(Signal::SIGKILL);
        let started = Instant::now();
        let call = add(node, &cluster, &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        node.write("etc/mesh-optin/node.yaml", "{deadline: 2s}");
        let unknown = cni_args(&pod).replace("NAME=known", "NAME=unknown");
        let (message, _) = add(node, &cluster, &lab.netns, &unknown).error();
        assert!(message.starts_with("ApiUnreachable: https://127.0.0.1:6443"), "{message}");
    });
}

#[test]
fn the_socket_is_root_s_alone_and_slow_peers_hold_up_nobody() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "socket", &[]).ready();
        let socket = node.path("run/mesh-optin/agent.sock");
        let mode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777;
        assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
        let silent: Vec<_> = (0..300).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect();
        let mut endless = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut endless, &vec![b'x'; 100 << 10]).ok();
        let pod = cluster().create_pod_on("socket", "defaults", "socket");
        let lab = node.pod("a", V4);
        let started = Instant::now();
        assert_eq!(add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        for (question, part) in [
            (r#"{"version":7,"ask":{"bypassing":{}}}"#, "speaks version"),
            ("nonsense", "cannot read the question"),
            (r#"{"version":1,"ask":{"bypassing":{}}}"#, r#""reply":{"bypassing":[]}"#),
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

/// A MeshProfile as the cluster has it.
fn profile(spec: &Value) -> Value {
    json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "default"}, "spec": spec})
}

#[test]
fn drift_is_told_and_put_right_where_the_profile_says_so() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "drift", &["--audit-period", "1"]).ready();
        let pod = cluster().create_pod_on("drift", "defaults", "drift");
        let lab = node.pod("a", V4);
        assert_eq!(add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        agent.reaches(r#"mesh_optin_audited_pods{outcome="consistent"}"#, 1.0);
        let nft = |script: &str| support::lab::inside(&lab.pod, || support::run("nft", &["-f", "-"], script));
        nft("flush chain inet mesh-optin output");
        assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "world:80");
        agent.reaches(r#"mesh_optin_audited_pods{outcome="drifted"}"#, 1.0);
        assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "world:80", "reported only");
        node.write("etc/mesh-optin/profiles/default.yaml", &profile(&json!({"drift": "Repair"})).to_string());
        agent.reaches(r#"mesh_optin_repairs_total{result="ok"}"#, 1.0);
        is_redirected(&lab);
        for change in ["delete table inet mesh-optin", "add table inet mesh-optin { flags dormant; }", "add chain inet mesh-optin other"] {
            let before = agent.metric(r#"mesh_optin_repairs_total{result="ok"}"#);
            nft(change);
            agent.reaches(r#"mesh_optin_repairs_total{result="ok"}"#, before + 1.0);
            is_redirected(&lab);
        }
        let reasons: Vec<_> = cluster().events_of(&pod).into_iter().filter(|(reason, _)| reason == "Drifted").collect();
        assert!(!reasons.is_empty() && reasons.iter().all(|(_, kind)| kind == "Warning"), "{reasons:?}");
    });
}

#[test]
fn a_running_pod_that_nobody_redirected_is_found_and_told() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "bypass", &["--audit-period", "1"]).ready();
        let lab = node.pod("a", V4);
        let pod = cluster().create_pod_on("bypass", "defaults", "bypass");
        let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}]}});
        cluster().patch("/api/v1/namespaces/team-a/pods/bypass/status", &status);
        agent.reaches(r#"mesh_optin_audited_pods{outcome="bypassing"}"#, 1.0);
        agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        assert_eq!(cluster().events_of(&pod), [("Bypassing".to_owned(), "Warning".to_owned())]);
        let verify = |node: &Node| {
            let output = support::lab::inside(&cluster().netns, || node.program(&["verify", "--all"]).output().unwrap());
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, text) = verify(node);
        assert!(code == Some(5) && text.contains("Pod team-a/bypass") && text.contains("Bypassing"), "{code:?} {text}");
        assert_eq!(add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        let started = Instant::now();
        while agent.metric(r#"mesh_optin_audited_pods{outcome="bypassing"}"#) > 0.0 {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(verify(node).0, Some(0));
    });
}

#[test]
fn the_node_s_files_are_put_there_and_put_back() {
    on_agent_s_node(|node| {
        cluster().create("/api/v1/nodes", &json!({"metadata": {"name": "files"}}));
        let args = ["--host-account", "mesh-optin/node", "--install-period", "1", "--attachment", "v2-6-istio-cni"];
        let agent = Agent::start(node, cluster(), "files", &args).ready();
        let (program, conf) = (node.path("opt/cni/bin/mesh-optin"), node.path("etc/cni/multus/net.d/istio-cni.conf"));
        let token = node.path("var/lib/mesh-optin/api/token");
        let ours = std::fs::read(env!("CARGO_BIN_EXE_mesh-optin")).unwrap();
        let is_back = |what: &dyn Fn() -> bool| {
            let started = Instant::now();
            while !what() {
                assert!(started.elapsed() < Duration::from_secs(20), "{}", agent.get("/readyz"));
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        assert!(std::fs::read(&program).unwrap() == ours);
        let text = std::fs::read_to_string(&conf).unwrap();
        assert_eq!(text, "{\"cniVersion\":\"1.1.0\",\"name\":\"istio-cni\",\"type\":\"mesh-optin\"}\n");
        assert!(node.path("etc/cni/multus/net.d/v2-6-istio-cni.conf").exists());
        // missing, cut off, overwritten
        std::fs::remove_file(&program).unwrap();
        is_back(&|| std::fs::read(&program).is_ok_and(|p| p == ours));
        std::fs::write(&program, "x").unwrap();
        is_back(&|| std::fs::read(&program).is_ok_and(|p| p == ours));
        std::fs::remove_file(&conf).unwrap();
        is_back(&|| std::fs::read_to_string(&conf).is_ok_and(|c| c == text));
        let first = std::fs::read_to_string(&token).unwrap();
        for broken in ["", "nonsense", "e30.eyJleHAiOjE3MDAwMDAwMDB9.e30"] {
            std::fs::write(&token, broken).unwrap();
            is_back(&|| std::fs::read_to_string(&token).is_ok_and(|t| t.len() > 500));
        }
        assert_ne!(std::fs::read_to_string(&token).unwrap(), first);
        // it is the narrow account's, and bound to the node: it outlives the agent's pod
        let claims = token_claims(&std::fs::read_to_string(&token).unwrap());
        assert_eq!(claims["sub"], "system:serviceaccount:mesh-optin:node");
        assert_eq!(claims["kubernetes.io"]["node"]["name"], "files");
        assert_eq!(agent.get("/readyz"), "ready\n");
        // a neighbour that Multus stumbles over is told, and forgotten when it is gone
        node.write("etc/cni/multus/net.d/00-broken.conf", "{");
        is_back(&|| agent.get("/readyz").contains("00-broken.conf keeps Multus from finding"));
        std::fs::remove_file(node.path("etc/cni/multus/net.d/00-broken.conf")).unwrap();
        is_back(&|| agent.get("/readyz") == "ready\n");
    });
}

/// What a token says of itself.
fn token_claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    let padded = format!("{claims}{}", "=".repeat((4 - claims.len() % 4) % 4)).replace('-', "+").replace('_', "/");
    serde_json::from_str(&support::run("base64", &["-d"], &padded)).unwrap()
}

#[test]
fn the_cluster_s_profiles_govern_and_are_kept_for_when_the_agent_is_away() {
    let cluster = new_cluster();
    cluster.create("/api/v1/nodes", &json!({"metadata": {"name": "profiles"}}));
    cluster.apply(&std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crds/meshoptin.dev_meshprofiles.yaml")).unwrap());
    on_agent_s_node(|node| {
        let agent = Agent::start(node, &cluster, "profiles", &["--host-account", "mesh-optin/node"]).ready();
        // all that the README documents, and nothing that it does not
        let readme = include_str!("../README.md");
        let documented =
            readme.split("```yaml\n").find(|block| block.contains("kind: MeshProfile\n")).unwrap().split("```").next().unwrap();
        cluster.apply(documented);
        let unknown = profile(&json!({"enrolment": {}}));
        let strict = "/apis/meshoptin.dev/v1alpha1/meshprofiles?fieldValidation=Strict";
        assert!(cluster.request("POST", strict, &unknown).unwrap_err()["message"].as_str().unwrap().contains("enrolment"));
        let pod = cluster.create_pod_on("profiles", "defaults", "governed");
        let snapshot = node.path("var/lib/mesh-optin/profiles/default.yaml");
        let says = |part: &str| {
            let started = Instant::now();
            while !std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains(part)) {
                assert!(started.elapsed() < Duration::from_secs(40), "{}", agent.get("/metrics"));
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let path = "/apis/meshoptin.dev/v1alpha1/meshprofiles/default";
        cluster.patch(path, &json!({"spec": {"excludedNamespaces": ["team-a"]}}));
        says(r#""excludedNamespaces":["team-a"]"#);
        let lab = node.pod("a", V4);
        assert_eq!(add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(), "NamespaceExcluded");
        // one that cannot be read refuses its own namespaces only
        let selector = json!({"namespaces": {"matchLabels": {"other": "yes"}}, "redirect": {"traffic": {"excludeOutboundPorts": "x"}}});
        cluster.create(
            "/apis/meshoptin.dev/v1alpha1/meshprofiles",
            &json!({
            "apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "broken"}, "spec": selector}),
        );
        cluster.namespace("other", &json!({"istio-injection": "enabled", "other": "yes"}));
        let started = Instant::now();
        while !node.path("var/lib/mesh-optin/profiles/broken.yaml").exists() {
            assert!(started.elapsed() < Duration::from_secs(40), "{}", agent.get("/readyz"));
            std::thread::sleep(Duration::from_millis(50));
        }
        let of_other = cluster.create_changed_pod_in("other", "defaults", "other", |pod| pod["spec"]["nodeName"] = json!("profiles"));
        let (message, _) = add(node, &cluster, &lab.netns, &cni_args(&of_other)).error();
        assert!(message.starts_with("NodeConfigInvalid: MeshProfile broken, which governs namespace other, cannot be read: "), "{message}");
        assert_eq!(add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(), "NamespaceExcluded");
        let explain = |node: &Node| {
            let args = ["explain", "governed", "-n", "team-a"];
            let output = support::lab::inside(&cluster.netns, || node.program(&args).output().unwrap());
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(explain(node).contains("NamespaceExcluded: profile default excludes namespace team-a"), "{}", explain(node));
        agent.end(Signal::SIGTERM);
        assert_eq!(add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(), "NamespaceExcluded", "as it was kept");
        assert!(add(node, &cluster, &lab.netns, &cni_args(&of_other)).error().0.starts_with("NodeConfigInvalid: MeshProfile broken"));
        let agent = Agent::start(node, &cluster, "profiles", &[]).ready();
        cluster.patch(path, &json!({"spec": {"excludedNamespaces": []}}));
        let started = Instant::now();
        while !explain(node).contains("Redirected: ") {
            assert!(started.elapsed() < Duration::from_secs(40), "{}", explain(node));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        cluster.request("DELETE", path, &Value::Null).unwrap();
        let started = Instant::now();
        while snapshot.exists() {
            assert!(started.elapsed() < Duration::from_secs(40));
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(agent);
    });
}

#[test]
fn uninstalling_refuses_adds_keeps_the_program_for_dels_and_then_removes_all() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "uninstall", &["--install-period", "1"]);
        let uninstall = |node: &Node| {
            let output = node.program(&["agent", "uninstall"]).env("KUBERNETES_SERVICE_HOST", "a.name").output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        // a sandbox that Istio's plugin made: its DEL is still to come
        let cache = node.path("var/lib/cni/multus/c0ffee");
        node.write("var/lib/cni/multus/c0ffee", r#"[{"Conf":{"type":"istio-cni"}},{"Conf":{"type":"mesh-optin"}}]"#);
        let agent = agent.ready();
        let old = node.path("opt/cni/bin/istio-cni");
        let started = Instant::now();
        while !old.exists() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(50));
        }
        let pod = cluster().create_pod_on("uninstall", "defaults", "uninstall");
        let lab = node.pod("a", V4);
        let (code, said) = uninstall(node);
        assert!(code == Some(1) && said.contains("the agent of this node runs"), "{code:?} {said}");
        agent.end(Signal::SIGTERM);
        let (code, said) = uninstall(node);
        let named = "Uninstalled: sandboxes of this node still name istio-cni, mesh-optin";
        assert!(code == Some(1) && said.contains(named), "{code:?} {said}");
        let (message, _) = add(node, cluster(), &lab.netns, &cni_args(&pod)).error();
        assert!(message.starts_with("Uninstalled: "), "{message}");
        let del = support::lab::inside(&cluster().netns, || node.call("DEL", &lab.netns, "", "{}"));
        assert_eq!((del.code, del.stdout.as_str()), (0, ""));
        std::fs::write(&cache, "[{").unwrap();
        assert!(uninstall(node).1.contains("cannot be told"), "what cannot be read may name it");
        std::fs::remove_file(cache).unwrap();
        assert_eq!(uninstall(node).0, Some(0));
        for path in ["opt/cni/bin", "etc/cni/multus/net.d"] {
            assert_eq!(std::fs::read_dir(node.path(path)).unwrap().count(), 0, "{path}");
        }
        assert!(!node.path("var/lib/mesh-optin").exists() && !node.path("run/mesh-optin").exists());
        assert_eq!(uninstall(node).0, Some(0), "again");
    });
}

#[test]
fn a_newer_version_is_not_replaced_and_a_full_or_read_only_directory_is_told_and_tried_again() {
    on_agent_s_node(|node| {
        node.write("var/lib/mesh-optin/installed.json", r#"{"version":"99.0.0"}"#);
        let bin = node.path("opt/cni/bin");
        std::fs::create_dir_all(&bin).unwrap();
        support::lab::mount_("tmpfs", bin.to_str().unwrap(), "tmpfs", nix::mount::MsFlags::empty());
        let remount = |options: &str| support::run("mount", &["-o", &format!("remount,{options}"), bin.to_str().unwrap()], "");
        let agent = Agent::start(node, cluster(), "versions", &["--install-period", "1"]);
        let says = |part: &str| {
            let started = Instant::now();
            while !agent.get("/readyz").contains(part) {
                assert!(started.elapsed() < Duration::from_secs(20), "{part}: {}", agent.get("/readyz"));
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        says("ready");
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 0, "the newer version stays as it is");
        remount("ro");
        std::fs::remove_file(node.path("var/lib/mesh-optin/installed.json")).unwrap();
        says("the program cannot be put at /opt/cni/bin/mesh-optin: Read-only file system");
        remount("rw,size=64k");
        says("No space left on device");
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 0, "nothing of it is left");
        remount("rw,size=500m");
        says("ready");
        assert!(bin.join("mesh-optin").exists() && agent.metric(r#"mesh_optin_installs_total{what="program",result="failed"}"#) >= 2.0);
    });
}

#[test]
fn nothing_is_decided_before_the_cluster_s_profiles_are_known() {
    let cluster = new_cluster();
    on_agent_s_node(|node| {
        let pod = cluster.create_pod_on("unknown", "defaults", "unknown");
        let lab = node.pod("a", V4);
        // the agent may not list them
        cluster.patch_rbac_away("meshprofiles");
        let agent = Agent::start(node, &cluster, "unknown", &["--install-period", "1"]);
        agent.reaches("mesh_optin_cached_namespaces", 1.0);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 1s}");
        let (message, _) = add(node, &cluster, &lab.netns, &cni_args(&pod)).error();
        assert!(message.starts_with("AgentUnavailable: the agent does not know the cluster's MeshProfiles yet"), "{message}");
        assert!(agent.get("/readyz").contains("MeshProfiles"), "{}", agent.get("/readyz"));
        assert!(!node.path("etc/cni/multus/net.d/istio-cni.conf").exists());
        cluster.apply_rbac();
        let agent = agent.ready();
        assert_eq!(add(node, &cluster, &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        assert!(agent.get("/metrics").contains("mesh_optin_look_ups_total"));
    });
}

#[test]
fn an_agent_whose_socket_is_taken_away_is_heard_again() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "deaf", &[]).ready();
        let socket = node.path("run/mesh-optin/agent.sock");
        std::fs::remove_file(&socket).unwrap();
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(50));
        }
        let second = Agent::start(node, cluster(), "deaf", &[]); // its port is taken: pods do not need it
        let started = Instant::now();
        while agent.get("/readyz") != "another process has taken the socket\n" {
            assert!(started.elapsed() < Duration::from_secs(20), "{}", agent.get("/readyz"));
            std::thread::sleep(Duration::from_millis(50));
        }
        second.end(Signal::SIGTERM);
        let agent = agent.ready();
        let pod = cluster().create_pod_on("deaf", "defaults", "deaf");
        let lab = node.pod("a", V4);
        assert_eq!(add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        drop(agent);
    });
}

#[test]
fn what_an_older_version_made_is_outdated_unless_nothing_of_it_is_left() {
    on_agent_s_node(|node| {
        let agent = Agent::start(node, cluster(), "older", &["--audit-period", "1"]).ready();
        let pod = cluster().create_pod_on("older", "defaults", "older");
        let lab = node.pod("a", V4);
        assert_eq!(add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(), "Redirected");
        let record = node.path("run/mesh-optin/attachments/c0ffee.net1.json");
        let of_version = |format: u32| {
            let mut json: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
            (json["version"], json["format"]) = (json!("0.0.9"), json!(format));
            std::fs::write(&record, json.to_string()).unwrap();
        };
        let outcome = |node: &Node| {
            let output = support::lab::inside(&cluster().netns, || node.program(&["verify", "--all", "-o", "json"]).output().unwrap());
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            (told["pods"][0]["outcome"].as_str().unwrap().to_owned(), output.status.code())
        };
        let nft = |script: &str| support::lab::inside(&lab.pod, || support::run("nft", &["-f", "-"], script));
        of_version(1);
        nft("add rule inet mesh-optin output accept");
        assert_eq!(outcome(node), ("drifted".to_owned(), Some(5)), "an older program that makes the same rules");
        of_version(0);
        assert_eq!(outcome(node), ("outdated".to_owned(), Some(0)));
        agent.reaches(r#"mesh_optin_audited_pods{outcome="outdated"}"#, 1.0);
        nft("flush chain inet mesh-optin output");
        assert_eq!(outcome(node), ("drifted".to_owned(), Some(5)), "that is nobody's version");
        agent.reaches(r#"mesh_optin_audited_pods{outcome="drifted"}"#, 1.0);
    });
}
