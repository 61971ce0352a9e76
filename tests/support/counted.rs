//! A call under valgrind, which counts its instructions: the same number each time, on any machine.

use std::process::Stdio;

use super::lab::{Call, Node};

/// A call, and how many instructions the program took for it, of all its threads.
pub fn instructions(node: &Node, verb: &str, netns: &str, args: &str, config: &str) -> (Call, u64) {
    node.install_libraries();
    std::fs::create_dir_all(node.path("usr/libexec/valgrind")).unwrap();
    for file in [
        "callgrind-amd64-linux",
        "default.supp",
        "vgpreload_core-amd64-linux.so",
    ] {
        let from = std::path::Path::new("/usr/libexec/valgrind").join(file);
        std::fs::copy(from, node.path("usr/libexec/valgrind").join(file))
            .expect("valgrind is needed (tests/run installs it)");
    }
    std::fs::create_dir_all(node.path("tmp")).unwrap();
    std::fs::copy("/usr/bin/valgrind.bin", node.path("valgrind")).unwrap();
    let mut command = node.command(
        "/valgrind",
        &[
            "--tool=callgrind",
            "--callgrind-out-file=/tmp/callgrind",
            "--log-file=/counted",
            "/mesh-optin",
        ],
    );
    command
        .env("VALGRIND_LIB", "/usr/libexec/valgrind")
        .env("CNI_COMMAND", verb)
        .env("CNI_NETNS", netns)
        .env("CNI_ARGS", args)
        .env("CNI_CONTAINERID", "c0ffee")
        .env("CNI_IFNAME", "net1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.as_bytes()).unwrap();
    let call = Call::of(child.wait_with_output().unwrap());
    let log =
        std::fs::read_to_string(node.path("counted")).unwrap_or_else(|e| panic!("{e}: {call:?}"));
    let count = log
        .lines()
        .find_map(|l| l.split_once("Collected : "))
        .unwrap_or_else(|| panic!("{log} {call:?}"));
    (call, count.1.trim().parse().unwrap())
}
