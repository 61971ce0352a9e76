use serde::Deserialize;

use crate::{
    profile::TrafficSettings,
    reason::{Explanation, Reason, quote},
};

/// Most attachments of ours in a sandbox: each is an ADD and a DEL, which hold up others.
pub const MOST_ATTACHMENTS: usize = 8;
/// Largest `meshOptin`, in bytes.
const LARGEST: usize = 64 << 10;
/// Longest name of a Kubernetes object, in bytes.
const LONGEST_NAME: usize = 253;

/// `meshOptin` of a NetworkAttachmentDefinition: what a tenant may say for a namespace. Strict: an unknown key is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attachment {
    /// A profile that governs the namespace, by name.
    pub profile: Option<String>,
    /// Namespace-wide defaults of traffic settings.
    pub traffic: TrafficSettings,
}

impl Attachment {
    /// Whether it has traffic settings. One that has none leaves them to the other attachments of its pod.
    pub fn speaks(&self) -> bool {
        self.traffic != TrafficSettings::default()
    }

    /// Reads `meshOptin`; an absent one says nothing.
    pub fn parse(json: Option<&str>) -> Result<Self, Explanation> {
        let Some(json) = json else {
            return Ok(Self::default());
        };
        if json.len() > LARGEST {
            return Err(Reason::InvalidAttachment
                .because(format!("meshOptin is larger than {LARGEST} bytes")));
        }
        if !json.trim_start().starts_with('{') {
            return Err(Reason::InvalidAttachment.because("meshOptin is not an object")); // serde would take a list for one
        }
        let attachment: Self = serde_json::from_str(json)
            .map_err(|e| Reason::InvalidAttachment.because(format!("meshOptin: {e}")))?;
        match &attachment.profile {
            Some(name) if name.len() > LONGEST_NAME => Err(Reason::InvalidAttachment
                .because(format!("meshOptin.profile: {} is not a name", quote(name)))),
            Some(_) | None => Ok(attachment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_profile_and_traffic_can_be_said() {
        assert_eq!(Attachment::parse(None).unwrap(), Attachment::default());
        let full = Attachment::parse(Some(
            r#"{"profile":"p","traffic":{"excludeOutboundPorts":"5432"}}"#,
        ))
        .unwrap();
        assert_eq!(
            (full.profile.as_deref(), full.traffic.exclude_outbound_ports),
            (Some("p"), Some(vec![5432]))
        );
        let long = format!(r#"{{"profile":"{}"}}"#, "x".repeat(254));
        for bad in [
            long.as_str(),
            r#"{"kubeconfig":"/root/x"}"#,
            r#"{"profile":1}"#,
            "[]",
            r#"{"traffic":{"binary":"/bin/sh"}}"#,
            "\"x\"",
        ] {
            let error = Attachment::parse(Some(bad)).unwrap_err();
            assert_eq!(error.reason, Reason::InvalidAttachment, "{bad}");
        }
    }

    #[test]
    fn an_attachment_has_at_most_64_kib_and_a_name_of_253_characters() {
        let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
        assert_eq!(
            Attachment::parse(Some(&padded(LARGEST))),
            Ok(Attachment::default())
        );
        let error = Attachment::parse(Some(&padded(LARGEST + 1))).unwrap_err();
        assert!(
            error.to_string().contains("larger than 65536 bytes"),
            "{error}"
        );
        let named = |bytes: usize| format!(r#"{{"profile":"{}"}}"#, "x".repeat(bytes));
        assert!(Attachment::parse(Some(&named(LONGEST_NAME))).is_ok());
        assert!(Attachment::parse(Some(&named(LONGEST_NAME + 1))).is_err());
    }
}
