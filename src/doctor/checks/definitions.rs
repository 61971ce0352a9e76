//! Whether the CRDs have the fields and words of the agents' release. Bounds and rules are not compared.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::Value;

use super::{Facts, Looked};
use crate::{
    profile::{VERSION, crd, mesh_node_crd},
    reason::names,
};

const APPLY: &str = "install those of the agents' release: kubectl apply -f crds/meshoptin.dev_meshprofiles.yaml -f crds/meshoptin.dev_meshnodes.yaml, or upgrade the chart's release with crds.install";
const UPGRADE: &str = "upgrade the agents to its release: kubectl apply -k deploy/kubernetes, or upgrade the chart's release";

/// Compares the CRDs with those that this program knows, field by field, if it is of these agents' version. Only the chart writes a version on
/// them, as a label, which stays when crds/ is applied over it: what a schema has is what can be relied on.
pub(super) fn compare(facts: &Facts, looked: &mut Looked, agents: &BTreeSet<&str>) {
    let definitions = looked.list(&facts.definitions).unwrap_or_default();
    if definitions.is_empty() || agents.is_empty() {
        return; // another check says what is missing
    }
    if !agents.contains(VERSION) {
        let agents: Vec<_> = agents.iter().collect();
        return looked.not_said(format!(
            "whether the CRDs are those of agents {}: this program is {VERSION}, and knows its own",
            names(&agents)
        ));
    }
    static KNOWN: LazyLock<[Value; 2]> = LazyLock::new(|| [crd(), mesh_node_crd()]);
    for ours in &*KNOWN {
        let name = &ours["metadata"]["name"];
        let theirs = definitions.iter().find(|d| d["metadata"]["name"] == *name);
        let (Some(theirs), Some(name)) = (theirs, name.as_str()) else {
            continue;
        };
        of_kind(looked, name, ours, theirs);
    }
}

fn of_kind(looked: &mut Looked, name: &str, ours: &Value, theirs: &Value) {
    let at = format!("CustomResourceDefinition {name}");
    let (Some(ours), Some(theirs)) = (schema(ours), schema(theirs)) else {
        return looked.not_said(format!("{at} has no version v1alpha1"));
    };
    let (lacks, has) = (beyond(ours, theirs), beyond(theirs, ours));
    match (lacks.as_slice(), has.as_slice()) {
        ([], []) => {}
        (lacks, []) => looked.warning(
            at,
            format!(
                "it is older than agents {VERSION}: it lacks {}",
                names(lacks)
            ),
            APPLY,
        ),
        ([], has) => looked.warning(
            at,
            format!(
                "it is newer than agents {VERSION}, which do not know {}",
                names(has)
            ),
            UPGRADE,
        ),
        (lacks, has) => looked.warning(
            at,
            format!(
                "it is of another version than agents {VERSION}: it lacks {}, and has {}",
                names(lacks),
                names(has)
            ),
            APPLY,
        ),
    }
}

/// The schema of the version that agents speak.
fn schema(definition: &Value) -> Option<&Value> {
    let mut versions = definition["spec"]["versions"].as_array()?.iter();
    let version = versions.find(|version| version["name"] == "v1alpha1")?;
    Some(&version["schema"]["openAPIV3Schema"])
}

/// The fields of one schema, and the words that they can be, that another one has not.
fn beyond(one: &Value, other: &Value) -> Vec<String> {
    let mut all = Vec::new();
    add_beyond(one, other, "", &mut all);
    all
}

fn add_beyond(one: &Value, other: &Value, at: &str, all: &mut Vec<String>) {
    for (name, field) in one["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match other["properties"].get(name) {
            Some(other) => add_beyond(field, other, &at, all),
            None => all.push(at.trim_start_matches('.').to_owned()),
        }
    }
    for of_entries in ["items", "additionalProperties"] {
        add_entries_beyond(&one[of_entries], &other[of_entries], at, all);
    }
    let words = |schema: &Value| schema["enum"].as_array().cloned().unwrap_or_default();
    let (words, others) = (words(one), words(other));
    // without any words all are taken
    if !others.is_empty() {
        let new = words.iter().filter(|word| !others.contains(word));
        let at = at.trim_start_matches('.');
        all.extend(new.map(|word| format!("{at}: {}", word.as_str().unwrap_or_default())));
    }
}

fn add_entries_beyond(one: &Value, other: &Value, at: &str, all: &mut Vec<String>) {
    if one.is_object() && other.is_object() {
        add_beyond(one, other, at, all);
    }
}
