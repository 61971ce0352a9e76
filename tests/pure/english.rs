//! Names and prose in the terms that engineers know. Not a style guide: only what was found here once and is easy to write again.

use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The words with which a banned phrase begins, and what is written instead. A space at the end: the last word is whole.
const BANNED: [(&str, &str); 20] = [
    ("anew ", "re-..., again"),
    ("are told ", "are reported, logged, distinguished"),
    ("behaviour", "behavior"),
    ("colour", "color"),
    ("for ever ", "until it is canceled"),
    ("honour", "honor"),
    ("is told ", "is reported, logged, distinguished"),
    ("labelled", "labeled"),
    ("made again ", "recreated"),
    ("misspelt", "misspelled"),
    ("neighbour", "neighbor"),
    ("nobody else s ", "not foreign"),
    ("optimis", "optimiz"),
    ("put right ", "repaired"),
    ("puts right ", "repairs"),
    ("re created ", "recreated"),
    ("recognis", "recogniz"),
    ("so long ", "the duration by its name"),
    ("so many ", "the number by its name"),
    ("somebody else", "foreign"),
];

/// Every file of the repository that people write, by its path and its text.
fn files(path: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(ROOT).unwrap().display().to_string();
        if path.is_dir() {
            files(&path, into);
        } else if !name.starts_with("tests/data/") && name != "tests/pure/english.rs" {
            // a program is no text
            into.extend(std::fs::read_to_string(&path).ok().map(|text| (name, text)));
        }
    }
}

fn written() -> Vec<(String, String)> {
    let mut written = Vec::new();
    for folder in ["src", "tests", "deploy", "crds", "examples", ".github"] {
        files(&Path::new(ROOT).join(folder), &mut written);
    }
    let page = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    written.push(("README.md".into(), page));
    assert!(written.len() > 250, "{}", written.len());
    written
}

/// The prose of a line: of Rust, comments and texts.
fn prose(name: &str, line: &str) -> String {
    let (code, comment) = line.split_once("// ").unwrap_or((line, ""));
    match name.ends_with(".rs") {
        true if line.trim_start().starts_with("//") => line.to_owned(),
        true => {
            code.split('"')
                .skip(1)
                .step_by(2)
                .collect::<Vec<_>>()
                .join(" ")
                + " "
                + comment
        }
        false => line.to_owned(),
    }
}

#[test]
fn banned_words_are_not_written() {
    let mut found = Vec::new();
    for (name, text) in written() {
        for (at, line) in text.lines().enumerate() {
            let line = prose(&name, line).to_lowercase();
            let words = line.replace(|c: char| !c.is_alphanumeric(), " ");
            for (banned, instead) in BANNED {
                if format!(" {words} ").contains(&format!(" {banned}")) {
                    found.push(format!("{name}:{}: {banned:?}: {instead}", at + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_name_has_a_genitive() {
    let mut found = Vec::new();
    for (name, text) in written() {
        if !name.ends_with(".rs") {
            continue;
        }
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let genitives = words.filter(|word| word.contains("_s_") || word.ends_with("_s"));
        found.extend(genitives.map(|word| format!("{name}: {word}")));
    }
    assert!(found.is_empty(), "{found:#?}");
}
