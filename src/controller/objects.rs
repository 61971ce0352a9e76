//! What counts of objects of the cluster. Pure.

use k8s_openapi::api::core::v1;
use kube::{api::DynamicObject, core::PartialObjectMeta};
use serde_json::json;

use super::wanted::{Key, Namespace};
use crate::mesh::{Profile, ProfileOrigin, Status, mesh_node::NodeStatus, validate_cel};

/// A MeshProfile and what its status says.
#[derive(Debug, Clone)]
pub(super) struct ProfileObject {
    pub(super) profile: Profile,
    /// Which rule of the CRD it breaks: it may be older than the rule.
    pub(super) breaks: Option<String>,
    pub(super) uid: String,
    pub(super) generation: Option<i64>,
    pub(super) status: Status,
}

/// An object without a namespace.
fn cluster_key(name: Option<String>) -> Key {
    Key::new("", &name.unwrap_or_default())
}

pub(super) fn profile(object: DynamicObject) -> (Key, ProfileObject) {
    let metadata = object.metadata.clone();
    let key = cluster_key(metadata.name);
    let json = serde_json::to_string(&object).unwrap_or_default();
    let mut data = object.data;
    let spec = data.get("spec").cloned().unwrap_or_else(|| json!({}));
    let profile = Profile::of_cluster(&key.name, &json, ProfileOrigin::BuiltIn);
    let object = ProfileObject {
        profile,
        breaks: validate_cel(&spec, None).err(),
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation,
        status: serde_json::from_value(data["status"].take()).unwrap_or_default(),
    };
    (key, object)
}

pub(super) fn namespace(object: PartialObjectMeta<v1::Namespace>) -> (Key, Namespace) {
    let metadata = object.metadata;
    let namespace = Namespace {
        labels: metadata.labels.unwrap_or_default(),
        is_terminating: metadata.deletion_timestamp.is_some(),
    };
    (cluster_key(metadata.name), namespace)
}

pub(super) fn node(mut object: DynamicObject) -> (Key, NodeStatus) {
    let status = object.data["status"].take();
    let said: NodeStatus = serde_json::from_value(status).unwrap_or_default();
    // the rest is not asked for, and there may be thousands
    let status = NodeStatus {
        version: said.version,
        conditions: said.conditions,
        last_report: said.last_report,
        ..NodeStatus::default()
    };
    (cluster_key(object.metadata.name), status)
}
