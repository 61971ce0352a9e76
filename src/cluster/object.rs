//! An API object of which only the needed parts are parsed.

use std::{borrow::Cow, collections::BTreeMap};

use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, ObjectMeta},
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

use crate::mesh::Metadata;

/// An object of any kind, its parts still text.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "ObjectText")]
pub(crate) struct Object {
    metadata: ObjectMeta,
    is_deleted: bool,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ObjectText {
    metadata: ObjectMetadata,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

/// The metadata that is read: the rest is not needed, above all managed fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl From<ObjectText> for Object {
    fn from(text: ObjectText) -> Self {
        let ObjectMetadata {
            name,
            namespace,
            uid,
            resource_version,
            labels,
            annotations,
            deletion_timestamp,
        } = text.metadata;
        let metadata = ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            labels,
            annotations,
            ..ObjectMeta::default()
        };
        Self {
            metadata,
            is_deleted: deletion_timestamp.is_some(),
            spec: text.spec,
            status: text.status,
        }
    }
}

impl Object {
    pub(crate) fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// `spec`, as it is written.
    pub(crate) fn spec_text(&self) -> &str {
        self.spec.as_ref().map_or("{}", |text| text.get())
    }

    /// `spec`, read.
    pub(crate) fn spec<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.spec_text())
    }

    /// `status`, read.
    pub(crate) fn status<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.status.as_ref().map_or("{}", |text| text.get()))
    }

    /// Its metadata.
    pub(crate) fn metadata(self) -> Metadata {
        let ObjectMeta {
            name,
            namespace,
            uid,
            labels,
            annotations,
            ..
        } = self.metadata;
        Metadata {
            name: name.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
            annotations: annotations.unwrap_or_default(),
        }
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
