//! Bounds of lists and texts in our CRDs, and objects that exceeded them before.

use serde_json::{Value, json};

use crate::support::{cluster::Cluster, controller::until};

const NODES: &str = "/apis/meshoptin.dev/v1alpha1/meshnodes";
const PROFILES: &str = "/apis/meshoptin.dev/v1alpha1/meshprofiles";

/// The CRD of a kind as it was before lists and texts of a status had bounds.
fn without_bounds(kind: &str) -> Value {
    fn drop(schema: &mut Value) {
        match schema {
            Value::Object(fields) => {
                fields
                    .retain(|key, _| !["maxItems", "maxLength", "maxProperties"].contains(&&**key));
                fields.values_mut().for_each(drop);
            }
            Value::Array(entries) => entries.iter_mut().for_each(drop),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let path = format!(
        "{}/crds/meshoptin.dev_{kind}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut crd: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    drop(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]);
    crd
}

/// Server-side apply of a status, as agent and controller write it.
fn write(cluster: &Cluster, path: &str, kind: &str, status: &Value) -> Result<Value, Value> {
    let (content, name) = ("application/apply-patch+yaml", path.rsplit('/').next());
    let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "status": status});
    let path = format!("{path}/status?fieldManager=ours&force=true");
    cluster.request_with("admin", content, "PATCH", &path, &object)
}

#[test]
fn a_status_that_exceeded_a_bound_before_can_be_written_and_a_new_one_is_refused() {
    let cluster = Cluster::start();
    for kind in ["meshprofiles", "meshnodes"] {
        cluster.apply(&without_bounds(kind).to_string());
        cluster.wait_until_served(&format!("{kind}.meshoptin.dev"), "v1alpha1");
    }
    let in_use = |many: usize| vec![json!({"name": "p", "resourceVersion": "1"}); many];
    let selectors = |many: usize| {
        let expression = json!({"key": "a", "operator": "Exists"});
        json!([{"matchExpressions": vec![expression; many]}])
    };
    for (path, kind) in [(NODES, "MeshNode"), (PROFILES, "MeshProfile")] {
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": kind, "metadata": {"name": "old"}});
        cluster.create(path, &object);
    }
    let (node, profile) = (format!("{NODES}/old"), format!("{PROFILES}/old"));
    let of_node = |many, version: &str| json!({"profiles": in_use(many), "version": version});
    let of_profile = |many, generation: u8| json!({"otherSelectors": selectors(many), "observedGeneration": generation});
    write(&cluster, &node, "MeshNode", &of_node(40, "1")).unwrap();
    write(&cluster, &profile, "MeshProfile", &of_profile(70, 1)).unwrap();

    cluster.apply_crds();
    until("the bounds hold", || {
        write(&cluster, &node, "MeshNode", &of_node(41, "1")).is_err()
            && write(&cluster, &profile, "MeshProfile", &of_profile(71, 1)).is_err()
    });
    // what is there already may stay, whatever else changes, by CRDValidationRatcheting, which is stable from Kubernetes 1.33 on
    if cluster.minor_version() >= 33 {
        write(&cluster, &node, "MeshNode", &of_node(40, "2")).unwrap();
        write(&cluster, &profile, "MeshProfile", &of_profile(70, 2)).unwrap();
    }
    // and a report within bounds takes its place
    write(&cluster, &node, "MeshNode", &of_node(32, "3")).unwrap();
    write(&cluster, &profile, "MeshProfile", &of_profile(64, 3)).unwrap();
    let refused = write(&cluster, &node, "MeshNode", &of_node(33, "3")).unwrap_err();
    assert!(
        refused.to_string().contains("must have at most 32 items"),
        "{refused}"
    );
    let long = json!({"kernel": "x".repeat(129)});
    let refused = write(&cluster, &node, "MeshNode", &long).unwrap_err();
    assert!(refused.to_string().contains("status.kernel"), "{refused}");
}
