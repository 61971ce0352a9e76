//! Kubernetes objects from YAML and JSON files.

mod objects;

use std::path::Path;

use super::FoundPod;
use crate::{
    cni::PodRef,
    mesh::Pod,
    node::{Privacy, list, read},
    reason::{Explanation, Reason},
};

pub use self::objects::{Object, RuntimeClass, parse};

/// The extensions of files that are read.
pub const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A directory of manifests as a source of pods.
pub struct Directory<'a> {
    path: &'a Path,
}

impl<'a> Directory<'a> {
    /// The directory of this path: root's, as all files that it reads.
    pub fn new(path: &'a Path) -> Self {
        Self { path }
    }

    /// A pod and its namespace.
    pub fn look_up(&self, asked: &PodRef) -> Result<FoundPod, Explanation> {
        let (mut pod, mut namespace, mut classes) = (None, None, Vec::new());
        for path in list(self.path, &EXTENSIONS)? {
            let Some(text) = read(&path, Privacy::Public)? else {
                continue;
            };
            for object in parse(&text, &path).map_err(|e| Reason::NodeConfigInvalid.because(e))? {
                match object {
                    Object::Pod(p)
                        if p.metadata.namespace == asked.namespace
                            && p.metadata.name == asked.name =>
                    {
                        pod = Some(*p)
                    }
                    Object::Namespace(n) if n.metadata.name == asked.namespace => {
                        namespace = Some(n)
                    }
                    Object::RuntimeClass(class) => classes.push(class),
                    Object::Pod(_)
                    | Object::Namespace(_)
                    | Object::Attachment(_)
                    | Object::Profile(_) => {}
                }
            }
        }
        let missing = |what: String| {
            Reason::PodNotFound
                .because(format!("{what} is not in {}", self.path.display()))
                .remedy("add its manifest")
        };
        let mut pod: Pod =
            pod.ok_or_else(|| missing(format!("pod {}/{}", asked.namespace, asked.name)))?;
        let namespace =
            namespace.ok_or_else(|| missing(format!("namespace {}", asked.namespace)))?;
        classes.iter().for_each(|class| class.complete(&mut pod));
        Ok(FoundPod { pod, namespace })
    }
}
