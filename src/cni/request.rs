use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RequestError, Version};
use crate::reason::{Reason, quote};

/// Largest configuration that is read from stdin, in bytes. A hundred calls may wait in Multus's 50 MiB.
pub const LARGEST_CONFIG: usize = 256 << 10;

/// What we take from stdin; every other key, Multus's own among them, is ignored.
#[derive(Debug)]
pub struct Config {
    /// `cniVersion`, 0.1.0 if empty or absent.
    pub version: Version,
    /// `meshOptin`, still unparsed: a tenant wrote it.
    pub mesh_optin: Option<Box<RawValue>>,
    /// `prevResult`, byte for byte as it came; never trusted.
    pub prev_result: Option<Box<RawValue>>,
}

impl Config {
    /// Reads what came on stdin.
    pub fn parse(stdin: &[u8]) -> Result<Self, RequestError> {
        #[derive(Deserialize)]
        struct Text {
            #[serde(default, rename = "cniVersion")]
            cni_version: String,
            #[serde(default, rename = "meshOptin")]
            mesh_optin: Option<Box<RawValue>>,
            #[serde(default, rename = "prevResult")]
            prev_result: Option<Box<RawValue>>,
        }
        if stdin.len() > LARGEST_CONFIG {
            // a runtime sends what the NAD says
            let cause = format!("the network configuration is larger than {LARGEST_CONFIG} bytes");
            return Err(RequestError {
                code: 7,
                explanation: Reason::InvalidAttachment.because(cause),
            });
        }
        if !stdin.trim_ascii_start().starts_with(b"{") {
            return Err(RequestError::undecodable(
                "the network configuration on stdin is not a JSON object",
            )); // serde would take a list for one
        }
        let text: Text = serde_json::from_slice(stdin).map_err(|e| {
            RequestError::undecodable(format!(
                "the network configuration on stdin is not valid: {e}"
            ))
        })?;
        let version = Version::of_config(&text.cni_version).ok_or_else(|| {
            RequestError::new(
                1,
                format!(
                    "cniVersion {} is not one of 0.1.0 to 1.1.0",
                    quote(&text.cni_version)
                ),
            )
        })?;
        if text
            .prev_result
            .as_ref()
            .is_some_and(|p| !p.get().starts_with('{'))
        {
            return Err(RequestError::undecodable("prevResult is not an object"));
        }
        Ok(Self {
            version,
            mesh_optin: text.mesh_optin,
            prev_result: text.prev_result,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multus_keys_are_ignored_and_ours_are_kept_as_text() {
        let stdin = br#"{"binDir":"/x","chrootDir":"/y","cniVersion":"1.1.0","logLevel":"verbose","meshOptin":{ "profile": "p" },
            "name":"mesh","type":"mesh-optin","prevResult":{"cniVersion":"1.1.0",  "interfaces":[]}}"#;
        let config = Config::parse(stdin).unwrap();
        assert_eq!(config.version, Version::V1_1_0);
        assert_eq!(config.mesh_optin.unwrap().get(), r#"{ "profile": "p" }"#);
        assert_eq!(
            config.prev_result.unwrap().get(),
            r#"{"cniVersion":"1.1.0",  "interfaces":[]}"#
        );
    }

    #[test]
    fn errors_carry_the_codes_of_the_specification() {
        for (stdin, code) in [
            (&b""[..], 6),
            (b"\xff\xfe", 6),
            (b"[]", 6),
            (br#"{"cniVersion":1}"#, 6),
            (br#"{"cniVersion":"1.0.0","cniVersion":"1.1.0"}"#, 6),
            (br#"{"cniVersion":"1.0.0","prevResult":"x"}"#, 6),
            (br#"{"cniVersion":"2.0.0"}"#, 1),
        ] {
            assert_eq!(
                Config::parse(stdin).unwrap_err().code,
                code,
                "{}",
                String::from_utf8_lossy(stdin)
            );
        }
        let deep = format!(
            r#"{{"meshOptin":{}1{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let _parsed_or_refused_without_a_crash = Config::parse(deep.as_bytes()).is_ok();
        let large = Config::parse(&vec![b' '; LARGEST_CONFIG + 1]).unwrap_err();
        assert_eq!(
            (large.code, large.explanation.reason),
            (7, Reason::InvalidAttachment)
        );
    }
}
