use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    paths,
    trusted::{Privacy, read},
};
use crate::{
    profile::DefaultProfile,
    reason::{Explanation, Reason, quote},
    words::words,
};

/// The node's configuration: the admin's `/etc/mesh-optin/node.yaml` which, key by key, takes precedence over the agent's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Where pods are looked up, tried in order.
    pub sources: Vec<SourceKind>,
    /// The directory of source `manifests`.
    pub manifests: Option<PathBuf>,
    /// This node's name; if set, pods bound to another node are refused.
    pub node_name: Option<String>,
    /// How long a call may take.
    pub deadline: Duration,
    /// What governs where no profile exists.
    pub default_profile: DefaultProfile,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
}

/// The content of a file. Strict; every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSettings {
    /// Where pods are looked up, tried in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<SourceKind>>,
    /// The directory of source `manifests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<PathBuf>,
    /// This node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// How long a call may take, `15s` or `500ms`; at most 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// What governs where no profile exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_profile: Option<DefaultProfile>,
    /// The least severe level that is logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
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
    /// The least severe level that is logged.
    pub enum LogLevel("logLevel") {
        /// Someone must act.
        Error = "error",
        /// Someone should know.
        Warn = "warn",
        /// A line for each ADD.
        Info = "info",
        /// The reasons for what is done.
        Debug = "debug",
    }
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            sources: vec![SourceKind::Agent, SourceKind::Api],
            manifests: None,
            node_name: None,
            deadline: Duration::from_secs(15),
            default_profile: DefaultProfile::default(),
            log_level: LogLevel::Info,
        }
    }
}

impl NodeConfig {
    /// Reads both files; the defaults apply to keys that neither has.
    pub fn load() -> Result<Self, Explanation> {
        let of = |path: &str| {
            let text = read(Path::new(path), Privacy::Public)?;
            text.map_or_else(
                || Ok(NodeSettings::default()),
                |text| NodeSettings::parse(&text, path),
            )
        };
        Ok(Self::of(of(paths::CONFIG)?, of(paths::SETTINGS)?))
    }

    /// Merges the admin's settings with the agent's, key by key. Both are valid.
    fn of(admin: NodeSettings, agent: NodeSettings) -> Self {
        let default = Self::default();
        let deadline = admin.deadline.or(agent.deadline);
        Self {
            sources: admin.sources.or(agent.sources).unwrap_or(default.sources),
            manifests: admin.manifests.or(agent.manifests),
            node_name: admin.node_name.or(agent.node_name),
            deadline: deadline
                .and_then(|text| duration(&text).ok())
                .unwrap_or(default.deadline),
            default_profile: admin
                .default_profile
                .or(agent.default_profile)
                .unwrap_or(default.default_profile),
            log_level: admin
                .log_level
                .or(agent.log_level)
                .unwrap_or(default.log_level),
        }
    }
}

impl NodeSettings {
    /// Reads a file's text, YAML or JSON.
    fn parse(text: &str, path: &str) -> Result<Self, Explanation> {
        let invalid = |why: String| Reason::NodeConfigInvalid.because(format!("{path}: {why}"));
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        // what the agent writes is JSON, for which no ADD needs the other parser
        let settings: Self = match serde_json::from_str(text) {
            Ok(settings) => settings,
            Err(_) => serde_yaml::from_str(text).map_err(|e| invalid(e.to_string()))?,
        };
        settings.check().map_err(invalid)?;
        Ok(settings)
    }

    /// Checks all values; the error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let sources = self.sources.as_deref();
        if sources.is_some_and(<[_]>::is_empty) {
            return Err("sources is empty".into());
        }
        if let Some(deadline) = &self.deadline {
            duration(deadline)?;
        }
        match &self.manifests {
            Some(path) if !path.is_absolute() => Err(format!(
                "manifests: {} is not an absolute path",
                path.display()
            )),
            None if sources.is_some_and(|s| s.contains(&SourceKind::Manifests)) => {
                Err("source manifests needs the key manifests".into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| digits.parse::<u64>().ok();
    let parsed = match text.strip_suffix("ms").map(number) {
        Some(millis) => millis.map(Duration::from_millis),
        None => text
            .strip_suffix('s')
            .and_then(number)
            .map(Duration::from_secs),
    };
    let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    parsed
        .filter(|d| bounds.contains(d))
        .ok_or_else(|| format!("deadline: {} is not a time from 100ms to 60s", quote(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<NodeConfig, Explanation> {
        let admin = NodeSettings::parse(yaml, paths::CONFIG)?;
        Ok(NodeConfig::of(admin, NodeSettings::default()))
    }

    #[test]
    fn absent_means_the_documented_defaults() {
        assert_eq!(parse("# nothing\n").unwrap(), NodeConfig::default());
        assert_eq!(
            parse(
                "{sources: [agent, api], deadline: 15s, defaultProfile: BuiltIn, logLevel: info}"
            )
            .unwrap(),
            NodeConfig::default()
        );
        let other =
            parse("{sources: [manifests], manifests: /m, deadline: 500ms, nodeName: n}").unwrap();
        assert_eq!(
            (other.deadline, other.node_name.as_deref()),
            (Duration::from_millis(500), Some("n"))
        );
    }

    #[test]
    fn the_file_of_the_admin_takes_precedence_key_by_key() {
        let parse = |text| NodeSettings::parse(text, "x").unwrap();
        let (admin, agent) = (
            parse("{deadline: 5s}"),
            parse(r#"{"deadline":"20s","defaultProfile":"Auto","logLevel":"debug"}"#),
        );
        let both = NodeConfig::of(admin, agent);
        assert_eq!(
            (both.deadline, both.default_profile, both.log_level),
            (
                Duration::from_secs(5),
                DefaultProfile::Auto,
                LogLevel::Debug
            )
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
            let error = parse(yaml).unwrap_err();
            assert!(
                error.reason == Reason::NodeConfigInvalid && error.cause.contains(part),
                "{yaml}: {error}"
            );
        }
    }
}
