//! Words that people, files and metrics choose from. Each list of words is one enum, written once.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserializer, de};

use crate::reason::quote;

/// Makes an enum of words, written as `Variant = "word"`, or `"word" | "alias"` where another is understood, too: with `ALL`, `as_str`, `Display`, `FromStr`, serde as that text, and its schema.
/// The text after the enum's name says what it is, for the message about an unknown one.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        $visible:vis enum $name:ident($what:literal) {
            $($(#[$of_variant:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visible enum $name { $($(#[$of_variant])* $variant,)+ }

        const _: () = assert!($crate::words::are_distinct(&[$($word, $($alias,)*)+]), "a word twice");

        #[allow(dead_code, reason = "not every enum of words needs all of it")]
        impl $name {
            /// All of them.
            $visible const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word.
            $visible const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word $(| $alias)* => Ok(Self::$variant),)+
                    _ => Err($crate::words::unknown(text, $what, &[$($word),+])),
                }
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::words::deserialize(deserializer)
            }
        }

        #[cfg(feature = "schema")]
        impl ::schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}

pub(crate) use words;

/// Whether all words differ.
pub(crate) const fn are_distinct(words: &[&str]) -> bool {
    let mut a = 0;
    while a < words.len() {
        let mut b = a + 1;
        while b < words.len() {
            if is_same(words[a].as_bytes(), words[b].as_bytes()) {
                return false;
            }
            b += 1;
        }
        a += 1;
    }
    true
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while a.len() == b.len() && at < a.len() && a[at] == b[at] {
        at += 1;
    }
    a.len() == b.len() && at == a.len()
}

/// The message about a text that is none of the words.
pub(crate) fn unknown(text: &str, what: &str, words: &[&str]) -> String {
    let words = words.join(", ");
    format!("{} is not a valid {what}; use one of: {words}", quote(text))
}

/// Reads a word without keeping its text.
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    struct Word<T>(PhantomData<T>);

    impl<T: FromStr<Err = String>> de::Visitor<'_> for Word<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a word")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Word(PhantomData))
}

#[cfg(test)]
mod tests {
    words! {
        enum Fruit("fruit") {
            Apple = "apple",
            Pear = "pear" | "pear tree",
        }
    }

    #[test]
    fn words_round_trip_and_others_are_named_with_what_there_is() {
        for fruit in Fruit::ALL {
            assert_eq!(fruit.to_string().parse(), Ok(fruit));
            let json = serde_json::to_string(&fruit).unwrap();
            assert_eq!(serde_json::from_str::<Fruit>(&json).unwrap(), fruit);
        }
        let error = serde_json::from_str::<Fruit>(r#""plum\n""#).unwrap_err();
        let message = r#""plum\n" is not a valid fruit; use one of: apple, pear"#;
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(serde_json::from_str::<Fruit>("1").is_err());
        assert_eq!("pear tree".parse(), Ok(Fruit::Pear));
    }

    #[test]
    fn a_duplicate_word_is_found() {
        use super::are_distinct;
        assert!(are_distinct(&["a", "b", "ab", ""]));
        assert!(!are_distinct(&["a", "b", "a"]));
    }
}
