//! The documentation: every command in it is run by a test or listed with the reason why not; every link, path, flag and metric exists; and
//! the profile in it has the defaults.

mod commands;
mod migrating;

use std::path::{Path, PathBuf};

use mesh_optin::profile::{Profile, ProfileOrigin};

use self::commands::Shown;
use crate::{
    cli::{help, mesh_optin},
    complete::all,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Every page. A page elsewhere would not be looked at.
const PAGES: [&str; 9] = [
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
    "README.md",
    "crds/README.md",
    "deploy/CHANGELOG.md",
    "deploy/README.md",
    "examples/README.md",
    "src/README.md",
    "tests/README.md",
];
/// Largest first page, in bytes: details belong into the folders' pages.
const FIRST_PAGE: usize = 10_000;

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap_or_else(|e| panic!("{page}: {e}"))
}

/// The blocks of code of a page, with their language.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => *block += &format!("{}\n", line.trim()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of code has no end");
    blocks
}

/// The commands that a page shows, each on a line after a prompt, without their comments.
fn commands(text: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let command = line
            .strip_prefix("$ ")
            .or_else(|| line.strip_prefix("# "))?;
        let command = command.split("  #").next().unwrap_or_default();
        Some(command.trim().to_owned())
    };
    let shown = blocks(text)
        .into_iter()
        .filter(|(language, _)| *language == "console");
    shown
        .flat_map(|(_, block)| block.lines().filter_map(of_line).collect::<Vec<_>>())
        .collect()
}

/// Markdown files below a folder, relative to the repository, but for those of builds.
fn pages_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && name != "target" && name != ".git" {
            found.extend(pages_below(&path));
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path.strip_prefix(ROOT).unwrap().to_owned());
        }
    }
    found
}

#[test]
fn every_page_is_known_and_the_first_one_is_short() {
    let mut pages = pages_below(Path::new(ROOT));
    pages.sort();
    assert_eq!(pages, PAGES.map(PathBuf::from));
    let first = read("README.md").len();
    assert!(
        first <= FIRST_PAGE,
        "README.md has {first} bytes: move details to the page of the folder that they are about"
    );
}

#[test]
fn every_command_is_run_by_a_test_or_is_a_listed_exception() {
    let table = || commands::COMMANDS.iter().chain(migrating::COMMANDS);
    let mut left: Vec<_> = table().map(|(command, _)| *command).collect();
    for page in PAGES {
        let text = read(page);
        for (language, _) in blocks(&text) {
            let known = ["console", "text", "yaml", "json", "rust"];
            assert!(
                known.contains(&language),
                "{page} has a block of {language:?}: commands are shown in `console`, others in one of {known:?}"
            );
        }
        for command in commands(&text) {
            let row = table().find(|(known, _)| *known == command);
            let (_, shown) = row.unwrap_or_else(|| {
                panic!("{page} shows `{command}`: say in tests/pure/documentation/commands.rs which test runs it, or why none does")
            });
            left.retain(|known| *known != command);
            match shown {
                Shown::Runs(code) => runs(page, &command, *code),
                Shown::By(file, test, part) => {
                    let source = read(file);
                    let (function, scenario) = (format!("fn {test}("), format!("{test:?}"));
                    let has_test = source.contains(&function) || source.contains(&scenario);
                    assert!(
                        (test.is_empty() || has_test) && source.contains(part),
                        "{file} has no test {test:?} with {part:?}, which is to run `{command}`"
                    );
                }
                Shown::Not(reason) => assert!(!reason.is_empty(), "{command}"),
            }
        }
    }
    assert!(left.is_empty(), "no page shows these any more: {left:#?}");
}

