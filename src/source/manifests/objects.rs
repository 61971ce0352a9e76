//! Objects in YAML and JSON.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    mesh::{Namespace, Pod},
    multus::AttachmentDefinition,
    profile::{Profile, ProfileOrigin},
};

/// What a file may hold.
#[derive(Debug, Clone)]
pub enum Object {
    /// A Pod, or the pod template of a workload.
    Pod(Box<Pod>),
    /// A Namespace.
    Namespace(Namespace),
    /// A NetworkAttachmentDefinition.
    Attachment(AttachmentDefinition),
    /// A MeshProfile.
    Profile(Box<Profile>),
    /// A RuntimeClass.
    RuntimeClass(RuntimeClass),
}

/// What runs the pods that name it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the API's own names")]
pub struct RuntimeClass {
    pub name: String,
    pub handler: String,
}

impl RuntimeClass {
    /// Adds the handler to a pod that names this class.
    pub fn complete(&self, pod: &mut Pod) {
        if pod.spec.runtime_class_name == self.name {
            pod.spec.runtime_handler.clone_from(&self.handler);
        }
    }
}

/// The objects of a text: YAML (several documents) or JSON, Lists included. Other kinds are passed over.
pub fn parse(text: &str, path: &Path) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for (at, document) in documents(text, path).enumerate() {
        let placed = |e: String| format!("{}, document {}: {e}", path.display(), at + 1);
        collect(document.map_err(placed)?, path, &mut objects).map_err(placed)?;
    }
    Ok(objects)
}

/// A file named `.json` is read as JSON: what that escapes (surrogate pairs) YAML does not take.
fn documents<'a>(
    text: &'a str,
    path: &Path,
) -> Box<dyn Iterator<Item = Result<Value, String>> + 'a> {
    if path.extension().is_some_and(|e| e == "json") {
        return Box::new(
            serde_json::Deserializer::from_str(text)
                .into_iter()
                .map(|d| d.map_err(|e| e.to_string())),
        );
    }
    Box::new(
        serde_yaml::Deserializer::from_str(text)
            .map(|d| Value::deserialize(d).map_err(|e| e.to_string())),
    )
}

fn collect(value: Value, path: &Path, into: &mut Vec<Object>) -> Result<(), String> {
    if value.is_null() {
        return Ok(()); // an empty document
    }
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .ok_or("there is no kind")?
        .to_owned();
    let typed = |e: serde_json::Error| format!("{kind}: {e}");
    match kind.as_str() {
        "Pod" => into.push(Object::Pod(pod(value)?)),
        "Namespace" => into.push(Object::Namespace(
            serde_json::from_value(value).map_err(typed)?,
        )),
        "NetworkAttachmentDefinition" => {
            into.push(Object::Attachment(AttachmentDefinition::of(&value)?))
        }
        "RuntimeClass" => into.push(Object::RuntimeClass(runtime_class(&value)?)),
        "MeshProfile" => into.push(Object::Profile(Box::new(Profile::from_value(
            value,
            ProfileOrigin::File(PathBuf::from(path)),
        )?))),
        list if list.ends_with("List") => {
            for mut item in value
                .get("items")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
            {
                if item.get("kind").is_none() {
                    item["kind"] = list.trim_end_matches("List").into(); // a typed list names the kind once
                }
                collect(item, path, into)?;
            }
        }
        "Deployment"
        | "DeploymentConfig"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "ReplicationController" => into.push(Object::Pod(template(&value, "/spec/template")?)),
        "CronJob" => into.push(Object::Pod(template(
            &value,
            "/spec/jobTemplate/spec/template",
        )?)),
        _ => {}
    }
    Ok(())
}

fn pod(value: Value) -> Result<Box<Pod>, String> {
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| format!("Pod: {e}"))?;
    if pod.metadata.namespace.is_empty() {
        pod.metadata.namespace = "default".into();
    }
    Ok(Box::new(pod))
}

/// A workload's pod, under the workload's own name and namespace.
fn template(workload: &Value, at: &str) -> Result<Box<Pod>, String> {
    let mut pod = pod(workload
        .pointer(at)
        .cloned()
        .ok_or_else(|| format!("there is no {at}"))?)?;
    let of_workload = |key: &str| {
        workload
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_str)
    };
    pod.metadata.name = of_workload("name").unwrap_or_default().into();
    pod.metadata.namespace = of_workload("namespace").unwrap_or("default").into();
    Ok(pod)
}

fn runtime_class(value: &Value) -> Result<RuntimeClass, String> {
    let text = |at: &str| {
        let text = value.pointer(at).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| format!("RuntimeClass: there is no {at}"))
    };
    Ok(RuntimeClass {
        name: text("/metadata/name")?,
        handler: text("/handler")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<String>, String> {
        let name = |o: Object| match o {
            Object::Pod(p) => format!("pod {}/{}", p.metadata.namespace, p.metadata.name),
            Object::Namespace(n) => format!("namespace {}", n.metadata.name),
            Object::Attachment(a) => {
                format!("nad {}/{} {}", a.namespace, a.name, a.config.is_some())
            }
            Object::Profile(p) => format!("profile {}", p.name),
            Object::RuntimeClass(c) => format!("runtime class {} {}", c.name, c.handler),
        };
        parse(text, Path::new("f.yaml")).map(|o| o.into_iter().map(name).collect())
    }

    #[test]
    fn documents_lists_and_templates_are_read() {
        let text = r#"
kind: Namespace
metadata: {name: a, labels: {istio-injection: enabled}}
---
---
kind: PodList
items: [{metadata: {name: l, namespace: null}, status: null}]
---
kind: List
items:
- {kind: Pod, metadata: {name: p}}
- {kind: ConfigMap, metadata: {name: c}, data: {a: b}}
---
kind: CronJob
metadata: {name: nightly, namespace: a}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {x: "y"}}, spec: {containers: [{name: c}]}}}}}
---
{"kind": "NetworkAttachmentDefinition", "metadata": {"name": "mesh", "namespace": "a"}, "spec": {"config": "{}"}}
---
{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: gold}}
---
{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: vm}, handler: kata}
"#;
        assert_eq!(
            kinds(text).unwrap(),
            [
                "namespace a",
                "pod default/l",
                "pod default/p",
                "pod a/nightly",
                "nad a/mesh true",
                "profile gold",
                "runtime class vm kata"
            ]
        );
    }

    #[test]
    fn json_is_json() {
        let objects = parse(
            r#"{"kind":"Namespace","metadata":{"name":"n","labels":{"a":"\ud83d\ude00"}}}"#,
            Path::new("n.json"),
        )
        .unwrap();
        assert!(matches!(&objects[..], [Object::Namespace(n)] if n.metadata.labels["a"] == "😀"));
        assert!(parse("kind: Namespace", Path::new("n.json")).is_err());
    }

    #[test]
    fn what_is_wrong_is_placed() {
        for (text, part) in [
            (
                "kind: Pod\nmetadata: {labels: {a: true}}",
                "document 1: Pod: invalid type: boolean",
            ),
            (
                "kind: Namespace\n---\nfoo: bar",
                "document 2: there is no kind",
            ),
            ("kind: Deployment", "there is no /spec/template"),
            (
                "{kind: RuntimeClass, metadata: {name: vm}}",
                "RuntimeClass: there is no /handler",
            ),
            ("a: [", "document 1"),
            (
                "{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: p}, spec: {x: 1}}",
                "unknown field `x`",
            ),
        ] {
            let error = kinds(text).unwrap_err();
            assert!(
                error.starts_with("f.yaml") && error.contains(part),
                "{text}: {error}"
            );
        }
    }
}
