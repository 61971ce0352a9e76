//! What makes a release agrees with what is released, as far as that shows without making one.

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn file(name: &str) -> String {
    let path = format!("{ROOT}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn chart_manifests_and_image_have_the_version_of_the_package() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = yaml("deploy/helm/mesh-optin/Chart.yaml");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&version.into(), &version.into())
    );
    for folder in ["kubernetes", "openshift", "uninstall"] {
        let kustomization = yaml(&format!("deploy/{folder}/kustomization.yaml"));
        assert_eq!(kustomization["images"][0]["newTag"], version, "{folder}");
    }
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let base = format!("FROM rust:{rust}.");
    assert!(
        file("deploy/Dockerfile").contains(&base),
        "the image is not built with Rust {rust}"
    );
}

#[test]
fn the_release_workflow_runs_pinned_actions_and_scripts_of_ours_with_few_rights() {
    let workflow = yaml(".github/workflows/release.yaml");
    assert_eq!(
        workflow["permissions"],
        serde_json::json!({}),
        "rights are given job by job"
    );
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        assert!(
            job["permissions"].is_object() && job["timeout-minutes"].is_u64(),
            "{name}"
        );
        for step in job["steps"].as_array().unwrap() {
            if let Some(action) = step["uses"].as_str() {
                let commit = action.split_once('@').unwrap().1;
                let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
                assert!(is_commit, "{name}: {action} is not pinned by a commit");
                continue;
            }
            // scripts are linted as files; an expression in one could be anybody's text
            let command = step["run"].as_str().unwrap();
            assert!(
                !command.contains("${{") && command.lines().count() == 1,
                "{name}: {command}"
            );
            let is_file = |word: &str| std::path::Path::new(ROOT).join(word).is_file();
            assert!(command.split(' ').any(is_file), "{name}: {command}");
        }
    }
}