/// Runs a command of this program as it is shown.
fn runs(page: &str, command: &str, expected: i32) {
    let words: Vec<_> = command.split_whitespace().collect();
    assert_eq!(words[0], "mesh-optin", "{command}");
    let (code, out, err) = mesh_optin(&words[1..]);
    assert_eq!(code, expected, "{page}: {command}: {out}{err}");
    assert!(!out.is_empty(), "{page}: {command}");
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in PAGES {
        let text = read(page);
        let folder = Path::new(ROOT).join(page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Path::new(ROOT).join(page),
                file => folder.join(file),
            };
            let has_anchor =
                || anchors(&std::fs::read_to_string(&target).unwrap()).contains(&anchor.into());
            if !target.exists() || !anchor.is_empty() && !has_anchor() {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere: {wrong:#?}");
}

#[test]
fn every_path_of_the_repository_that_is_named_exists() {
    const FOLDERS: [&str; 6] = [
        "src/",
        "tests/",
        "deploy/",
        "crds/",
        "examples/",
        ".github/",
    ];
    // what is there between releases only
    const MADE: [&str; 1] = ["tests/data/compat/next"];
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in PAGES {
        let text = read(page);
        let outside: Vec<_> = text.split("```").step_by(2).collect();
        for words in outside.iter().flat_map(|t| t.split('`').skip(1).step_by(2)) {
            let path = words.split_whitespace().next().unwrap_or_default();
            let is_file = [".rs", ".md", ".yaml"].iter().any(|e| path.ends_with(e));
            let is_ours = FOLDERS.iter().any(|f| path.starts_with(f))
                || is_file && path.contains('/') && !path.starts_with(['/', '.']);
            if !is_ours || path.contains(['<', '*', '{']) || MADE.contains(&path) {
                continue;
            }
            count += 1;
            let root = Path::new(ROOT);
            let folder = root.join(page).parent().unwrap().to_owned();
            if ![root, &folder].iter().any(|base| base.join(path).exists()) {
                wrong.push(format!("{page}: {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "paths that do not exist: {wrong:#?}");
    assert!(count > 20, "{count}");
}

#[test]
fn every_name_that_is_said_to_be_in_a_file_is_in_it() {
    let (mut wrong, mut count) = (vec![], 0);
    for page in PAGES {
        let text = read(page);
        let quoted: Vec<_> = text.split('`').collect();
        // `name` in `src/file.rs`
        for parts in quoted.windows(4).filter(|parts| parts[1] == " in ") {
            let (name, file) = (parts[0], parts[2]);
            let is_file = file.starts_with("src/") && file.ends_with(".rs");
            let last = name.rsplit("::").next().unwrap_or_default();
            let is_name = !last.is_empty() && last.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !is_file || !is_name {
                continue;
            }
            count += 1;
            let source = read(file);
            let mut words = source.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if !words.any(|word| word == last) {
                wrong.push(format!("{page}: {name} is not in {file}"));
            }
        }
    }
    assert!(count > 5, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_test_that_is_named_exists() {
    let code = all("src", "rs", |_| false) + &all("tests", "rs", |_| false);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in PAGES {
        let text = read(page);
        let outside: Vec<_> = text.split("```").step_by(2).collect();
        for name in outside.iter().flat_map(|t| t.split('`').skip(1).step_by(2)) {
            let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let is_sentence = name.chars().all(is_part) && name.matches('_').count() > 2;
            if is_sentence && !name.starts_with("mesh_optin_") {
                count += 1;
                if !code.contains(&format!("fn {name}(")) {
                    wrong.push(format!("{page}: {name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "tests that do not exist: {wrong:#?}");
    assert!(count > 15, "{count}");
}

/// The words of a text in backticks that begin so, up to what cannot be in such a name.
fn names<'a>(text: &'a str, start: &str, is_part: fn(char) -> bool) -> Vec<&'a str> {
    let found = text
        .match_indices(start)
        .filter(|(at, _)| !text[..*at].ends_with(is_part));
    found
        .map(|(at, _)| {
            let end = text[at + start.len()..].find(|c| !is_part(c));
            &text[at..end.map_or(text.len(), |end| at + start.len() + end)]
        })
        .collect()
}

#[test]
fn every_flag_in_the_documentation_exists() {
    let help = help();
    let text = read("deploy/README.md");
    let prose: String = text.split("```").step_by(2).collect();
    let flags = names(&prose, "--", |c| c.is_ascii_lowercase() || c == '-');
    assert!(flags.len() > 15, "{flags:?}");
    let others = ["--bench", "--take-ownership", "--force-conflicts"]; // of cargo and helm
    let is_ours =
        |flag: &&str| flag.len() > 2 && !flag.starts_with("---") && !others.contains(flag);
    for flag in flags.into_iter().filter(is_ours) {
        assert!(
            help.contains(&format!("{flag} ")),
            "deploy/README.md names {flag}, which no command has"
        );
    }
}

/// The names of all metrics, as the source registers them.
fn registered_metrics(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(registered_metrics(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
        let of_call = |call: &str| {
            let call = call.trim_start();
            let end = call.find(|c| !is_part(c)).unwrap_or_default();
            (call[end..].starts_with(',')).then(|| call[..end].to_owned())
        };
        found.extend(text.split("register!(").skip(1).filter_map(of_call));
    }
    found
}

#[test]
fn every_metric_is_in_the_table_that_operators_read() {
    let text = read("deploy/README.md");
    let metrics = registered_metrics(&Path::new(ROOT).join("src"));
    assert!(metrics.len() > 20, "{metrics:?}");
    let table: Vec<_> = text
        .lines()
        .filter(|l| l.starts_with("| `mesh_optin_"))
        .collect();
    let table = table.join("\n");
    let named = names(&table, "mesh_optin_", |c| {
        c.is_ascii_lowercase() || c == '_'
    });
    let name = |metric: &String| format!("mesh_optin_{metric}");
    for metric in &metrics {
        let (name, counter) = (name(metric), format!("{}_total", name(metric)));
        assert!(
            named.contains(&name.as_str()) || named.contains(&counter.as_str()),
            "deploy/README.md says nothing of metric {name}"
        );
    }
    let known: Vec<_> = metrics.iter().map(name).collect();
    for name in named {
        let base = name.strip_suffix("_total").unwrap_or(name);
        assert!(
            known.iter().any(|k| k == base || k == name),
            "deploy/README.md has metric {name}, which there is not"
        );
    }
}

#[test]
fn the_documented_profile_has_every_default() {
    let page = read("crds/README.md");
    let (_, yaml) = blocks_as_written(&page)
        .into_iter()
        .find(|(_, text)| text.contains("kind: MeshProfile\n"))
        .unwrap();
    let documented = Profile::parse(&yaml, ProfileOrigin::BuiltIn).unwrap();
    let mut spec = documented.spec;
    assert!(spec.selector().is_none());
    spec.namespaces = None;
    assert_eq!(
        format!("{spec:#?}"),
        format!("{:#?}", Profile::built_in().spec)
    );
}

/// As [`blocks`], with their indentation.
fn blocks_as_written(text: &str) -> Vec<(&str, String)> {
    let parts = text.split("```").skip(1).step_by(2);
    parts
        .map(|part| part.split_once('\n').unwrap_or((part, "")))
        .map(|(language, text)| (language, text.to_owned()))
        .collect()
}
