//! Reasons are for people and programs that read them. Code that goes on differently after a failure knows the failure by a type of its
//! own: a comparison with a Reason is not found by whoever adds one, or says one in another place.

use std::{collections::BTreeMap, path::Path};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
/// Rooms whose work is to say reasons.
const MAY: [&str; 3] = ["reason/", "plugin/", "cli/"];
/// How often code compares something with a Reason.
fn comparisons(code: &str) -> usize {
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let compared = ["reason ==", "reason !="].map(|how| code.matches(how).count());
    let matched = code.split("matches!(").skip(1);
    let matched = matched.filter(|rest| arguments(rest).contains("Reason::"));
    compared.iter().sum::<usize>() + matched.count()
}

/// What is in front of the parenthesis that closes.
fn arguments(rest: &str) -> &str {
    let mut depth = 1;
    let end = rest.find(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

fn count(folder: &Path, into: &mut BTreeMap<String, usize>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
            let code: Vec<_> = code.lines().filter_map(|l| l.split("//").next()).collect();
            let name = path.strip_prefix(SOURCE).unwrap().display().to_string();
            into.insert(name, comparisons(&code.join("\n")));
        }
    }
}

#[test]
fn code_does_not_branch_on_reasons() {
    let mut found = BTreeMap::new();
    count(Path::new(SOURCE), &mut found);
    found.retain(|name, n| *n > 0 && !MAY.iter().any(|room| name.starts_with(room)));
    assert!(
        found.is_empty(),
        "files that compare Reasons, and how often; they should know the failure by a type: {found:?}"
    );
}

#[test]
fn comparisons_are_found_however_they_are_written() {
    for (code, n) in [
        ("if why.reason == Reason::NoSource {}", 1),
        ("if why.reason\n    != other.reason {}", 1),
        (
            "matches!(why.reason, Reason::NoSource | Reason::Internal)",
            1,
        ),
        ("matches!(f(why), Some(\n Reason::NoSource)) && a", 1),
        ("matches!(x, Some(1)); Reason::NoSource.because(y)", 0),
        ("let reason = Reason::NoSource;", 0),
    ] {
        assert_eq!(comparisons(code), n, "{code}");
    }
}
