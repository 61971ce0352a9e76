/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether a version of this program is newer than another, by its numbers; text that is no version is older than any.
pub fn is_newer(version: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u64>> {
        let numbers = version.split(['-', '+']).next()?.split('.');
        numbers.map(|n| n.parse().ok()).collect()
    };
    numbers(version) > numbers(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(is_newer("0.10.0", "0.9.9") && is_newer("1.0.0", "0.9.9"));
        let others = [
            ("0.9.9", "0.9.9"),
            ("", "0.1.0"),
            ("x", "0.1.0"),
            ("0.1.0-rc.1", "0.1.0"),
        ];
        assert!(
            others
                .iter()
                .all(|(version, than)| !is_newer(version, than))
        );
    }
}
