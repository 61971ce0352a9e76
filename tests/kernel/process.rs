//! The process: what it starts, whom it asks, and what it survives.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    lab::{CONFIG, V4, on_node},
    pods::given,
};

#[test]
fn an_add_is_one_process_and_starts_no_program() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let trace = node.path("trace");
        let root = node.path("");
        let script = format!(
            "cd / && exec strace -f -e trace=execve,execveat -o {} chroot {} /mesh-optin",
            trace.display(),
            root.display()
        );
        #[allow(clippy::disallowed_methods, reason = "strace is the witness")]
        let mut command = std::process::Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .env("CNI_COMMAND", "ADD")
            .env("CNI_NETNS", &lab.netns)
            .env("CNI_ARGS", &args)
            .env("CNI_CONTAINERID", "c")
            .env("CNI_IFNAME", "net1");
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), CONFIG.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let executed: Vec<_> = std::fs::read_to_string(trace)
            .unwrap()
            .lines()
            .filter(|l| l.contains("execve"))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            executed.len(),
            2,
            "strace's chroot, then the plugin itself: {executed:#?}"
        );
        assert!(executed[1].contains("\"/mesh-optin\""), "{executed:#?}");
    });
}

#[test]
fn the_next_source_is_asked_if_one_is_unavailable() {
    on_node(|node| {
        let args = given(node, "opt-out");
        let lab = node.pod("a", V4);
        node.credential(
            "https://127.0.0.1:1",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "t",
        );
        let configure = |sources: &str| {
            node.write(
                "etc/mesh-optin/node.yaml",
                &format!("{{sources: {sources}, manifests: /manifests, deadline: 2s}}"),
            )
        };
        configure("[agent, manifests]");
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
            "OptedOut"
        );
        configure("[api, agent]");
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("ApiUnauthorized: "),
            "what failed says more than what does not exist: {message}"
        );
        configure("[agent]");
        assert!(
            node.call("ADD", &lab.netns, &args, CONFIG)
                .error()
                .0
                .starts_with("NoSource: there is neither a node agent")
        );
        node.write(
            "var/lib/mesh-optin/installed.json",
            r#"{"version":"0.1.0"}"#,
        );
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with(
                "AgentUnavailable: the node agent does not answer on /run/mesh-optin/agent.sock"
            ),
            "{message}"
        );
        assert_eq!(
            node.call_with("STATUS", &[], CONFIG.as_bytes()).error().1,
            50
        );
    });
}

#[test]
fn a_log_that_cannot_be_written_fails_nothing() {
    on_node(|node| {
        let args = given(node, "defaults");
        let lab = node.pod("a", V4);
        let mut command = node.program(&[]);
        command.envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_NETNS", &lab.netns),
            ("CNI_ARGS", &args),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "net1"),
        ]);
        node.write("config", CONFIG);
        command.stdin(std::fs::File::open(node.path("config")).unwrap());
        command.stderr(
            std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        );
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    });
}

#[test]
fn a_stdin_that_never_ends_does_not_block_the_answer() {
    on_node(|node| {
        node.write("etc/mesh-optin/node.yaml", "{deadline: 500ms}");
        let mut command = node.program(&[]);
        command
            .env("CNI_COMMAND", "ADD")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let kept_open = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("DeadlineExceeded: ")
        );
        drop(kept_open);
    });
}

#[test]
fn the_container_that_has_uninstalled_ends_when_it_is_asked_to() {
    // the first process of a pid namespace, which signals that it does not ask for do not end
    #[allow(clippy::disallowed_methods, reason = "it is about a process")]
    let mut unshare = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork"])
        .args(["--kill-child", "--", env!("CARGO_BIN_EXE_mesh-optin")])
        .args(["agent", "uninstall", "--stay"])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let started = Instant::now();
    let mut ended = None;
    while ended.is_none() && started.elapsed() < Duration::from_secs(60) {
        let children = std::fs::read_to_string(&children).unwrap_or_default();
        for pid in children.split_whitespace() {
            let pid = Pid::from_raw(pid.parse().unwrap());
            kill(pid, Signal::SIGTERM).ok(); // again, if it was not listening yet
        }
        std::thread::sleep(Duration::from_millis(50));
        ended = unshare.try_wait().unwrap();
    }
    unshare.kill().ok();
    unshare.wait().unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}
