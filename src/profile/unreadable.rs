//! What a node says of the MeshProfiles that it cannot read, in a condition of its MeshNode, and how the controller reads it.

/// Most profiles that are named besides the first.
const MOST_FURTHER: usize = 64;
const OF: &str = "MeshProfile ";
const CANNOT: &str = " cannot be read";

/// Names the profiles whose last generation cannot be read, and says why of the first.
pub(crate) fn unreadable<'a>(mut all: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let (first, why) = all.next()?;
    let mut text = format!("the last generation of {OF}{first}{CANNOT}: {why}");
    for (name, _) in all.take(MOST_FURTHER) {
        text.push_str(&format!("; that of {OF}{name}{CANNOT} either"));
    }
    Some(text)
}

/// The profiles that such a text names.
#[cfg(any(feature = "controller", test))]
pub(crate) fn names_of_unreadable(text: &str) -> impl Iterator<Item = &str> {
    let named = text.split(OF).skip(1);
    named.filter_map(|named| Some(named.split_once(CANNOT)?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_profiles_that_a_node_cannot_read_are_named_up_to_a_bound() {
        for (count, named) in [(0, 0), (1, 1), (2, 2), (65, 65), (66, 65)] {
            let names: Vec<_> = (0..count).map(|n| format!("p-{n}")).collect();
            let all = names.iter().map(|name| (name.as_str(), "unknown field x"));
            let text = unreadable(all).unwrap_or_default();
            let read: Vec<_> = names_of_unreadable(&text).collect();
            assert_eq!(read, names[..named], "{text}");
            assert!(text.len() < 8192, "{}", text.len());
        }
    }
}
