use std::{borrow::Cow, collections::BTreeMap, pin::pin};

use futures_util::StreamExt;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicResourceScope, ObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, ListSemantic, watcher},
    },
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;
use tracing::warn;

use crate::{agent::metrics::Metrics, mesh::Metadata};

/// Objects of one page of a list: what is held as text at a time. A pod may have a megabyte.
const PAGE: u32 = 20;

/// An object of any kind, its parts still text.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Text")]
pub(in crate::agent) struct Object {
    metadata: ObjectMeta,
    is_deleted: bool,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Text {
    metadata: Meta,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

/// What is read of an object's metadata: most of it nobody needs, managed fields above all.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl From<Text> for Object {
    fn from(text: Text) -> Self {
        let Meta { name, namespace, uid, resource_version, labels, annotations, deletion_timestamp } = text.metadata;
        let metadata = ObjectMeta { name, namespace, uid, resource_version, labels, annotations, ..ObjectMeta::default() };
        Self { metadata, is_deleted: deletion_timestamp.is_some(), spec: text.spec, status: text.status }
    }
}

impl Object {
    pub(in crate::agent) fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub(in crate::agent) fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// `spec`, as it is written.
    pub(in crate::agent) fn spec_text(&self) -> &str {
        self.spec.as_ref().map_or("{}", |text| text.get())
    }

    /// `spec`, read.
    pub(super) fn spec<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.spec_text())
    }

    /// `status`, read.
    pub(super) fn status<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.status.as_ref().map_or("{}", |text| text.get()))
    }

    /// Its metadata.
    pub(super) fn metadata(self) -> Metadata {
        let ObjectMeta { name, namespace, uid, labels, annotations, .. } = self.metadata;
        Metadata {
            name: name.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
            annotations: annotations.unwrap_or_default(),
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
/// What a watch gives.
pub(in crate::agent) enum Heard {
    Event(Event<Object>),
    /// It broke, and is tried again: what it gave before may be old.
    Trouble,
    /// The API server does not know the kind.
    Unknown,
}

/// A kind of the API.
pub(in crate::agent) fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource { group: group.into(), version: version.into(), api_version, kind: kind.into(), plural: plural.into() }
}

/// Follows the objects of a kind that the selector (of fields) selects, for ever. What cannot be followed is told and tried again, with
/// growing pauses.
pub(in crate::agent) async fn follow(
    client: Client,
    kind: &ApiResource,
    selector: Option<String>,
    metrics: &Metrics,
    each: &mut (dyn FnMut(Heard) + Send),
) {
    // as kubelet lists its pods: from the API server's memory, where older ones would read the whole cluster's from disk
    let list_semantic = if kind.plural == "pods" { ListSemantic::Any } else { ListSemantic::MostRecent };
    let config = watcher::Config { field_selector: selector, list_semantic, page_size: Some(PAGE), ..watcher::Config::default() };
    let mut events = pin!(watcher(Api::<Object>::all_with(client, kind), config).default_backoff());
    let mut last = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                last.clear();
                each(Heard::Event(event));
            }
            Err(error) => {
                let is_unknown = matches!(&error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
                let error = if is_unknown {
                    each(Heard::Unknown);
                    "the cluster does not know them".to_owned()
                } else {
                    metrics.api_error("watch");
                    each(Heard::Trouble);
                    error.to_string()
                };
                if error != last {
                    warn!("watching {}: {error}", kind.plural);
                    last = error;
                }
            }
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
