//! Paths, compiled in. No input can change them; in a chroot they are below its root.
#![expect(missing_docs, reason = "the values are the documentation")]

pub const CONFIG: &str = "/etc/mesh-optin/node.yaml";
/// The same keys, from the agent's flags.
pub const SETTINGS: &str = "/var/lib/mesh-optin/node.yaml";
pub const PROFILES: &str = "/etc/mesh-optin/profiles";
/// The agent's snapshot of the cluster's profiles.
pub const PROFILES_SNAPSHOT: &str = "/var/lib/mesh-optin/profiles";
/// What the agent has installed.
pub const INSTALLED: &str = "/var/lib/mesh-optin/installed.json";
pub const LIB: &str = "/var/lib/mesh-optin";
/// Configurations of other plugins that ours replaced.
pub const REPLACED: &str = "/var/lib/mesh-optin/replaced";
pub const API: &str = "/var/lib/mesh-optin/api";
pub const RUN: &str = "/run/mesh-optin";
pub const AGENT_SOCKET: &str = "/run/mesh-optin/agent.sock";
pub const SLOTS: &str = "/run/mesh-optin/slots";
pub const ATTACHMENTS: &str = "/run/mesh-optin/attachments";
/// Outcomes of ADDs while the agent was away.
pub const OUTCOMES: &str = "/run/mesh-optin/outcomes";
/// Which iptables programs of this node work.
pub const IPTABLES: &str = "/run/mesh-optin/iptables.json";
/// One ADD at a time changes a network namespace.
pub const LOCKS: &str = "/run/mesh-optin/locks";
/// Where runtimes keep network namespaces: one directory by two names, on most nodes.
pub const NETNS: [&str; 2] = ["/run/netns", "/var/run/netns"];
