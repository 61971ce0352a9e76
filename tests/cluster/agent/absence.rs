//! While the agent is away, restarts or hangs: no ADD is lost, no pod is left out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::support::beside;

#[test]
fn adds_wait_while_the_agent_is_away_and_all_succeed_when_it_is_back() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "away", &[]).ready();
        let pods: Vec<_> = (0..20)
            .map(|n| cluster().create_pod_on("away", "defaults", &format!("away-{n}")))
            .collect();
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
#[allow(
    clippy::disallowed_methods,
    reason = "a runtime calls plugins as processes"
)]
fn a_hundred_and_ten_waiting_adds_fit_into_the_memory_of_multus_and_all_succeed() {
    use std::process::{Command, Stdio};
    const COUNT: usize = 110;
    on_node_with_agent(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 60s}");
        let pod = cluster().create_pod_on("crowd", "defaults", "crowd");
        let labs: Vec<_> = (0..COUNT)
            .map(|n| node.new_netns_with_eth0(&format!("c{n}")))
            .collect();
        node.write(
            "var/lib/mesh-optin/installed.json",
            r#"{"version":"0.1.0"}"#,
        );
        let multus = Limited::new(50 << 20);
        let (procs, root, args) = (multus.procs(), node.path(""), cni_args(&pod));
        let mut calls: Vec<_> = crate::support::lab::inside(&cluster().netns, || {
            labs.iter()
                .enumerate()
                .map(|(n, netns)| {
                    let script = format!(
                        "echo $$ > {}; exec /usr/sbin/chroot {} /mesh-optin",
                        procs.display(),
                        root.display()
                    );
                    let mut call = Command::new("/bin/sh");
                    call.args(["-c", &script])
                        .env_clear()
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .stderr(Stdio::null());
                    call.envs([
                        ("CNI_COMMAND", "ADD"),
                        ("CNI_NETNS", netns),
                        ("CNI_ARGS", &args),
                        ("CNI_IFNAME", "net1"),
                    ]);
                    let mut call = call
                        .env("CNI_CONTAINERID", format!("c{n}"))
                        .spawn()
                        .unwrap();
                    std::io::Write::write_all(&mut call.stdin.take().unwrap(), CONFIG.as_bytes())
                        .unwrap();
                    call
                })
                .collect()
        });
        std::thread::sleep(Duration::from_secs(2));
        assert!(
            calls.iter_mut().all(|c| c.try_wait().unwrap().is_none()),
            "they wait"
        );
        println!(
            "{COUNT} ADDs that wait are charged {:.1} MB (cgroup v1)",
            multus.used() as f64 / 1e6
        );
        let _agent = Agent::start(node, cluster(), "crowd", &[]).ready();
        for call in calls {
            let output = call.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        assert_eq!(multus.killed(), 0);
    });
}

#[test]
fn an_add_that_waits_too_long_is_refused_and_succeeds_when_retried() {
    on_node_with_agent(|node| {
        let agent = Agent::start(node, cluster(), "long", &[]).ready();
        let pod = cluster().create_pod_on("long", "defaults", "long");
        let lab = node.pod("a", V4);
        agent.end(Signal::SIGTERM);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 500ms}");
        for _ in 0..3 {
            let (message, code) = add(node, cluster(), &lab.netns, &cni_args(&pod)).error();
            assert!(
                message.starts_with("AgentUnavailable: ")
                    && message.ends_with(
                        "where it was removed for good, run mesh-optin agent uninstall on the node"
                    ),
                "{message}"
            );
            assert_eq!(
                (code, lab.dial_out(APP, "10.96.0.10:80").as_str()),
                (11, "world:80")
            );
        }
        let _agent = Agent::start(node, cluster(), "long", &[]).ready();
        assert_eq!(
            add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
    });
}

#[test]
fn a_stream_of_adds_loses_none_while_the_agent_is_killed_stopped_and_started() {
    on_node_with_agent(|node| {
        let mut agent = Some(Agent::start(node, cluster(), "stream", &[]).ready());
        let pod = cluster().create_pod_on("stream", "defaults", "stream");
        let made = AtomicUsize::new(0);
        let stream = |stop: &AtomicBool| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let netns = node.new_netns_with_eth0(&format!("s{count}"));
                let call = add(node, cluster(), &netns, &cni_args(&pod));
                assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
                count += 1;
                made.store(count, Ordering::Relaxed);
            }
        };
        beside(stream, || {
            for signal in [
                Signal::SIGTERM,
                Signal::SIGKILL,
                Signal::SIGTERM,
                Signal::SIGKILL,
            ] {
                let before = made.load(Ordering::Relaxed);
                until(
                    || made.load(Ordering::Relaxed) >= before + 6,
                    || "six ADDs with an agent".to_owned(),
                );
                agent.take().unwrap().end(signal);
                std::thread::sleep(Duration::from_millis(300));
                agent = Some(Agent::start(node, cluster(), "stream", &[]).ready());
            }
        });
    });
}

#[test]
fn with_a_credential_the_api_is_asked_when_the_agent_hangs() {
    on_node_with_agent(|node| {
        cluster().create("/api/v1/nodes", &json!({"metadata": {"name": "hanging"}}));
        let agent = Agent::start(
            node,
            cluster(),
            "hanging",
            &["--host-account", "mesh-optin/node", "--install-period", "1"],
        )
        .ready();
        let token = node.path("var/lib/mesh-optin/api/token");
        until(|| token.exists(), || agent.get("/metrics"));
        let pod = cluster().create_pod_on("hanging", "defaults", "hanging");
        let lab = node.pod("a", V4);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 20s}");
        agent.signal(Signal::SIGSTOP);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        agent.signal(Signal::SIGCONT);
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        is_redirected(&lab);
    });
}

#[test]
fn an_agent_recreates_its_socket_when_it_is_removed() {
    on_node_with_agent(|node| {
        let _agent = Agent::start(node, cluster(), "deaf", &[]).ready();
        let socket = node.path("run/mesh-optin/agent.sock");
        std::fs::remove_file(&socket).unwrap();
        until(
            || std::os::unix::net::UnixStream::connect(&socket).is_ok(),
            String::new,
        );
        let pod = cluster().create_pod_on("deaf", "defaults", "deaf");
        let lab = node.pod("a", V4);
        assert_eq!(
            add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason(),
            "Redirected"
        );
    });
}
