//! Texts for people, of bounded length. Pure.

/// A text of at most this number of bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_limit_and_within_no_character() {
        for (text, kept) in [("aaaa", 4), ("aaaaa", 4), ("aaaä", 3), ("ää", 4)] {
            assert_eq!(cut(text.to_owned(), 4).len(), kept, "{text}");
        }
    }
}
