//! What a real API server with our CRD takes as a MeshProfile.

use mesh_optin::profile::{Profile, ProfileOrigin};
use serde_json::{Value, json};

use crate::support::cluster::Cluster;

#[test]
fn the_api_server_and_the_nodes_program_take_the_same_profiles() {
    let cluster = Cluster::start();
    cluster.apply_crds();
    cluster.apply_profile_policy();
    let groups = |list: Value| json!({"redirect": {"outboundOwnerGroups": {"include": list}}});
    let selector = |operator: &str, values: Value| json!({"namespaces": {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}});
    let attachment = |name: &str| json!({"attachment": {"name": name}});
    let port = |port: u32| json!({"redirect": {"ports": {"inbound": port}}});
    for (is_taken, spec) in [
        (true, json!({})),
        (true, groups(json!(["*"]))),
        (true, groups(json!([0, "5", 4_294_967_295_u32]))),
        (false, groups(json!(["*", 5]))),
        (false, groups(json!(["wheel"]))),
        (false, groups(json!([-1]))),
        (false, groups(json!([4_294_967_296_u64]))),
        (true, selector("In", json!(["a"]))),
        (false, selector("In", json!([]))),
        (false, selector("Exists", json!(["a"]))),
        (false, selector("Is", json!(["a"]))),
        (true, attachment("istio-cni")),
        (false, attachment("istio.cni")),
        (false, attachment(&"a".repeat(64))),
        (true, port(65535)),
        (false, port(0)),
        (false, port(65536)),
        (
            false,
            json!({"tenants": {"mayOverride": ["*", "excludeInterfaces"]}}),
        ),
        (false, json!({"revisions": vec!["x"; 257]})),
        (false, json!({"enrolment": {}})),
        (false, json!({"namespace": {"matchLabels": {"team": "a"}}})),
        (false, json!({"tenants": {"mayOptout": false}})),
        (
            false,
            json!({"redirect": {"traffic": {"excludeOutboundPort": "1"}}}),
        ),
        (
            false,
            json!({"namespaces": {"matchExpressions": [{"key": "k", "operator": "Exists", "value": []}]}}),
        ),
        (false, json!({"redirect": {"proxyUID": 0}})),
    ] {
        let object = json!({
            "apiVersion": "meshoptin.dev/v1alpha1",
            "kind": "MeshProfile",
            "metadata": {"name": "p"},
            "spec": spec,
        });
        // whatever a client asks for: kubectl is strict, others are not
        for validation in ["Strict", "Warn", "Ignore"] {
            let path = format!("{PROFILES}?dryRun=All&fieldValidation={validation}");
            let by_server = cluster.request("POST", &path, &object);
            assert_eq!(
                by_server.is_ok(),
                is_taken,
                "{validation} {spec}: {by_server:?}"
            );
        }
        let by_program = Profile::from_json(&object.to_string(), ProfileOrigin::BuiltIn);
        assert_eq!(by_program.is_ok(), is_taken, "{spec}: {by_program:?}");
    }
    let misspelled = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "p"},
        "spec": {"redirect": {"port": {}, "backends": "Auto"}}});
    let path = format!("{PROFILES}?fieldValidation=Ignore");
    let refused = cluster.request("POST", &path, &misspelled).unwrap_err();
    let told = refused["message"].as_str().unwrap();
    assert!(
        told.contains("spec.redirect has an unknown field backends, port; its fields are ")
            || told.contains("spec.redirect has an unknown field port, backends; its fields are "),
        "{told}"
    );
}

const PROFILES: &str = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
