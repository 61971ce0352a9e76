//! What is linked into the programs: its licenses, and no library twice without a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Licenses that what we link may have, by SPDX name.
const LICENSES: [&str; 8] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];
/// Libraries of which there are two versions, with who keeps the older one.
const TWICE: [(&str, &str); 6] = [
    ("base64", "k8s-openapi"),
    ("getrandom", "ring"),
    ("hashbrown", "kube-runtime"),
    ("syn", "at build time"),
    ("thiserror", "cel, which the node's program does not have"),
    ("thiserror-impl", "cel, at build time"),
];

/// Packages of the normal and build dependencies, all features, on Linux.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
        ])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].take();
    let by_id: BTreeMap<_, _> = nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let root = metadata["resolve"]["root"].as_str().unwrap().to_owned();
    let (mut reached, mut left) = (BTreeSet::new(), vec![root.as_str()]);
    while let Some(id) = left.pop() {
        if reached.insert(id) {
            let deps = by_id[id]["deps"].as_array().unwrap().iter();
            let is_linked = |dep: &&Value| {
                let kinds = dep["dep_kinds"].as_array().unwrap();
                kinds.iter().any(|kind| kind["kind"] != "dev")
            };
            left.extend(
                deps.filter(is_linked)
                    .map(|dep| dep["pkg"].as_str().unwrap()),
            );
        }
    }
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| reached.contains(package["id"].as_str().unwrap()))
        .cloned()
        .collect()
}

/// Whether one of the ways that an SPDX expression leaves is made of these licenses. Its parentheses stand around alternatives only.
fn is_allowed(expression: &str) -> bool {
    let all_of = expression.split(" AND ");
    all_of.into_iter().all(|part| {
        let part = part.trim_matches(['(', ')']).replace('/', " OR ");
        part.split(" OR ")
            .any(|license| LICENSES.contains(&license.trim()))
    })
}

#[test]
fn licenses_are_those_that_apache_2_0_goes_with() {
    assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_allowed("MIT AND GPL-3.0") && !is_allowed("LGPL-2.1-or-later"));
    let packages = packages();
    assert!(packages.len() > 100, "{}", packages.len());
    for package in packages {
        let (name, license) = (
            &package["name"],
            package["license"].as_str().unwrap_or("no license"),
        );
        assert!(
            is_allowed(license),
            "{name} has {license}: leave it out, or list the license with a reason"
        );
    }
}

#[test]
fn no_library_is_there_in_two_versions_without_a_reason() {
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages() {
        let text = |field: &str| package[field].as_str().unwrap().to_owned();
        versions
            .entry(text("name"))
            .or_default()
            .insert(text("version"));
    }
    let twice: BTreeSet<_> = versions
        .iter()
        .filter(|(_, v)| v.len() > 1)
        .map(|(name, _)| name.as_str())
        .collect();
    let known: BTreeSet<_> = TWICE.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        twice, known,
        "libraries in two versions, and those that are known to be"
    );
}

/// What the node's program is built from, with the features that are on, without versions.
#[test]
fn the_nodes_program_has_these_libraries_and_no_others() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .args(["--format", "{p}|{f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let library = |line: &str| {
        let (package, features) = line.trim_end_matches(" (*)").split_once('|').unwrap();
        let name = package.split(' ').next().unwrap();
        format!("{name} {features}").trim_end().to_owned()
    };
    let libraries: BTreeSet<_> = tree.lines().map(library).collect();
    let libraries: Vec<_> = libraries.into_iter().collect();
    insta::assert_snapshot!("node_program", libraries.join("\n"));
}
