//! The first command of README.md.

use std::process::{Command, Stdio};

use crate::support::lab::new_namespaces;

/// Exit code, stdout, stderr.
#[allow(clippy::disallowed_methods, reason = "as a person runs it")]
fn run(program: &str, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-optin");
const DEMO_SHOWS: [&str; 7] = [
    "Pod team-a/web: Redirected",
    "Pod team-a/batch: OptedOut",
    "Pod team-b/api: Redirected",
    "Pod team-b/manual: Redirected",
    "Pod team-b/plain: NotEnrolled",
    "out, as the application (uid 1000)  203.0.113.10:80      the sidecar's outbound port 15001",
    "5 pods in ",
];

#[test]
fn the_demo_shows_the_main_job_to_root_and_leaves_nothing() {
    // where nobody else makes or removes anything
    std::thread::scope(|scope| {
        let alone = scope.spawn(|| {
            new_namespaces();
            let left = || {
                ["/proc/thread-self/net/dev", "/proc/thread-self/mounts"]
                    .map(|f| std::fs::read_to_string(f).unwrap())
            };
            let before = left();
            let (code, out, err) = run(PROGRAM, &["demo"]);
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            for shown in DEMO_SHOWS {
                assert!(out.contains(shown), "{shown}: {out}");
            }
            assert!(!out.contains('\x1b'), "no color without a terminal");
            assert_eq!(left(), before);
        });
        alone.join().unwrap();
    });
}

#[test]
fn the_demo_needs_no_root() {
    // where this user can reach it
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mesh-optin");
    let program = program.to_str().unwrap();
    // by a process of its own: a child of another test would for a moment have the copy open for writing, and nobody could execute it
    assert_eq!(run("cp", &[PROGRAM, program]).0, 0);
    std::fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let (code, out, err) = run(
        "setpriv",
        &[&user[..], &["--no-new-privs", program, "demo"]].concat(),
    );
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for shown in DEMO_SHOWS {
        assert!(out.contains(shown), "{shown}: {out}");
    }
}
