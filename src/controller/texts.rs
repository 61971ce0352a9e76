//! Texts for people, of bounded length. Pure.

/// Most names that a text lists.
const MOST_NAMES: usize = 10;

/// The first of a list of names, and how many more there are.
pub(super) fn names<S: AsRef<str>>(all: &[S]) -> String {
    let first: Vec<_> = all.iter().take(MOST_NAMES).map(AsRef::as_ref).collect();
    let more = all.len() - first.len();
    let and = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    first.join(", ") + &and
}

/// A text of at most this number of bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_names_are_listed_and_the_rest_is_counted() {
        let all: Vec<_> = (0..12).map(|n| format!("n{n}")).collect();
        let first = "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9";
        assert_eq!(names(&all[..10]), first);
        assert_eq!(names(&all[..11]), format!("{first} and 1 more"));
        assert_eq!(names(&all), format!("{first} and 2 more"));
    }

    #[test]
    fn a_text_is_cut_at_its_limit_and_within_no_character() {
        for (text, kept) in [("aaaa", 4), ("aaaaa", 4), ("aaaä", 3), ("ää", 4)] {
            assert_eq!(cut(text.to_owned(), 4).len(), kept, "{text}");
        }
    }
}
