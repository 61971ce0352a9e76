//! Two agents of one node, as they overlap while a DaemonSet is rolled out or back.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;
use crate::support::{beside, lab::inside};

const PROGRAM: &str = "opt/cni/bin/mesh-optin";

/// An agent of a newer version, as far as another one asks it.
struct Newer {
    socket: std::path::PathBuf,
    is_ready: Arc<AtomicBool>,
}

impl Newer {
    fn start(node: &Node) -> Self {
        let socket = node.path("run/mesh-optin/agent.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        std::fs::set_permissions(
            socket.parent().unwrap(),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let is_ready = Arc::new(AtomicBool::new(true));
        let says = is_ready.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut question = String::new();
                BufReader::new(&stream).read_line(&mut question).ok();
                assert_eq!(question, "{\"version\":2,\"ask\":{\"owner\":{}}}\n");
                let reply = json!({"owner": {"version": "99.0.0", "isReady": says.load(Ordering::Relaxed)}});
                let answer = json!({"version": 2, "reply": reply});
                writeln!(stream, "{answer}").ok();
            }
        });
        Self { socket, is_ready }
    }
}

#[test]
fn a_rollback_installs_the_older_program() {
    on_node_with_agent(|node| {
        let installed = r#"{"version":"99.0.0","programs":{"/opt/cni/bin/mesh-optin":"d"}}"#;
        node.write("var/lib/mesh-optin/installed.json", installed);
        node.write(PROGRAM, "a newer program");
        let agent = Agent::start(node, cluster(), "back", &["--install-period", "1"]).ready();
        let own = std::fs::metadata(node.path("mesh-optin")).unwrap().len();
        let there = || std::fs::metadata(node.path(PROGRAM)).unwrap().len();
        until(|| there() == own, || agent.get("/readyz"));
        let now = std::fs::read_to_string(node.path("var/lib/mesh-optin/installed.json")).unwrap();
        let now: Value = serde_json::from_str(&now).unwrap();
        assert_eq!(now["version"], env!("CARGO_PKG_VERSION"));
    });
}

#[test]
fn an_older_agent_stands_by_while_a_newer_one_owns_the_node() {
    on_node_with_agent(|node| {
        let newer = Newer::start(node);
        let args = [
            "--install-period",
            "1",
            "--metrics-address",
            "127.0.0.1",
            "--metrics-port",
            "19647",
        ];
        let agent = Agent::start(node, cluster(), "behind", &args).ready();
        let does_nothing = || {
            std::thread::sleep(Duration::from_secs(3));
            let listens = inside(&cluster().netns, || {
                std::net::TcpStream::connect("127.0.0.1:19647").is_ok()
            });
            let files = ["var/lib/mesh-optin", PROGRAM].map(|path| node.path(path).exists());
            assert_eq!((listens, files), (false, [false, false]));
        };
        does_nothing();
        let install = node.program(&["agent", "install"]).output().unwrap();
        let said = String::from_utf8(install.stderr).unwrap();
        assert!(
            !install.status.success()
                && said.contains("an agent of a newer version runs on this node"),
            "{said}"
        );
        // for as long as a restart may take it keeps the node
        newer.is_ready.store(false, Ordering::Relaxed);
        does_nothing();
        newer.is_ready.store(true, Ordering::Relaxed);
        does_nothing();
        newer.is_ready.store(false, Ordering::Relaxed);
        let started = Instant::now();
        until(|| node.path(PROGRAM).exists(), || agent.get("/readyz"));
        assert!(
            started.elapsed() > Duration::from_secs(9),
            "{:?}",
            started.elapsed()
        );
        let pod = cluster().create_pod_on("behind", "defaults", "behind");
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        assert!(newer.socket.exists());
    });
}

#[test]
fn ownership_of_a_node_changes_and_no_add_is_lost() {
    on_node_with_agent(|node| {
        let started =
            |port: &'static str| Agent::start(node, cluster(), "hands", &["--probe-port", port]);
        let first = started("18801").ready();
        let pod = cluster().create_pod_on("hands", "defaults", "hands");
        let labs: Vec<_> = (0..12)
            .map(|n| node.pod(&format!("hands-{n}"), V4))
            .collect();
        let adds = |stop: &AtomicBool| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let lab = &labs[count % labs.len()];
                let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
                assert_eq!(call.code, 0, "{call:?}");
                count += 1;
            }
            count
        };
        let owner = |agent: &Agent<'_>| {
            let added = agent.metric("mesh_optin_look_ups_total{source=\"cache\"}");
            std::thread::sleep(Duration::from_secs(1));
            agent.metric("mesh_optin_look_ups_total{source=\"cache\"}") > added
        };
        let (count, ()) = beside(adds, || {
            until(|| owner(&first), || first.get("/readyz"));
            let second = started("18802").ready();
            until(|| owner(&second), || second.get("/readyz"));
            assert_eq!(
                (first.get("/readyz").as_str(), owner(&first)),
                ("ready\n", false)
            );
            second.end(Signal::SIGKILL);
            until(|| owner(&first), || first.get("/readyz"));
            let third = started("18803").ready();
            until(|| owner(&third), || third.get("/readyz"));
            third.end(Signal::SIGTERM);
            until(|| owner(&first), || first.get("/readyz"));
        });
        println!("{count} ADDs while the node changed hands four times");
        // an owner that does not answer loses the node, and notices it when it goes on: an ADD that asked it is tried again
        let stopped = started("18804").ready();
        let lab = node.pod("hands-after", V4);
        let answers = |agent: &Agent<'_>| {
            let answered = || agent.metric("mesh_optin_look_ups_total{source=\"cache\"}");
            let before = answered();
            add(node, cluster(), &lab.netns, &cni_args(&pod));
            answered() > before
        };
        until(|| answers(&stopped), || stopped.get("/readyz"));
        stopped.signal(Signal::SIGSTOP);
        until(|| answers(&first), || first.get("/readyz"));
        stopped.signal(Signal::SIGCONT);
        until(
            || stopped.get("/readyz") == "ready\n",
            || stopped.get("/readyz"),
        );
        assert!(answers(&first) && !answers(&stopped));
    });
}
