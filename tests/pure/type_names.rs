//! A name means one thing: a type has the name of one in another file only where both stand for the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
/// What several types stand for.
const SAME: [(&str, &str); 7] = [
    (
        "an object of Kubernetes, as a part of the program needs it",
        "Cluster Container Events Metadata Named Namespace Node Object Pod ProfileObject RuntimeClass Status Workload",
    ),
    (
        "a command line of one program or command",
        "Args Format PodReport",
    ),
    (
        "the same of nf_tables and of iptables",
        "Chain Found Match Reader Rule Rules Table",
    ),
    (
        "what associated types of traits are called",
        "Err Error Future Item Response Target",
    ),
    (
        "failures of requests to the API server, and what follows",
        "Failure Pauses",
    ),
    (
        "what was compared or looked at, and is not as it should be",
        "Difference",
    ),
    ("one for each program or file", "Plugin"),
];

/// The name that a line declares as a type.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest
            .split_once(' ')?
            .1
            .trim_start_matches("crate::kernel::nftables) "),
        None => line,
    };
    let rest = ["struct ", "enum ", "trait ", "type "]
        .iter()
        .find_map(|kind| line.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(&rest[..end.unwrap_or(rest.len())])
}

fn collect(folder: &Path, into: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(SOURCE).unwrap().display().to_string();
        // types within functions and tests are known to nobody else
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]" || text.starts_with("#[cfg(test)]"));
        let outer = lines.filter(|line| line.chars().take_while(|c| *c == ' ').count() <= 4);
        for name in outer.filter_map(declared) {
            into.entry(name.to_owned())
                .or_default()
                .insert(file.clone());
        }
    }
}

#[test]
fn types_of_one_name_stand_for_the_same() {
    let mut all = BTreeMap::new();
    collect(Path::new(SOURCE), &mut all);
    assert!(all.len() > 400, "{}", all.len());
    all.retain(|_, files| files.len() > 1);
    let same: BTreeSet<_> = SAME
        .iter()
        .flat_map(|(_, names)| names.split(' '))
        .collect();
    let twice: Vec<_> = all
        .iter()
        .filter(|(name, _)| !same.contains(name.as_str()))
        .collect();
    assert!(
        twice.is_empty(),
        "name one of each after what sets it apart: {twice:#?}"
    );
    let once: Vec<_> = same
        .iter()
        .filter(|name| !all.contains_key(**name))
        .collect();
    assert!(
        once.is_empty(),
        "there is only one of each of these by now: {once:?}"
    );
}

#[test]
fn a_declared_type_is_found_whatever_its_visibility() {
    for (line, name) in [
        ("pub(super) struct Store {", Some("Store")),
        ("    pub enum Key(\"traffic setting\") {", Some("Key")),
        ("type Known<'a> = &'a str;", Some("Known")),
        (
            "pub(in crate::kernel::nftables) struct Verdict<'a> {",
            Some("Verdict"),
        ),
        ("/// struct of it", None),
        ("pub fn type_of() {}", None),
    ] {
        assert_eq!(declared(line), name, "{line}");
    }
}
