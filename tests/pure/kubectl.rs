//! `kubectl mesh-optin` as a person types it; what it says of a cluster is in `tests/cluster/doctor`.

use std::process::Command;

use crate::cli::{help_of, run};

/// Runs the program where there is no cluster.
fn kubectl_mesh_optin(args: &[&str]) -> (i32, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kubectl-mesh_optin"));
    run(program.args(args).env("KUBECONFIG", "/nowhere"))
}

#[test]
fn help_says_what_each_command_and_flag_does() {
    let help = help_of("kubectl mesh-optin", kubectl_mesh_optin, &[]);
    insta::assert_snapshot!("kubectl_help", help);
}

#[test]
fn wrong_usage_and_no_cluster_are_told_apart() {
    for (args, code, part) in [
        (&["doctor"][..], 1, "there is no kubeconfig to be read"),
        (&["doctor", "--kubeconfig", "/nowhere"], 1, "/nowhere"),
        (
            &["status", "--context", "x"],
            1,
            "the kubeconfig cannot be read",
        ),
        (&["doctor", "-n", "../x"], 2, "no name of a namespace"),
        (&["explain", "a/b"], 2, "no name of a pod"),
        (&["explain", "a", "-A"], 2, "a pod is in one namespace"),
        (&["doctor", "-A", "-n", "a"], 2, "cannot be used with"),
        (&["explain"], 2, "POD"),
        (&[], 2, "Usage: kubectl mesh-optin"),
        (&["--version"], 0, ""),
    ] {
        let (found, out, error) = kubectl_mesh_optin(args);
        assert_eq!(found, code, "{args:?}: {out}{error}");
        assert!(error.contains(part), "{args:?}: {error}");
    }
}
