//! What counts of objects of the cluster. Pure.

use k8s_openapi::{api::core::v1, jiff::Timestamp};
use kube::{
    api::DynamicObject,
    core::{NotUsed, Object, PartialObjectMeta},
};
use serde::Deserialize;
use serde_json::json;

use super::wanted::{Namespace, ObjectKey};
use crate::profile::{
    Profile, ProfileOrigin, Status, mesh_node::NodeCondition, names_of_unreadable, validate_cel,
};

/// The condition by which a MeshNode says whether its agent reports.
pub(super) const REPORTING: &str = "Reporting";

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
fn cluster_key(name: Option<String>) -> ObjectKey {
    ObjectKey::new("", &name.unwrap_or_default())
}

pub(super) fn profile(object: DynamicObject) -> (ObjectKey, ProfileObject) {
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

pub(super) fn namespace(object: PartialObjectMeta<v1::Namespace>) -> (ObjectKey, Namespace) {
    let metadata = object.metadata;
    let namespace = Namespace {
        labels: metadata.labels.unwrap_or_default(),
        is_terminating: metadata.deletion_timestamp.is_some(),
    };
    (cluster_key(metadata.name), namespace)
}

/// A MeshNode, as far as it is read: there may be thousands, and most of what they say is for people.
pub(super) type NodeObject = Object<Option<NotUsed>, NodeReport>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeReport {
    version: String,
    last_report: Option<String>,
    conditions: Vec<NodeCondition>,
}

/// What counts of a MeshNode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Its agent's, as far as it can be one.
    pub(super) version: Box<str>,
    pub(super) reported: Option<Timestamp>,
    /// It says that its agent is silent.
    pub(super) is_marked: bool,
    /// The profiles of which its agent says that it cannot read them.
    pub(super) cannot_read: Vec<Box<str>>,
}

impl Node {
    /// Whether another report changes nothing.
    pub(super) fn is_no_news(&self, now: &Self) -> bool {
        (&self.version, self.is_marked, &self.cannot_read)
            == (&now.version, now.is_marked, &now.cannot_read)
            && !now.is_marked
    }
}

/// Most bytes of a version that is shown.
const LONGEST_VERSION: usize = 32;

pub(super) fn node(object: NodeObject) -> (ObjectKey, Node) {
    let said = object.status.unwrap_or_default();
    let is_false = |kind: &str| {
        let mut all = said.conditions.iter();
        all.find(|c| c.kind == kind && c.status == "False")
    };
    let message = is_false("ProfilesKnown").map_or("", |known| &known.message);
    let is_version = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    let is_version = said.version.len() <= LONGEST_VERSION && said.version.chars().all(is_version);
    let node = Node {
        version: if is_version {
            said.version.as_str()
        } else {
            ""
        }
        .into(),
        reported: said.last_report.and_then(|at| at.parse().ok()),
        is_marked: is_false(REPORTING).is_some(),
        cannot_read: names_of_unreadable(message).map(Into::into).collect(),
    };
    (cluster_key(object.metadata.name), node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_node_only_what_counts_is_kept() {
        let read = |version: &str, unread: &str| {
            let object = json!({"metadata": {"name": "n"}, "status": {"version": version, "lastReport": "2026-01-01T00:00:00Z", "kernel": "6",
                "problems": [{"pod": "p"}], "conditions": [
                    {"type": "Reporting", "status": "False", "reason": "Silent", "message": "", "lastTransitionTime": ""},
                    {"type": "ProfilesKnown", "status": unread, "reason": "x", "message": "x: the last generation of MeshProfile a-b cannot be read: no; that of MeshProfile c cannot be read either",
                     "lastTransitionTime": ""}]}});
            node(serde_json::from_value(object).unwrap()).1
        };
        let known = read("0.3.0-rc.1", "False");
        assert_eq!(&*known.version, "0.3.0-rc.1");
        assert_eq!(known.cannot_read, ["a-b".into(), "c".into()]);
        assert!(known.is_marked && known.reported.is_some());
        assert!(read("0.3.0", "True").cannot_read.is_empty());
        let longest = "9".repeat(LONGEST_VERSION);
        assert_eq!(*read(&longest, "True").version, *longest);
        for hostile in ["0.3.0\n", "<b>", &"9".repeat(LONGEST_VERSION + 1)] {
            assert_eq!(&*read(hostile, "True").version, "", "{hostile}");
        }
    }

    #[test]
    fn a_report_is_news_where_the_node_was_silent() {
        let mut silent = Node {
            is_marked: true,
            ..Node::default()
        };
        let mut reporting = Node::default();
        assert!(!silent.is_no_news(&reporting) && reporting.is_no_news(&reporting));
        reporting.reported = Some(Timestamp::now());
        assert!(Node::default().is_no_news(&reporting));
        silent.reported = reporting.reported;
        assert!(!silent.is_no_news(&silent), "it reports again");
    }
}
