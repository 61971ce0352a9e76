use std::{ffi::OsStr, path::PathBuf};

use super::{Environment, PodRef, RequestError};
use crate::reason::quote;

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
        let id = require("CNI_CONTAINERID", environment.container_id.as_deref())?;
        let id_ok = id.len() <= 200
            && id.starts_with(|c: char| c.is_ascii_alphanumeric())
            && id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !id_ok {
            return Err(RequestError::environment(format!(
                "CNI_CONTAINERID {} is not a container id",
                quote(id)
            )));
        }
        let ifname = require("CNI_IFNAME", environment.ifname.as_deref())?;
        let ifname_ok = ifname.len() <= 15
            && !matches!(ifname, "." | "..")
            && !ifname
                .chars()
                .any(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        if !ifname_ok {
            return Err(RequestError::environment(format!(
                "CNI_IFNAME {} is not an interface name",
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

fn require<'a>(name: &str, value: Option<&'a OsStr>) -> Result<&'a str, RequestError> {
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
