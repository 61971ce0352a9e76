//! What real clusters contain: one change to an injected pod, its namespace or its profile, as JSON, and what is decided.

mod enrollment;
mod rendered;
mod staying_out;
mod tenants;

use mesh_optin::{
    mesh::{Attachment, Decision, Namespace, Pod, assume_injected, decide},
    profile::{Profile, ProfileOrigin},
    reason::Reason::{self, *},
};
use serde_json::{Value, json};

use crate::support::data::data;

/// A pod in its surroundings.
#[derive(Clone)]
struct Case {
    pod: Value,
    namespace: Value,
    spec: Value,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Redirect,
    Skip,
    Refuse,
}
use Outcome::{Redirect, Refuse, Skip};

impl Case {
    fn of(name: &str) -> Self {
        let (pod, namespace) = data(name);
        let spec = json!({});
        Self {
            pod,
            namespace,
            spec,
        }
    }

    fn pod(mut self, patch: Value) -> Self {
        merge(&mut self.pod, patch);
        self
    }

    fn labels(self, patch: Value) -> Self {
        self.pod(json!({"metadata": {"labels": patch}}))
    }

    fn annotations(self, patch: Value) -> Self {
        self.pod(json!({"metadata": {"annotations": patch}}))
    }

    /// The namespace's labels, all of them.
    fn namespace(mut self, labels: Value) -> Self {
        self.namespace["metadata"]["labels"] = labels;
        self
    }

    fn profile(mut self, spec: Value) -> Self {
        merge(&mut self.spec, spec);
        self
    }

    /// A part of the container of this name.
    fn container(mut self, name: &str, patch: Value) -> Self {
        let of_name = |c: &&mut Value| c["name"] == name;
        let containers = self.pod["spec"]["containers"].as_array_mut().unwrap();
        merge(containers.iter_mut().find(of_name).unwrap(), patch);
        self
    }

    /// Without istio-proxy and what the injector wrote.
    fn not_injected(mut self) -> Self {
        self.pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .retain(|c| c["name"] != "istio-proxy");
        self.pod["metadata"]["annotations"] = json!({});
        self
    }

    fn has_run(self) -> Self {
        self.pod(json!({"status": {"containerStatuses": [{"containerID": "containerd://1"}]}}))
    }

    /// What is decided; the same on what an agent keeps of the pod.
    fn decided(&self) -> (Outcome, Reason, Vec<Reason>) {
        let pod: Pod = serde_json::from_value(self.pod.clone()).unwrap();
        let namespace: Namespace = serde_json::from_value(self.namespace.clone()).unwrap();
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "p"}, "spec": self.spec});
        let profile = Profile::from_value(object, ProfileOrigin::BuiltIn).unwrap();
        let on = |pod: &Pod| decide(pod, &namespace, Ok(&profile), &Attachment::default());
        let decided = on(&pod);
        assert_eq!(format!("{decided:?}"), format!("{:?}", on(&pod.reduce())));
        let outcome = match &decided.decision {
            Decision::Redirect(_) => Redirect,
            Decision::Skip(_) => Skip,
            Decision::Refuse(_) => Refuse,
        };
        (
            outcome,
            decided.decision.reason(),
            decided.warnings.iter().map(|w| w.reason).collect(),
        )
    }
}

/// JSON merge patch, RFC 7386.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

fn check(cases: Vec<(&str, Case, Outcome, Reason, &[Reason])>) {
    for (name, case, outcome, reason, warnings) in cases {
        assert_eq!(
            case.decided(),
            (outcome, reason, warnings.to_vec()),
            "{name}"
        );
    }
}
