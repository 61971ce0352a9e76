//! Files that say what a released version made. They are written once, and stay.

use std::path::PathBuf;

/// A file or folder of tests/data.
pub(crate) fn data_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// Whether files that are not there yet are to be written, instead of failing: with UPDATE=1 in the environment.
pub(crate) fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// A digest as the tests hold it, to notice that a file was edited.
pub(crate) fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The first line in which two texts differ, for a message.
pub(crate) fn first_difference(before: &str, now: &str) -> String {
    let mut heading = "";
    let (mut before, mut now) = (before.lines(), now.lines());
    loop {
        match (before.next(), now.next()) {
            (None, None) => return "there is none".into(),
            (a, b) if a == b => heading = a.filter(|l| l.starts_with("==")).unwrap_or(heading),
            (a, b) => return format!("{heading}\n  before {a:?}\n  now    {b:?}"),
        }
    }
}
