//! Events of Multus.

use jiff::Timestamp;
use serde::Deserialize;

use crate::doctor::cluster::is_name;

/// An Event on a pod whose attachment Multus has not found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::doctor) struct NotFoundEvent {
    pub(in crate::doctor) involved_object: InvolvedObject,
    message: String,
    event_time: Option<Timestamp>,
    last_timestamp: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct InvolvedObject {
    pub(in crate::doctor) uid: String,
}

// === impl NotFoundEvent ===

impl NotFoundEvent {
    /// When it happened last, as far as it says.
    pub(in crate::doctor) fn time(&self) -> Option<Timestamp> {
        self.last_timestamp.or(self.event_time)
    }

    /// Namespace and name of the attachment; `None` where the message is not Multus's (pkg/k8sclient, getKubernetesDelegate).
    pub(in crate::doctor) fn attachment(&self) -> Option<(&str, &str)> {
        let start = "cannot find a network-attachment-definition (";
        let (name, rest) = self.message.strip_prefix(start)?.split_once(')')?;
        let (namespace, _) = rest.strip_prefix(" in namespace (")?.split_once("):")?;
        (is_name(name) && is_name(namespace)).then_some((namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::NotFoundEvent;

    #[test]
    fn only_what_multus_says_names_an_attachment() {
        let named = |message: &str| {
            let event = NotFoundEvent {
                message: message.into(),
                ..NotFoundEvent::default()
            };
            event.attachment().map(|(a, b)| format!("{a}/{b}"))
        };
        let said = "cannot find a network-attachment-definition (db) in namespace (team-a): network-attachment-definitions.k8s.cni.cncf.io \"db\" not found";
        assert_eq!(named(said).as_deref(), Some("team-a/db"));
        for other in [
            "",
            "cannot find a network-attachment-definition (db) in namespace (team-a)",
            "cannot find a network-attachment-definition (\u{1b}[2J) in namespace (team-a): x",
            "cannot find a network-attachment-definition (db) in namespace (a/b): x",
            "cannot find a network-attachment-definition db in namespace (a): x",
        ] {
            assert_eq!(named(other), None, "{other:?}");
        }
    }
}
