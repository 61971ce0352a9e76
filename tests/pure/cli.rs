//! The command line as a person or a script uses it.

use std::process::{Command, Stdio};

use serde_json::Value;

/// Exit code, stdout, stderr.
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
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

/// Runs the program.
pub(crate) fn mesh_optin(args: &[&str]) -> (i32, String, String) {
    run(Command::new(env!("CARGO_BIN_EXE_mesh-optin")).args(args))
}

/// Writes a file for `-f`.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn explain_shows_the_decision_its_reason_and_every_input() {
    let (code, out, _) = mesh_optin(&["explain", "-f", "examples"]);
    assert_eq!(code, 3, "of several pods the worst");
    insta::assert_snapshot!("explain_examples", out);
}

#[test]
fn explain_prints_json_of_the_documented_shape() {
    let (code, out, _) = mesh_optin(&[
        "explain", "web", "-n", "team-a", "-f", "examples", "-o", "json",
    ]);
    assert_eq!(code, 0);
    let json: Value = serde_json::from_str(&out).unwrap();
    let pod = &json["pods"][0];
    let keys: Vec<_> = pod
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "assumed",
            "captures",
            "inputs",
            "message",
            "name",
            "namespace",
            "outcome",
            "reason",
            "remedy",
            "warnings"
        ]
    );
    assert_eq!(
        (&pod["outcome"], &pod["reason"], &pod["assumed"]),
        (&"redirect".into(), &"Redirected".into(), &true.into())
    );
    let nad = pod["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|i| i["source"] == "NAD")
        .unwrap();
    assert_eq!(
        (&nad["name"], &nad["value"]),
        (&"excludeOutboundPorts".into(), &"5432".into())
    );
}

#[test]
fn each_outcome_has_its_exit_code() {
    let namespace = "{kind: Namespace, metadata: {name: a, labels: {istio-injection: enabled}}}";
    let tproxy = file(&format!(
        "{namespace}\n---\n{{kind: Pod, metadata: {{name: p, namespace: a, annotations: {{sidecar.istio.io/interceptionMode: TPROXY}}}}, spec: {{}}}}"
    ));
    let refused = file(&format!(
        "{namespace}\n---\n{{kind: Pod, metadata: {{name: p, namespace: a, annotations: {{traffic.sidecar.istio.io/includeInboundPorts: http}}}}, spec: {{}}}}"
    ));
    let no_namespace = file("{kind: Pod, metadata: {name: p, namespace: a}, spec: {}}");
    let broken = file("kind: [");
    let path = |f: &tempfile::NamedTempFile| f.path().to_str().unwrap().to_owned();
    for (args, code, part) in [
        (vec!["explain", "web", "-f", "examples"], 0, ""),
        (vec!["explain", "batch", "-f", "examples"], 3, ""),
        (vec!["explain", "-f", &path(&tproxy)], 0, ""),
        (vec!["explain", "-f", &path(&refused)], 4, ""),
        (
            vec!["explain", "-f", &path(&no_namespace)],
            2,
            "no Namespace a",
        ),
        (
            vec!["explain", "nobody", "-f", "examples"],
            2,
            "no such pod",
        ),
        (vec!["explain", "-f", &path(&broken)], 1, "document 1"),
        (vec!["explain", "-f", "/nowhere"], 1, "/nowhere"),
        (vec!["explain"], 2, "--file"),
        (vec!["frobnicate"], 2, "frobnicate"),
        (vec!["rules", "-f", &path(&refused)], 1, "InvalidAnnotation"),
        (
            vec!["rules", "web", "-f", "examples", "--format", "iptables"],
            0,
            "",
        ),
        (
            vec![
                "rules", "web", "-f", "examples", "--format", "iptables", "--family", "v4,v6",
            ],
            2,
            "one family",
        ),
        (
            vec!["rules", "-f", "examples", "--format", "iptables"],
            2,
            "one pod",
        ),
        (
            vec!["rules", "batch", "-f", "examples"],
            0,
            "left alone: OptedOut",
        ),
        (vec!["--version"], 0, ""),
        (vec![], 2, "Usage"),
    ] {
        let (found, out, err) = mesh_optin(&args);
        assert_eq!(found, code, "{args:?}: {out}{err}");
        assert!(err.contains(part), "{args:?}: {err}");
    }
}

#[test]
fn rules_are_printed_in_each_form() {
    let rules = |format: &str, family: &str| {
        mesh_optin(&[
            "rules", "web", "-f", "examples", "--format", format, "--family", family,
        ])
        .1
    };
    insta::assert_snapshot!("rules_text", rules("text", "v4"));
    insta::assert_snapshot!("rules_nft_ipv6_only", rules("nft", "v6"));
    let json: Value = serde_json::from_str(&rules("json", "v6")).unwrap();
    assert_eq!(json["pods"][0]["addresses"][0]["address"], "::6/128");
    assert_eq!(
        json["pods"][0]["table"]["chains"].as_array().unwrap().len(),
        3
    );
}

#[test]
fn hostile_text_cannot_move_the_terminal() {
    let pod = file(
        "{kind: Namespace, metadata: {name: a, labels: {istio-injection: \"\\e[2J\"}}}\n---\n{kind: Pod, metadata: {name: \"p\\e[31m\", namespace: a}, spec: {}}",
    );
    let (_, out, err) = mesh_optin(&["explain", "-f", pod.path().to_str().unwrap()]);
    assert!(
        !out.contains('\x1b') && !err.contains('\x1b') && out.contains("\\u{1b}[31m"),
        "{out}{err}"
    );
}

