use std::{ffi::OsStr, path::PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Environment, PodRef, Version};
use crate::reason::{Explanation, Reason, quote};

/// Largest configuration that is read from stdin, in bytes. A hundred calls may wait in Multus's 50 MiB.
pub const LARGEST_CONFIG: usize = 256 << 10;

/// A call that does not follow the CNI specification, with the specification's error code.
#[derive(Debug, thiserror::Error)]
#[error("{explanation}")]
pub struct RequestError {
    /// 1 incompatible version, 4 environment, 6 undecodable content, 7 a configuration that is too large.
    pub code: u32,
    /// What was wrong.
    pub explanation: Explanation,
}

impl RequestError {
    fn new(code: u32, cause: impl Into<String>) -> Self {
        Self {
            code,
            explanation: Reason::InvalidRequest.because(cause),
        }
    }

    fn environment(cause: impl Into<String>) -> Self {
        Self::new(4, cause)
    }

    pub(super) fn args(cause: impl std::fmt::Display) -> Self {
        Self::environment(format!("CNI_ARGS: {cause}"))
    }

    fn undecodable(cause: impl Into<String>) -> Self {
        Self::new(6, cause)
    }
}

/// What we take from stdin; every other key, Multus's own among them, is ignored.
#[derive(Debug)]
pub struct Config {
    /// `cniVersion`, 0.1.0 if empty or absent.
    pub version: Version,
    /// `meshOptin`, still unparsed: the tenant's word.
    pub mesh_optin: Option<Box<RawValue>>,
    /// `prevResult`, byte for byte as it came; never believed.
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

/// What ADD and CHECK are for: a pod's sandbox and the interface name that Multus chose for this attachment.
#[derive(Debug, PartialEq, Eq)]
pub struct Attached {
    /// `CNI_CONTAINERID`, of CNI's grammar.
    pub container_id: String,
    /// `CNI_IFNAME`, of CNI's grammar; only a name, no such interface need exist.
    pub ifname: String,
    /// `CNI_NETNS`
    pub netns: PathBuf,
    /// The pod, if `CNI_ARGS` names one.
    pub pod: Option<PodRef>,
}

impl Attached {
    /// Checks the environment of an ADD or CHECK.
    pub fn parse(environment: &Environment) -> Result<Self, RequestError> {
        let (container_id, ifname) = Self::record_key(environment)?;
        let netns = netns_path(environment)
            .ok_or_else(|| RequestError::environment("CNI_NETNS is not set"))?;
        let args = environment
            .args
            .as_deref()
            .map(|a| text("CNI_ARGS", a))
            .transpose()?;
        let pod = PodRef::from_cni_args(args.unwrap_or_default())?;
        Ok(Self {
            container_id,
            ifname,
            netns,
            pod,
        })
    }

    /// The container id and interface name alone: the key of an attachment's record.
    pub fn record_key(environment: &Environment) -> Result<(String, String), RequestError> {
        let id = required("CNI_CONTAINERID", environment.container_id.as_deref())?;
        let id_ok = id.len() <= 200
            && id.starts_with(|c: char| c.is_ascii_alphanumeric())
            && id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !id_ok {
            return Err(RequestError::environment(format!(
                "CNI_CONTAINERID {} is no container id",
                quote(id)
            )));
        }
        let ifname = required("CNI_IFNAME", environment.ifname.as_deref())?;
        let ifname_ok = ifname.len() <= 15
            && !matches!(ifname, "." | "..")
            && !ifname
                .chars()
                .any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        if !ifname_ok {
            return Err(RequestError::environment(format!(
                "CNI_IFNAME {} is no interface name",
                quote(ifname)
            )));
        }
        Ok((id.to_owned(), ifname.to_owned()))
    }
}

/// `CNI_NETNS` as a path.
pub fn netns_path(environment: &Environment) -> Option<PathBuf> {
    environment.netns.as_deref().map(PathBuf::from)
}

fn required<'a>(name: &str, value: Option<&'a OsStr>) -> Result<&'a str, RequestError> {
    text(
        name,
        value.ok_or_else(|| RequestError::environment(format!("{name} is not set")))?,
    )
}

fn text<'a>(name: &str, value: &'a OsStr) -> Result<&'a str, RequestError> {
    value
        .to_str()
        .ok_or_else(|| RequestError::environment(format!("{name} is not UTF-8")))
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
    fn errors_carry_the_specification_s_code() {
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

    #[test]
    fn names_that_could_leave_the_record_directory_are_refused() {
        let with = |id: &str, ifname: &str| Environment {
            container_id: Some(id.into()),
            ifname: Some(ifname.into()),
            netns: Some("/n".into()),
            ..Environment::default()
        };
        assert_eq!(
            Attached::record_key(&with("0aF_.-9", "net1")).unwrap(),
            ("0aF_.-9".into(), "net1".into())
        );
        for (id, ifname) in [
            ("../x", "net1"),
            ("a/b", "net1"),
            (".a", "net1"),
            ("a", ".."),
            ("a", "a/b"),
            ("a", "a b"),
            ("a", "aaaaaaaaaaaaaaaa"),
            ("a", "a\n"),
        ] {
            assert_eq!(
                Attached::parse(&with(id, ifname)).unwrap_err().code,
                4,
                "{id:?} {ifname:?}"
            );
        }
        assert_eq!(
            Attached::parse(&Environment::default()).unwrap_err().code,
            4
        );
    }
}
