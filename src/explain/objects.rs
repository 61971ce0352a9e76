//! Objects, and which of their attachments a pod references.

use crate::{
    mesh::{Attachment, Namespace, Pod, annotation},
    multus::{AttachmentDefinition, our_attachment, parse_networks},
    profile::Profile,
    reason::{Explanation, Reason},
};

/// What decides on pods.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) pods: Vec<Pod>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) attachments: Vec<AttachmentDefinition>,
    pub(crate) profiles: Vec<Profile>,
}

impl Objects {
    /// The attachments that the pod's networks annotation names. One without a configuration is ours if it has the name that a profile gives:
    /// its configuration is a file of the node.
    pub(crate) fn attachments_of(&self, pod: &Pod) -> Result<Named, Explanation> {
        let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
        let mut named = Named::default();
        for (namespace, name) in parse_networks(networks, &pod.metadata.namespace)? {
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
pub(crate) struct Named {
    /// The settings of those of our type, in the pod's order.
    pub(crate) ours: Vec<Attachment>,
    /// Whether there are others whose type the files do not show.
    pub(crate) unknown: bool,
}

impl Named {
    /// The pod names no attachment of our type.
    pub(crate) fn is_empty(&self) -> bool {
        self.ours.is_empty() && !self.unknown
    }
}
