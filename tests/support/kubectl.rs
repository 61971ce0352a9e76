//! `kubectl mesh-optin` in the network of a control plane.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{cluster::Cluster, lab::inside};

/// The program, which is built with its own feature alone: tests/run does that.
fn program() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_mesh-optin")).with_file_name("kubectl-mesh_optin");
    assert!(
        path.exists(),
        "{} is needed: cargo build --locked --features kubectl --bin kubectl-mesh_optin",
        path.display()
    );
    path
}

/// Runs it with this kubeconfig: its exit code, and what it wrote to stdout and stderr.
#[allow(clippy::disallowed_methods, reason = "it is a process")]
pub fn mesh_optin(cluster: &Cluster, kubeconfig: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(program());
    command.arg("--kubeconfig").arg(kubeconfig).args(args);
    let output = inside(&cluster.netns, || command.output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What `doctor` says, and its exit code.
pub fn doctor(cluster: &Cluster, kubeconfig: &Path, args: &[&str]) -> (i32, Value) {
    let args = [&["doctor", "-o", "json"], args].concat();
    let (code, out, error) = mesh_optin(cluster, kubeconfig, &args);
    let json = serde_json::from_str(&out);
    (
        code,
        json.unwrap_or_else(|_| panic!("{code}: {out}{error}")),
    )
}

/// Waits until `doctor` says so: lists come from the API server's memory, which a write reaches a moment later.
pub fn doctor_says(
    (cluster, kubeconfig, args): (&Cluster, &Path, &[&str]),
    what: &str,
    is_so: impl Fn(i32, &Value) -> bool,
) -> Value {
    let started = Instant::now();
    loop {
        let (code, json) = doctor(cluster, kubeconfig, args);
        if is_so(code, &json) {
            return json;
        }
        let is_late = started.elapsed() > Duration::from_secs(60);
        assert!(!is_late, "{what}: {code}: {json:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a finding of a check says this, with this remedy.
pub fn finds(json: &Value, name: &str, message: &str, remedy: &str) -> bool {
    let says = |finding: &Value| {
        let text = |field: &str| finding[field].as_str().unwrap().to_owned();
        let said = format!("{}: {}", text("object"), text("message"));
        said.contains(message) && text("remedy").contains(remedy)
    };
    check(json, name)["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(says)
}

/// A check of what `doctor` says.
pub fn check<'a>(json: &'a Value, name: &str) -> &'a Value {
    let checks = json["checks"].as_array().unwrap();
    let check = checks.iter().find(|c| c["check"] == name);
    check.unwrap_or_else(|| panic!("there is no check {name}: {json:#}"))
}
