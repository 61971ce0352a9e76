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
fn everything_that_names_the_version_has_the_one_of_the_package() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = yaml("deploy/helm/mesh-optin/Chart.yaml");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&version.into(), &version.into())
    );
    for folder in ["controller", "kubernetes", "openshift", "uninstall"] {
        let kustomization = yaml(&format!("deploy/{folder}/kustomization.yaml"));
        assert_eq!(kustomization["images"][0]["newTag"], version, "{folder}");
    }
    for page in ["README.md", "deploy/README.md", "deploy/Dockerfile"] {
        let text = file(page);
        let tags = text.split("/mesh-optin:").skip(1);
        let other: Vec<_> = tags.filter(|tag| !tag.starts_with(version)).collect();
        assert!(text.contains("/mesh-optin:") && other.is_empty(), "{page}");
    }
    let changes = file("deploy/CHANGELOG.md");
    let mut headings = changes.lines().filter(|line| line.starts_with("## "));
    assert!(
        headings.any(|heading| heading.ends_with(version)),
        "deploy/CHANGELOG.md has no heading for {version}"
    );
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
