//! A NetworkAttachmentDefinition: what it says, and whose it is. Pure.

use kube::{api::DynamicObject, core::ApiResource};
use serde_json::{Value, json};

use super::{
    MANAGER,
    wanted::{AttachmentOwner, ObjectKey},
};

/// Marks an attachment of the cluster.
pub(super) const SHARED: &str = "meshoptin.dev/shared";
/// Marks an attachment of a profile, whose name is the value.
pub(super) const PROFILE: &str = "meshoptin.dev/profile";
/// Since when no pod has named an attachment that nobody wants.
pub(super) const UNUSED_SINCE: &str = "meshoptin.dev/unused-since";

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) uid: String,
    pub(super) resource_version: String,
    /// Whose it is by its labels; `None`: foreign.
    pub(super) owner: Option<AttachmentOwner>,
    pub(super) content: Content,
    /// Whether nobody else has written what we would write.
    pub(super) is_only_ours: bool,
    /// The annotation, whatever it says.
    pub(super) unused_since: Option<String>,
}

/// What an attachment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// What we write.
    Ours,
    /// The same in other words: nothing at all, for which Multus takes the node's configuration of that name, is what Istio's chart writes.
    Equivalent,
    Other,
}

/// The kind.
pub(super) fn resource() -> ApiResource {
    ApiResource {
        group: "k8s.cni.cncf.io".into(),
        version: "v1".into(),
        api_version: "k8s.cni.cncf.io/v1".into(),
        kind: "NetworkAttachmentDefinition".into(),
        plural: "network-attachment-definitions".into(),
    }
}

/// The configuration that each attachment of ours holds.
pub(super) fn config(name: &str) -> String {
    format!(r#"{{"cniVersion":"1.1.0","name":"{name}","type":"mesh-optin"}}"#)
}

/// One of ours, to create it or to apply it to the one that was seen, and not to what took its place.
pub(super) fn object(
    key: &ObjectKey,
    owner: &AttachmentOwner,
    unused_since: Option<&str>,
    seen: Option<&Present>,
) -> Value {
    let label = match owner {
        AttachmentOwner::Shared => json!({SHARED: "true"}),
        AttachmentOwner::Profile(name) => json!({PROFILE: label_value(name)}),
    };
    let mut object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": label},
        "spec": {"config": config(&key.name)},
    });
    if let Some(since) = unused_since {
        object["metadata"]["annotations"] = json!({UNUSED_SINCE: since});
    }
    if let Some(seen) = seen {
        object["metadata"]["uid"] = json!(seen.uid);
        object["metadata"]["resourceVersion"] = json!(seen.resource_version);
    }
    object
}

/// A profile's name as a label's value, which is shorter.
pub(super) fn label_value(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.', '_']).to_owned()
}

/// What counts of an object.
pub(super) fn present(object: DynamicObject) -> (ObjectKey, Present) {
    let metadata = object.metadata;
    let name = metadata.name.unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    let owner = if labels.contains_key(SHARED) {
        Some(AttachmentOwner::Shared)
    } else {
        labels.get(PROFILE).cloned().map(AttachmentOwner::Profile)
    };
    let config = object.data["spec"]["config"].as_str().unwrap_or_default();
    let managers = metadata.managed_fields.iter().flatten();
    let others = managers.filter(|entry| entry.manager.as_deref() != Some(MANAGER));
    let present = Present {
        is_only_ours: !others
            .filter_map(|entry| entry.fields_v1.as_ref())
            .any(|fields| says_what_we_write(&fields.0)),
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        owner,
        content: content(&name, config),
        unused_since: metadata
            .annotations
            .and_then(|mut all| all.remove(UNUSED_SINCE)),
    };
    let key = ObjectKey {
        namespace: metadata.namespace.unwrap_or_default(),
        name,
    };
    (key, present)
}

/// Whether these fields are among those of [`object`].
fn says_what_we_write(fields: &Value) -> bool {
    let labels = &fields["f:metadata"]["f:labels"];
    let has_label = |label| labels.get(format!("f:{label}")).is_some();
    fields.get("f:spec").is_some() || has_label(SHARED) || has_label(PROFILE)
}

fn content(name: &str, text: &str) -> Content {
    if text == config(name) {
        return Content::Ours;
    }
    if text.trim().is_empty() {
        return Content::Equivalent;
    }
    let Ok(Value::Object(keys)) = serde_json::from_str(text) else {
        return Content::Other;
    };
    let is_known = |key: &String| ["cniVersion", "name", "type"].contains(&key.as_str());
    if keys.keys().all(is_known) && keys.get("type") == Some(&json!("mesh-optin")) {
        Content::Equivalent
    } else {
        Content::Other
    }
}

