use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};

use super::{
    paths,
    trusted::{Privacy, read},
};
use crate::{
    reason::{Explanation, Reason, quote},
    words::words,
};

/// `/etc/mesh-optin/node.yaml`. Strict; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeConfig {
    /// Where pods are looked up, tried in order.
    pub sources: Vec<SourceKind>,
    /// The directory of source `manifests`.
    pub manifests: Option<PathBuf>,
    /// This node's name; then pods bound to another are refused.
    pub node_name: Option<String>,
    /// How long a call may take, `15s` or `500ms`; at most 60 s.
    #[serde(deserialize_with = "duration")]
    pub deadline: Duration,
    /// What governs where no profile exists.
    pub default_profile: DefaultProfile,
    /// `error`, `warn`, `info` or `debug`.
    #[serde(deserialize_with = "level")]
    pub log_level: tracing::Level,
}

words! {
    /// Where pods are looked up.
    pub enum SourceKind("source") {
        /// The node agent's socket.
        Agent = "agent",
        /// The API server, with the host credential.
        Api = "api",
        /// A directory of manifests.
        Manifests = "manifests",
    }
}

words! {
    /// What governs where no profile exists.
    pub enum DefaultProfile("defaultProfile") {
        /// The built-in profile, where the node has none at all.
        BuiltIn = "BuiltIn",
        /// Nothing: a profile must exist.
        Required = "Required",
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            sources: vec![SourceKind::Agent, SourceKind::Api],
            manifests: None,
            node_name: None,
            deadline: Duration::from_secs(15),
            default_profile: DefaultProfile::BuiltIn,
            log_level: tracing::Level::INFO,
        }
    }
}

impl NodeConfig {
    /// Reads the node's configuration; the defaults if there is none.
    pub fn load() -> Result<Self, Explanation> {
        let text = read(Path::new(paths::CONFIG), Privacy::Public)?;
        text.map_or_else(|| Ok(Self::default()), |text| Self::parse(&text))
    }

    fn parse(yaml: &str) -> Result<Self, Explanation> {
        let invalid =
            |why: String| Reason::NodeConfigInvalid.because(format!("{}: {why}", paths::CONFIG));
        if yaml
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        let config: Self = serde_yaml::from_str(yaml).map_err(|e| invalid(e.to_string()))?;
        if config.sources.is_empty() {
            return Err(invalid("sources is empty".into()));
        }
        match &config.manifests {
            Some(path) if !path.is_absolute() => Err(invalid(format!(
                "manifests: {} is not an absolute path",
                path.display()
            ))),
            None if config.sources.contains(&SourceKind::Manifests) => {
                Err(invalid("source manifests needs the key manifests".into()))
            }
            Some(_) | None => Ok(config),
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = |digits: &str| digits.parse::<u64>().ok();
    let parsed = match text.strip_suffix("ms").map(number) {
        Some(millis) => millis.map(Duration::from_millis),
        None => text
            .strip_suffix('s')
            .and_then(number)
            .map(Duration::from_secs),
    };
    let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    parsed.filter(|d| bounds.contains(d)).ok_or_else(|| {
        de::Error::custom(format!(
            "deadline: {} is no time from 100ms to 60s",
            quote(&text)
        ))
    })
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<tracing::Level, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        other => Err(de::Error::custom(format!(
            "logLevel: {} is not error, warn, info or debug",
            quote(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_means_the_documented_defaults() {
        assert_eq!(
            NodeConfig::parse("# nothing\n").unwrap(),
            NodeConfig::default()
        );
        assert_eq!(
            NodeConfig::parse(
                "{sources: [agent, api], deadline: 15s, defaultProfile: BuiltIn, logLevel: info}"
            )
            .unwrap(),
            NodeConfig::default()
        );
        let other = NodeConfig::parse(
            "{sources: [manifests], manifests: /m, deadline: 500ms, nodeName: n}",
        )
        .unwrap();
        assert_eq!(
            (other.deadline, other.node_name.as_deref()),
            (Duration::from_millis(500), Some("n"))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, part) in [
            ("{source: [api]}", "source"),
            ("{sources: [file]}", "file"),
            ("{sources: []}", "sources is empty"),
            ("{sources: [manifests]}", "needs the key manifests"),
            ("{sources: [manifests], manifests: m}", "absolute"),
            ("{deadline: 15}", "deadline"),
            ("{deadline: 5m}", "deadline"),
            ("{deadline: 2h}", "deadline"),
            ("{logLevel: trace}", "logLevel"),
            ("{defaultProfile: None}", "None"),
        ] {
            let error = NodeConfig::parse(yaml).unwrap_err();
            assert!(
                error.reason == Reason::NodeConfigInvalid && error.cause.contains(part),
                "{yaml}: {error}"
            );
        }
    }
}