#[test]
fn a_profile_and_an_attachment_in_the_files_count() {
    let extra = file(
        "{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: strict}, spec: {tenants: {mayOverride: [includeOutboundPorts]}}}",
    );
    let (code, out, _) = mesh_optin(&[
        "explain",
        "web",
        "-f",
        "examples",
        "-f",
        extra.path().to_str().unwrap(),
    ]);
    assert_eq!(code, 4);
    assert!(out.contains("OverrideNotAllowed: the profile does not let network attachments set traffic.excludeOutboundPorts"), "{out}");
}

#[test]
fn explain_knows_which_attachment_of_a_pod_counts() {
    let nad = |name: &str, port: &str| {
        format!(
            "{{kind: NetworkAttachmentDefinition, metadata: {{name: {name}, namespace: a}}, spec: {{config: '{{\"type\": \"mesh-optin\", \"meshOptin\": {{\"traffic\": {{\"excludeOutboundPorts\": \"{port}\"}}}}}}'}}}}\n---\n"
        )
    };
    let nine = ["default/istio-cni"; 9].join(",");
    for (networks, code, parts) in [
        ("mesh, default/istio-cni", 0, ["Redirected", "5432"]),
        ("default/istio-cni, mesh", 0, ["Redirected", "5432"]),
        (
            r#"[{"name":"mesh"},{"name":"istio-cni","namespace":"default"}]"#,
            0,
            ["Redirected", "5432"],
        ),
        ("mesh, equal", 0, ["Redirected", "5432"]),
        (
            "mesh, other, default/istio-cni",
            4,
            ["ConflictingAttachment"; 2],
        ),
        (nine.as_str(), 4, ["TooManyAttachments"; 2]),
    ] {
        let files = file(&format!(
            "{{kind: Namespace, metadata: {{name: a, labels: {{istio-injection: enabled}}}}}}\n---\n{}{}{}\
             {{kind: Pod, metadata: {{name: p, namespace: a, annotations: {{k8s.v1.cni.cncf.io/networks: '{networks}'}}}}, spec: {{}}}}",
            nad("mesh", "5432"),
            nad("equal", " 5432"),
            nad("other", "6432"),
        ));
        let (found, out, error) = mesh_optin(&["explain", "-f", files.path().to_str().unwrap()]);
        assert_eq!(found, code, "{networks}: {out}{error}");
        assert!(
            parts.iter().all(|part| out.contains(part)),
            "{networks}: {out}"
        );
    }
}

#[test]
fn explain_warns_of_a_live_pod_for_which_multus_does_not_call_the_plugin() {
    let explain = |networks: &str| {
        let pod = file(&format!(
            "{{kind: Namespace, metadata: {{name: a, labels: {{istio-injection: enabled}}}}}}
---
{{kind: NetworkAttachmentDefinition, metadata: {{name: macvlan, namespace: a}}, spec: {{config: '{{\"type\": \"macvlan\"}}'}}}}
---
{{kind: Pod, metadata: {{name: p, namespace: a, uid: u, annotations: {{sidecar.istio.io/status: '{{}}', k8s.v1.cni.cncf.io/networks: '{networks}'}}}},
  spec: {{containers: [{{name: istio-proxy, args: [proxy, sidecar]}}]}}}}"
        ));
        mesh_optin(&["explain", "-f", pod.path().to_str().unwrap()])
            .1
            .contains("Bypassing: the pod names no attachment")
    };
    assert!(explain("") && explain("macvlan"));
    assert!(!explain("default/istio-cni") && !explain("macvlan, somewhere/else"));
}

#[test]
fn explain_says_of_a_running_pod_that_it_would_be_refused() {
    let explain = |status: &str| {
        let pod = file(&format!(
            "{{kind: Namespace, metadata: {{name: a, labels: {{istio-injection: enabled}}}}}}
---
{{kind: Pod, metadata: {{name: p, namespace: a, uid: u, labels: {{sidecar.istio.io/inject: 'true'}}, annotations: {{k8s.v1.cni.cncf.io/networks: default/istio-cni}}}},
  spec: {{containers: [{{name: app}}]}}, status: {status}}}"
        ));
        let path = pod.path().to_str().unwrap();
        (
            mesh_optin(&["explain", "-f", path]),
            mesh_optin(&["explain", "-f", path, "-o", "json"]).1,
        )
    };
    let would = "Recreated, it would be refused: SidecarMissing";
    let running = "{containerStatuses: [{name: app, containerID: 'c', state: {running: {}}}]}";
    let ((code, text, _), json) = explain(running);
    assert!(code == 3 && text.contains(would), "{code} {text}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pods"][0]["refusedIfRecreated"], "SidecarMissing");
    let ((code, text, _), _) = explain("{}");
    assert!(code == 4 && !text.contains("Recreated"), "{code} {text}");
}

/// `--help` of every command.
pub(crate) fn help() -> String {
    help_of("mesh-optin", mesh_optin, &[])
}

/// `--help` of a command and of those below it.
pub(crate) fn help_of(
    program_name: &str,
    program: fn(&[&str]) -> (i32, String, String),
    command: &[&str],
) -> String {
    let (code, out, _) = program(&[command, &["--help"]].concat());
    assert_eq!(code, 0, "{command:?}");
    let mut all = format!("== {program_name} {}\n{out}\n", command.join(" "));
    let below = out.split_once("Commands:\n").unwrap_or_default().1;
    let rows = below.lines().take_while(|line| !line.is_empty());
    for name in rows.filter_map(|line| line.split_whitespace().next()) {
        if name != "help" {
            all += &help_of(program_name, program, &[command, &[name]].concat());
        }
    }
    all
}

#[test]
fn help_says_what_each_command_and_flag_does() {
    insta::assert_snapshot!("help", help());
}
