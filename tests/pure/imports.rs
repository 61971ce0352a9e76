//! Which room of the source uses which: the table of src/README.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
/// What a pure room does not mention.
const EFFECTS: [&str; 7] = [
    "std::fs",
    "std::env",
    "std::process",
    "Instant::now",
    "SystemTime",
    "nix::",
    "tokio::",
];

/// A row of the table.
struct Room {
    name: String,
    is_pure: bool,
    uses: BTreeSet<String>,
}

/// The words in backticks.
fn words(cell: &str) -> Vec<String> {
    let words = cell.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

fn table() -> Vec<Room> {
    let readme = std::fs::read_to_string(format!("{SOURCE}/README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        Room {
            name: words(cells[1]).remove(0),
            is_pure: cells[1].contains("(pure)"),
            uses: words(cells[2]).into_iter().collect(),
        }
    })
    .collect()
}

/// The files of a room, with what is in them but for comments.
fn files(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries.flat_map(|e| files(&e.unwrap().path())).collect();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default(); // a program, perhaps
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    vec![(path.into(), text.lines().map(code).collect())]
}

/// The first name of each path in `{...}` at the start of the text.
fn names_in_braces(text: &str) -> Vec<String> {
    let (mut names, mut depth, mut name) = (vec![], 0, String::new());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(std::mem::take(&mut name)),
            c if depth == 1 => name.push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.push(name);
    names
}

/// The first names of what comes after a `::`, which may be a list in braces.
fn names_of(path: &str) -> Vec<String> {
    let paths = match path.starts_with('{') {
        true => names_in_braces(path),
        false => vec![path.to_owned()],
    };
    let end = |c: char| !(c.is_alphanumeric() || c == '_');
    let first = |path: &String| path.trim().split(end).next().unwrap_or_default().to_owned();
    let names = paths.iter().map(first);
    names.filter(|name| !name.is_empty()).collect()
}

/// The rooms that a text names with `crate::`.
fn rooms_named(text: &str) -> BTreeSet<String> {
    text.split("crate::").skip(1).flat_map(names_of).collect()
}

/// How many modules up a file is left by the longest `super::super::...`.
fn supers(text: &str) -> usize {
    let longest = |n: &usize| text.contains(&"super::".repeat(*n));
    (1..8).take_while(longest).last().unwrap_or_default()
}

/// Whether this number of `super::` leads to a room: a file goes up to one less, an inline module in it one further.
fn names_sibling(text: &str, supers: usize, rooms: &[String]) -> bool {
    let path = |room: &String| format!("{}{room}::", "super::".repeat(supers));
    rooms.iter().any(|room| text.contains(&path(room)))
}

#[test]
fn each_room_uses_the_rooms_of_its_row_and_no_other() {
    let mut wrong = vec![];
    let rooms: Vec<_> = table().into_iter().map(|room| room.name).collect();
    for room in table() {
        let mut used = BTreeMap::<String, String>::new();
        let folder = PathBuf::from(format!("{SOURCE}/{}", room.name));
        let path = if folder.is_dir() {
            folder
        } else {
            folder.with_extension("rs")
        };
        for (file, text) in files(&path) {
            let name = file.strip_prefix(SOURCE).unwrap().display().to_string();
            let depth = name.trim_end_matches("/mod.rs").split('/').count();
            if supers(&text) > depth || names_sibling(&text, depth, &rooms) {
                wrong.push(format!(
                    "src/{name} leaves its room by super: name the other room with crate::"
                ));
            }
            if let Some(effect) = EFFECTS.iter().find(|e| room.is_pure && text.contains(**e)) {
                wrong.push(format!(
                    "src/{name} uses {effect}, but room {} is pure",
                    room.name
                ));
            }
            for other in rooms_named(&text) {
                used.entry(other).or_insert(name.clone());
            }
        }
        used.remove(&room.name);
        for (other, file) in &used {
            if !room.uses.contains(other) {
                wrong.push(format!(
                    "src/{file} imports {other}, which room {} may not use: move what both need down, or, if the direction \
                     itself is to change, say so in the table of src/README.md",
                    room.name
                ));
            }
        }
        for other in room.uses.iter().filter(|other| !used.contains_key(*other)) {
            wrong.push(format!(
                "src/README.md lets room {} use {other}, and it does not",
                room.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_has_every_room_below_those_that_it_uses() {
    let mut known = BTreeSet::new();
    for room in table() {
        let unknown: Vec<_> = room.uses.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "{} uses {unknown:?}, which come later or not at all",
            room.name
        );
        known.insert(room.name);
    }
    let modules = std::fs::read_to_string(format!("{SOURCE}/lib.rs")).unwrap();
    let modules: BTreeSet<_> = modules
        .lines()
        .filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        modules, known,
        "the modules of src/lib.rs are the rows of src/README.md"
    );
}

/// A path of modules, from the root of the crate on.
type ModulePath = Vec<String>;

/// The module that a file is.
fn module(file: &Path) -> ModulePath {
    let inside = file.strip_prefix(SOURCE).unwrap().with_extension("");
    let parts = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// All paths of a `use`, such as two of `a::{b, c::d}`.
fn flatten(tree: &str, before: &[String], into: &mut Vec<ModulePath>) {
    let (mut depth, mut start, mut items) = (0, 0, vec![]);
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&tree[start..]);
    for item in items
        .into_iter()
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (path, inner) = match item.split_once('{') {
            Some((path, inner)) => (path, Some(inner.trim_end().trim_end_matches('}'))),
            None => (item.split(' ').next().unwrap_or_default(), None),
        };
        let parts = path.split("::").map(str::trim).filter(|p| !p.is_empty());
        let all = [before, &parts.map(str::to_owned).collect::<Vec<_>>()].concat();
        match inner {
            Some(inner) => {
                // the braces of this item alone
                let missing = inner.matches('{').count() - inner.matches('}').count();
                flatten(&(inner.to_owned() + &"}".repeat(missing)), &all, into);
            }
            None => into.push(all),
        }
    }
}

/// What a file names: with `use`, and by paths that begin with `crate::` or `super::`. Its tests do not count.
fn named(file: &Path, text: &str) -> Vec<ModulePath> {
    let tests = "#[cfg(test)]\nmod tests";
    let text = text.split(tests).next().unwrap_or_default();
    let mut all = vec![];
    let starts =
        |line: &str| line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !starts(line) {
            continue;
        }
        let mut statement = line.to_owned();
        while !statement.contains(';') {
            statement += lines.next().unwrap_or(";");
        }
        let tree = statement.split_once("use ").unwrap().1;
        flatten(tree.split(';').next().unwrap(), &[], &mut all);
    }
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let begins = !text[..at].ends_with("::");
            let path = text[at..].split(|c| !is_path(c)).next().unwrap();
            if begins {
                let parts = path.split("::").filter(|p| !p.is_empty());
                all.push(parts.map(str::to_owned).collect());
            }
        }
    }
    let ours = module(file);
    let absolute = |path: ModulePath| {
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&ours, &path[1..]].concat()),
            "super" => Some([&ours[..ours.len().checked_sub(supers)?], &path[supers..]].concat()),
            child => {
                let beside = file.with_file_name(child);
                let is_ours = beside.is_dir() || beside.with_extension("rs").exists();
                let is_above = file.ends_with("mod.rs") && is_ours;
                is_above.then(|| [&ours[..], &path].concat())
            }
        }
    };
    all.into_iter().filter_map(absolute).collect()
}

