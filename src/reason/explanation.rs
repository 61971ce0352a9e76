use std::{borrow::Cow, fmt};

use super::Reason;

/// A reason, what exactly was found, and what to do. Displays as the one line `<Reason>: <cause>; <remedy>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Explanation {
    /// The stable code.
    pub reason: Reason,
    /// What was found, one line, no full stop.
    pub cause: String,
    /// What someone can do.
    pub remedy: Option<Cow<'static, str>>,
}

impl Explanation {
    /// The same explanation with a remedy that fits the case better than the reason's own.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl From<Reason> for Explanation {
    fn from(reason: Reason) -> Self {
        reason.because(reason.sentence())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, OneLine(&self.cause))?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Longest cause that is shown, in bytes: the whole must fit a Kubernetes event (1,024 bytes) with the callers' text around it.
const LONGEST_CAUSE: usize = 400;

/// Text of any origin as one bounded line.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = LONGEST_CAUSE;
        for c in self.0.chars() {
            let shown = if is_unshowable(c) {
                c.escape_default().to_string()
            } else {
                c.to_string()
            };
            let Some(rest) = left.checked_sub(shown.len()) else {
                return f.write_str("...");
            };
            left = rest;
            f.write_str(&shown)?;
        }
        Ok(())
    }
}

/// Whether a character can move a terminal's cursor, end a line or reverse text.
pub fn is_unshowable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Hostile text in a form that can be shown: quoted, escaped, at most 48 characters.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}

/// Most names that a message lists.
const MOST_NAMES: usize = 10;

/// Names as a message lists them: the first few, and how many more.
#[cfg_attr(
    not(any(feature = "controller", feature = "kubectl", test)),
    expect(dead_code, reason = "of programs for a whole cluster")
)]
pub(crate) fn names<S: AsRef<str>>(all: &[S]) -> String {
    let first: Vec<_> = all.iter().take(MOST_NAMES).map(AsRef::as_ref).collect();
    match all.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn ten_names_are_listed_and_the_rest_is_counted() {
        let all: Vec<_> = (0..12).map(|n| format!("n{n}")).collect();
        let first = "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9";
        assert_eq!(names(&all[..10]), first);
        assert_eq!(names(&all[..11]), format!("{first} and 1 more"));
        assert_eq!(names(&all), format!("{first} and 2 more"));
    }

    #[test]
    fn an_explanation_is_one_bounded_line_cause_first() {
        let text = Reason::InvalidAnnotation
            .because(format!("a\nb\u{1b}[31m\u{202e}{}", "x".repeat(5000)))
            .to_string();
        assert!(
            text.starts_with("InvalidAnnotation: a\\nb\\u{1b}[31m\\u{202e}xxx"),
            "{text}"
        );
        assert!(
            Reason::Internal
                .because("\u{7}é".repeat(500))
                .to_string()
                .len()
                < 600
        );
        assert!(
            text.len() < 600 && !text.contains('\n') && text.ends_with("recreate the pod"),
            "{text}"
        );
    }

    #[test]
    fn quoted_text_cannot_leave_its_quotes() {
        assert_eq!(quote("a\"b\nc"), r#""a\"b\nc""#);
        assert_eq!(
            quote(&"é".repeat(100)),
            format!("\"{}...\"", "é".repeat(48))
        );
    }
}
