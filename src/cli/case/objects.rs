//! The objects of manifests, and which of their attachments a pod references.

use std::path::Path;

use crate::{
    cli::Failure,
    mesh::{Attachment, Namespace, Pod, Profile, annotation},
    multus::{AttachmentDefinition, named_networks, our_attachment},
    reason::{Explanation, Reason},
    source::manifests::{EXTENSIONS, Object, RuntimeClass, parse},
};

#[derive(Default)]
pub(super) struct Objects {
    pub(super) pods: Vec<Pod>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) attachments: Vec<AttachmentDefinition>,
    pub(super) profiles: Vec<Profile>,
    pub(super) runtime_classes: Vec<RuntimeClass>,
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
                Object::RuntimeClass(class) => self.runtime_classes.push(class),
            }
        }
        Ok(())
    }

    /// The attachments that the pod's networks annotation names. One without a configuration is ours if it has the name that a profile gives:
    /// its configuration is a file of the node.
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
    /// The settings of those of our type, in the pod's order.
    pub(super) ours: Vec<Attachment>,
    /// Whether there are others whose type the files do not show.
    pub(super) unknown: bool,
}