/// For each file or folder in a folder, what its code names of that folder; what the folder's `mod.rs` names counts as where it is from.
fn children(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let (here, root) = (module(&folder.join("mod.rs")), folder.join("mod.rs"));
    let of = |path: &ModulePath| path.strip_prefix(here.as_slice()).map(<[_]>::to_vec);
    let text = std::fs::read_to_string(&root).unwrap();
    let exported: BTreeMap<_, _> = named(&root, &text)
        .iter()
        .filter_map(of)
        .filter(|path| path.len() > 1)
        .map(|path| (path[path.len() - 1].clone(), path[0].clone()))
        .collect();
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let all = paths.map(|child| {
        let is_code = |file: &Path| {
            !["fixtures.rs", "tests.rs"]
                .iter()
                .any(|name| file.ends_with(name))
        };
        let code = files(&child).into_iter().filter(|(file, _)| is_code(file));
        let named = code.flat_map(|(file, text)| named(&file, &text));
        let of_folder = named.filter_map(|path| of(&path)?.first().cloned());
        let used = of_folder.map(|name| exported.get(&name).cloned().unwrap_or(name));
        let name = child.file_stem().unwrap().to_string_lossy().into_owned();
        (name, used.collect())
    });
    let ours = |(name, _): &(String, _)| !["mod", "fixtures", "tests"].contains(&name.as_str());
    all.filter(ours).collect()
}

/// All folders with a module of their own.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap();
    let below = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    let mut all: Vec<_> = below.flat_map(|folder| folders(&folder)).collect();
    all.extend(path.join("mod.rs").exists().then(|| path.into()));
    all
}

#[test]
fn no_two_files_of_a_folder_use_each_other() {
    let mut wrong = vec![];
    let all = folders(SOURCE.as_ref());
    assert!(all.len() > 20, "{all:?}");
    for folder in all {
        let mut left = children(&folder);
        // what uses nothing that is left can be taken away, until only files in a circle are left
        while let Some(free) = left
            .iter()
            .find(|(name, uses)| {
                !uses
                    .iter()
                    .any(|used| used != *name && left.contains_key(used))
            })
            .map(|(name, _)| name.clone())
        {
            left.remove(&free);
        }
        if !left.is_empty() {
            let names: Vec<_> = left.keys().collect();
            wrong.push(format!("in {}: {names:?}", folder.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "these use each other in a circle: move what they share to a file of its own: {wrong:#?}"
    );
}

#[test]
fn no_part_of_the_agent_uses_what_puts_the_parts_together() {
    let parts = children(&Path::new(SOURCE).join("agent"));
    for (part, named) in &parts {
        let above: Vec<_> = named.iter().filter(|n| !parts.contains_key(*n)).collect();
        assert!(
            above.is_empty(),
            "src/agent/{part} uses {above:?} of src/agent/mod.rs"
        );
    }
}

#[test]
fn no_file_is_longer_than_one_idea_and_half_of_them_are_short() {
    let root = Path::new(SOURCE).parent().unwrap();
    let all = ["src", "tests"]
        .map(|folder| files(&root.join(folder)))
        .concat();
    let mut lengths: Vec<_> = all
        .iter()
        .filter(|(file, _)| file.extension().is_some_and(|e| e == "rs"))
        .map(|(file, text)| (text.lines().count(), file))
        .collect();
    lengths.sort();
    let (median, (longest, file)) = (lengths[lengths.len() / 2].0, lengths[lengths.len() - 1]);
    assert!(lengths.len() > 200, "{}", lengths.len());
    assert!(
        longest <= 400,
        "{} has {longest} lines: split it by its ideas",
        file.display()
    );
    assert!(
        median <= 150,
        "half of the files have more than {median} lines: split some by their ideas"
    );
}
