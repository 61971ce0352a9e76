use crate::words::words;

words! {
    /// A version of the CNI specification that we speak, the oldest first.
    #[expect(missing_docs, reason = "the names say it")]
    pub enum Version("version of the CNI specification") {
        V0_1_0 = "0.1.0",
        V0_2_0 = "0.2.0",
        V0_3_0 = "0.3.0",
        V0_3_1 = "0.3.1",
        V0_4_0 = "0.4.0",
        V1_0_0 = "1.0.0",
        V1_1_0 = "1.1.0",
    }
}

impl Version {
    /// `cniVersion` of a configuration; the empty text means 0.1.0.
    pub fn of_config(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::V0_1_0);
        }
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_version_is_the_oldest_and_a_newer_one_is_not_supported() {
        assert!(Version::ALL.is_sorted());
        assert_eq!(Version::of_config(""), Some(Version::V0_1_0));
        assert_eq!(Version::of_config("1.1.0"), Some(Version::V1_1_0));
        assert_eq!(Version::of_config("1.2.0"), None);
    }
}
