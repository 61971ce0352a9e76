//! What is written to stdout, the only thing that Multus reads.

use serde_json::{json, value::RawValue};

use super::Version;

/// The result of an ADD: `prevResult` byte for byte if there was one, else only the version. An empty array of interfaces or
/// routes would make Multus rework the pod's default routes.
pub fn success(version: Version, prev_result: Option<&RawValue>) -> String {
    match prev_result {
        Some(prev) => prev.get().to_owned(),
        None => format!(r#"{{"cniVersion":"{version}"}}"#),
    }
}

/// An error. Of `message`, Multus shows everything; there is no `details`, so that nothing can come before the cause.
pub fn error(version: Version, code: u32, message: &str) -> String {
    json!({ "cniVersion": version.as_str(), "code": code, "msg": message }).to_string()
}

/// The answer to VERSION.
pub fn versions(asked_in: Version) -> String {
    json!({ "cniVersion": asked_in.as_str(), "supportedVersions": Version::ALL.map(Version::as_str) }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_exactly_the_version() {
        assert_eq!(success(Version::V0_3_1, None), r#"{"cniVersion":"0.3.1"}"#);
    }

    #[test]
    fn prev_result_is_echoed_byte_for_byte() {
        let text = r#"{ "cniVersion":"1.0.0", "ips":[{"address" : "10.0.0.1/24"}] }"#;
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        assert_eq!(success(Version::V1_0_0, Some(&raw)), text);
    }

    #[test]
    fn an_independent_reader_understands_what_we_print() {
        let error: serde_json::Value =
            serde_json::from_str(&error(Version::V1_1_0, 121, "InvalidAnnotation: x; y")).unwrap();
        assert_eq!(error["msg"], "InvalidAnnotation: x; y");
        for version in [Version::V1_0_0, Version::V1_1_0] {
            serde_json::from_str::<rscni_types::types::CNIResult>(&success(version, None)).unwrap();
        }
    }
}
