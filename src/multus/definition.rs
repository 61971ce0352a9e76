//! A NetworkAttachmentDefinition, and what its configuration says to this plugin.

use serde_json::Value;

use crate::{cni::Config, mesh::Attachment};

/// A NetworkAttachmentDefinition.
#[derive(Debug, Clone)]
pub struct AttachmentDefinition {
    /// `metadata.namespace`, `default` if absent.
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `spec.config`, CNI JSON; `None` where the configuration is a file of the node.
    pub config: Option<String>,
}

impl AttachmentDefinition {
    /// Reads a NetworkAttachmentDefinition.
    pub(crate) fn of(value: &Value) -> Result<Self, String> {
        let text = |at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            namespace: text("/metadata/namespace").unwrap_or_else(|| "default".into()),
            name: text("/metadata/name")
                .ok_or("NetworkAttachmentDefinition: there is no metadata.name")?,
            config: text("/spec/config").filter(|c| !c.trim().is_empty()),
        })
    }
}

/// `meshOptin` of a CNI configuration, or of our part of a list; `None` if it is not of our type.
pub(crate) fn our_attachment(config: &str) -> Result<Option<Attachment>, String> {
    let value: Value = serde_json::from_str(config).map_err(|e| e.to_string())?;
    let parts = value
        .get("plugins")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_else(|| vec![value]);
    let Some(part) = parts.into_iter().find(|p| p["type"] == "mesh-optin") else {
        return Ok(None);
    };
    let config = Config::parse(part.to_string().as_bytes()).map_err(|e| e.explanation.cause)?;
    Attachment::parse(config.mesh_optin.as_ref().map(|m| m.get()))
        .map(Some)
        .map_err(|e| e.cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_plugin_list_the_entry_of_our_type_counts() {
        let list = r#"{"cniVersion":"1.0.0","plugins":[{"type":"macvlan"},{"type":"mesh-optin","meshOptin":{"profile":"p"}}]}"#;
        assert_eq!(
            our_attachment(list).unwrap().unwrap().profile.as_deref(),
            Some("p")
        );
        assert_eq!(our_attachment(r#"{"type":"macvlan"}"#).unwrap(), None);
        assert!(
            our_attachment(r#"{"type":"mesh-optin","meshOptin":{"x":1}}"#).is_err()
                && our_attachment("{").is_err()
        );
    }
}