impl Present {
    /// Whether it says the same as another, which may be an earlier report of it.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        let other = Self {
            resource_version: self.resource_version.clone(),
            ..other.clone()
        };
        *self == other
    }

    /// Whether it is as it should be for this owner.
    pub(super) fn is_as_wanted(&self, owner: &AttachmentOwner) -> bool {
        let is_owner = match (owner, &self.owner) {
            (AttachmentOwner::Shared, Some(AttachmentOwner::Shared)) => true,
            (AttachmentOwner::Profile(name), Some(AttachmentOwner::Profile(label))) => {
                label_value(name) == *label
            }
            (
                AttachmentOwner::Shared | AttachmentOwner::Profile(_),
                None | Some(AttachmentOwner::Shared | AttachmentOwner::Profile(_)),
            ) => false,
        };
        is_owner && self.content != Content::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_configurations_are_distinguished_from_different_ones() {
        for (text, expected) in [
            (config("mesh").as_str(), Content::Ours),
            ("", Content::Equivalent),
            (
                r#"{"type": "mesh-optin", "cniVersion": "0.3.1"}"#,
                Content::Equivalent,
            ),
            (
                r#"{"type":"mesh-optin","meshOptin":{"traffic":{}}}"#,
                Content::Other,
            ),
            (r#"{"type":"macvlan"}"#, Content::Other),
            ("{", Content::Other),
        ] {
            assert_eq!(content("mesh", text), expected, "{text}");
        }
    }

    #[test]
    fn fields_of_another_manager_are_distinguished_from_its_marks() {
        let is_only_ours = |manager: &str, fields: Value| {
            let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields});
            let ours = entry(MANAGER, json!({"f:spec": {"f:config": {}}}));
            let managed = [ours, entry(manager, fields)];
            let object = json!({"metadata": {"name": "mesh", "managedFields": managed}});
            present(serde_json::from_value(object).unwrap())
                .1
                .is_only_ours
        };
        let says = json!({"f:spec": {"f:config": {}}});
        assert!(!is_only_ours("helm", says.clone()));
        assert!(is_only_ours(MANAGER, says));
        let label = json!({"f:metadata": {"f:labels": {"f:meshoptin.dev/profile": {}}}});
        assert!(!is_only_ours("kubectl", label));
        let marks = json!({"f:metadata": {"f:annotations": {}}});
        assert!(is_only_ours("kubectl", marks));
    }

    #[test]
    fn an_apply_names_the_uid_and_version_that_were_seen() {
        let key = ObjectKey::new("n", "mesh");
        let new = object(&key, &AttachmentOwner::Shared, None, None);
        assert!(new["metadata"].get("uid").is_none());
        let mut seen = present(serde_json::from_value(new).unwrap()).1;
        (seen.uid, seen.resource_version) = ("u".into(), "7".into());
        let known = object(&key, &AttachmentOwner::Shared, None, Some(&seen));
        assert_eq!(known["metadata"]["uid"], "u");
        assert_eq!(known["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn an_equivalent_attachment_of_ours_is_left_as_it_is() {
        for (config, is_as_wanted) in [
            (
                r#"{ "type": "mesh-optin", "cniVersion": "1.1.0", "name": "mesh" }"#,
                true,
            ),
            (r#"{"type":"macvlan"}"#, false),
        ] {
            let mut object = object(
                &ObjectKey::new("n", "mesh"),
                &AttachmentOwner::Shared,
                None,
                None,
            );
            object["spec"]["config"] = json!(config);
            let present = present(serde_json::from_value(object).unwrap()).1;
            assert_eq!(present.is_as_wanted(&AttachmentOwner::Shared), is_as_wanted);
        }
    }

    #[test]
    fn a_long_name_of_a_profile_makes_a_label() {
        let name = format!("{}.-b", "a".repeat(61));
        assert_eq!(label_value(&name), "a".repeat(61));
        let object = serde_json::from_value(object(
            &ObjectKey::new("n", "mesh"),
            &AttachmentOwner::Profile(name.clone()),
            None,
            None,
        ));
        let (key, present) = present(object.unwrap());
        assert_eq!(key, ObjectKey::new("n", "mesh"));
        assert!(present.is_as_wanted(&AttachmentOwner::Profile(name)));
        assert!(!present.is_as_wanted(&AttachmentOwner::Shared));
    }
}
