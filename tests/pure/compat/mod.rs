//! What is persisted or spoken, of every released version: read from then on, and written as it was.

mod shapes;

use mesh_optin::source::wire::VERSION;
use serde_json::Value;

use self::shapes::shapes;
use crate::kept::{data_path, first_difference, is_update};

/// The folder of what has not been released yet. It may change until it gets its version's name.
const NEXT: &str = "next";

/// Folders of released versions, the oldest first, and the next one's.
fn folders() -> Vec<String> {
    let name =
        |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(data_path("compat"))
        .unwrap()
        .map(name)
        .collect();
    let version = |n: &String| {
        n.split('.')
            .map(|p| p.parse::<u32>().unwrap_or(u32::MAX))
            .collect::<Vec<_>>()
    };
    names.sort_by_key(version);
    names
}

/// Shapes that 0.1.0 did not have.
const SINCE_0_2_0: [&str; 7] = [
    "mesh-node.json",
    "question-owner.json",
    "question-decided.json",
    "answer-decided.json",
    "question-report.json",
    "answer-heard.json",
    "answer-owner.json",
];

/// Whether all that `old` says is said by `new`, too.
fn is_kept(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old
            .iter()
            .all(|(key, value)| new.get(key).is_some_and(|new| is_kept(value, new))),
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| is_kept(old, new))
        }
        (old, new) => old == new,
    }
}

#[test]
fn what_every_released_version_wrote_is_read() {
    let folders = folders();
    assert!(folders.iter().any(|f| f == "0.1.0"), "{folders:?}");
    for (folder, shape) in folders
        .iter()
        .flat_map(|f| shapes().into_iter().map(move |s| (f, s)))
    {
        let name = format!("compat/{folder}/{}", shape.file);
        let Ok(text) = std::fs::read_to_string(data_path(&name)) else {
            let is_later = folder != "0.1.0" || SINCE_0_2_0.contains(&shape.file);
            assert!(is_later, "tests/data/{name} is missing");
            continue; // of a later version
        };
        let read = (shape.read)(&text).unwrap_or_else(|e| {
            panic!(
                "what version {folder} wrote can no longer be read, tests/data/{name}: {e}. A new field needs a default \
                 that means the old behavior"
            )
        });
        let old = serde_json::from_str(&text).unwrap();
        assert!(
            is_kept(&old, &read),
            "something that version {folder} wrote is lost when it is read, tests/data/{name}: a field was renamed or removed. \
             Now it reads: {read:#}"
        );
    }
}

#[test]
fn what_is_written_has_the_shape_of_the_last_version_or_the_next_one() {
    let (released, mut folders) = (
        folders().into_iter().rfind(|f| f != NEXT).unwrap(),
        folders(),
    );
    let read = |folder: &str, file: &str| {
        std::fs::read_to_string(data_path(&format!("compat/{folder}/{file}"))).ok()
    };
    let changed = |folder: &str| {
        let shapes = shapes();
        shapes
            .into_iter()
            .filter(|s| read(folder, s.file).as_ref() != Some(&s.written))
            .collect::<Vec<_>>()
    };
    if is_update() && !changed(&released).is_empty() {
        std::fs::create_dir_all(data_path("compat").join(NEXT)).unwrap();
        for shape in shapes() {
            std::fs::write(
                data_path(&format!("compat/{NEXT}/{}", shape.file)),
                shape.written,
            )
            .unwrap();
        }
        folders.push(NEXT.into());
    }
    let newest = if folders.iter().any(|f| f == NEXT) {
        NEXT
    } else {
        &released
    };
    if let Some(shape) = changed(newest).first() {
        let before = read(newest, shape.file).unwrap_or_default();
        panic!(
            "{} is not written as in tests/data/compat/{newest}: nodes have files and programs of version {released}. If that is meant, and \
             the older one can still be read, record it with UPDATE=1 in tests/data/compat/{NEXT}; of questions, answers and reports \
             raise wire::VERSION as well. The first difference: {}",
            shape.file,
            first_difference(&before, &shape.written)
        );
    }
    let spoken =
        |s: &shapes::Shape| !["record.json", "installed.json", "mesh-node.json"].contains(&s.file);
    let version = |folder: &str| -> Value {
        serde_json::from_str::<Value>(&read(folder, "question.json").unwrap()).unwrap()["version"]
            .take()
    };
    for shape in changed(&released).into_iter().filter(spoken) {
        assert_ne!(
            version(&released),
            Value::from(VERSION),
            "{} has changed since version {released}: raise wire::VERSION",
            shape.file
        );
    }
}
