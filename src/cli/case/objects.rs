//! What manifests hold, and which of the attachments there a pod names.

use std::path::Path;

use serde_json::Value;

use crate::{
    cli::Failure,
    {
        cni::Config,
        mesh::{Attachment, Namespace, Pod, Profile, annotation},
        reason::{Explanation, Reason},
        source::manifests::{AttachmentDefinition, EXTENSIONS, Object, parse},
    },
};

#[derive(Default)]
pub(super) struct Objects {
    pub(super) pods: Vec<Pod>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) attachments: Vec<AttachmentDefinition>,
    pub(super) profiles: Vec<Profile>,
}

impl Objects {
    pub(super) fn read(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
        if path.is_dir() {
            let mut files: Vec<_> = std::fs::read_dir(path)
                .map_err(failed)?
                .filter_map(|e| Some(e.ok()?.path()))
                .collect();
            files.retain(|f| {
                f.is_file()
                    && f.extension()
                        .and_then(|e| e.to_str())
                        .is_some_and(|e| EXTENSIONS.contains(&e))
            });
            files.sort();
            return files.iter().try_for_each(|f| self.read(f));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        for object in parse(&text, path).map_err(Failure::failed)? {
            match object {
                Object::Pod(pod) => self.pods.push(*pod),
                Object::Namespace(namespace) => self.namespaces.push(namespace),
                Object::Attachment(attachment) => self.attachments.push(attachment),
                Object::Profile(profile) => self.profiles.push(*profile),
            }
        }
        Ok(())
    }

    /// What the pod's networks annotation names. An attachment without a configuration is ours if it has the name that a profile gives:
    /// the configuration is a file of the node.
    pub(super) fn named_by(&self, pod: &Pod) -> Result<Named, Explanation> {
        let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
        let mut named = Named::default();
        for (namespace, name) in named_networks(networks, &pod.metadata.namespace)? {
            let definition = self
                .attachments
                .iter()
                .find(|a| a.namespace == namespace && a.name == name);
            match definition.and_then(|d| d.config.as_deref()) {
                Some(config) => {
                    let invalid = |why: String| {
                        Reason::InvalidAttachment.because(format!(
                            "NetworkAttachmentDefinition {namespace}/{name}: {why}"
                        ))
                    };
                    named.ours.extend(our_attachment(config).map_err(invalid)?);
                }
                None if self.profiles.iter().any(|p| p.spec.attachment.name == name) => {
                    named.ours.push(Attachment::default())
                }
                None => named.unknown = true,
            }
        }
        Ok(named)
    }
}

/// The attachments that a pod names.
#[derive(Default)]
pub(super) struct Named {
    /// What those of our type say, in the pod's order.
    pub(super) ours: Vec<Attachment>,
    /// There are others whose type the files do not tell.
    pub(super) unknown: bool,
}

/// `meshOptin` of a CNI configuration, or of our part of a list; `None` if it is not of our type.
fn our_attachment(config: &str) -> Result<Option<Attachment>, String> {
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

/// The networks that an annotation names, as Multus reads it: JSON, or `[namespace/]name[@interface]`, comma-separated.
fn named_networks(text: &str, own_namespace: &str) -> Result<Vec<(String, String)>, Explanation> {
    #[derive(serde::Deserialize)]
    struct Element {
        name: String,
        namespace: Option<String>,
    }
    if text.trim_start().starts_with('[') {
        let invalid = |e| {
            Reason::InvalidAnnotation.because(format!("annotation {}: {e}", annotation::NETWORKS))
        };
        let elements: Vec<Element> = serde_json::from_str(text).map_err(invalid)?;
        return Ok(elements
            .into_iter()
            .map(|e| {
                (
                    e.namespace.unwrap_or_else(|| own_namespace.to_owned()),
                    e.name,
                )
            })
            .collect());
    }
    let element = |text: &str| {
        let text = text.split('@').next().unwrap_or_default().trim();
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
        (namespace.to_owned(), name.to_owned())
    };
    Ok(text
        .split(',')
        .map(element)
        .filter(|(_, name)| !name.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_both_forms() {
        let named = |text: &str| {
            named_networks(text, "ns").map(|l| {
                l.into_iter()
                    .map(|(a, b)| format!("{a}/{b}"))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            named("macvlan-a@net1, default/istio-cni").unwrap(),
            ["ns/macvlan-a", "default/istio-cni"]
        );
        assert_eq!(
            named(r#"[{"name":"mesh"},{"name":"x","namespace":"y"}]"#).unwrap(),
            ["ns/mesh", "y/x"]
        );
        assert!(named("").unwrap().is_empty() && named("[{]").is_err());
    }

    #[test]
    fn a_list_s_part_of_our_type_counts() {
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
