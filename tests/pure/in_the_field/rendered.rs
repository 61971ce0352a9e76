//! Workloads as Istio's own injector and gateway controller render them (`tests/data/istio`).

use std::path::PathBuf;

use mesh_optin::source::manifests::{Object, parse};

use super::*;

impl Case {
    /// The pod of a workload in an enrolled namespace, whose profile lets pods opt out or not.
    fn rendered(name: &str, may_opt_out: bool) -> Self {
        let path = PathBuf::from(format!(
            "{}/tests/data/istio/{name}.yaml",
            env!("CARGO_MANIFEST_DIR")
        ));
        let objects = parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        let [Object::Pod(pod)] = objects.as_slice() else {
            panic!("{name}: not one workload: {objects:?}");
        };
        let enrolled = json!({"istio-injection": "enabled"});
        let namespace =
            json!({"metadata": {"name": pod.metadata.namespace, "labels": enrolled.clone()}});
        let spec =
            json!({"namespaces": {"matchLabels": enrolled}, "tenants": {"mayOptOut": may_opt_out}});
        Self {
            pod: json!(pod),
            namespace,
            spec,
        }
    }
}

#[test]
fn sidecars_are_redirected_gateways_never_and_proxyless_grpc_where_pods_may_opt_out() {
    for (name, lenient, strict) in [
        ("sidecar", (Redirect, Redirected), (Redirect, Redirected)),
        (
            "gateway",
            (Skip, NotASidecarProxy),
            (Skip, NotASidecarProxy),
        ),
        (
            "gateway-api",
            (Skip, NotASidecarProxy),
            (Skip, NotASidecarProxy),
        ),
        (
            "waypoint",
            (Skip, NotASidecarProxy),
            (Skip, NotASidecarProxy),
        ),
        (
            "grpc-agent",
            (Skip, ProxyDisabled),
            (Refuse, OptOutNotAllowed),
        ),
        ("grpc-simple", (Skip, NoSidecar), (Skip, NoSidecar)),
    ] {
        for (may_opt_out, (outcome, reason)) in [(true, lenient), (false, strict)] {
            assert_eq!(
                Case::rendered(name, may_opt_out).decided(),
                (outcome, reason, vec![]),
                "{name}, mayOptOut: {may_opt_out}"
            );
        }
    }
}

#[test]
fn a_gateway_with_an_application_beside_it_is_an_opt_out() {
    for name in ["gateway", "gateway-api", "waypoint"] {
        let mut case = Case::rendered(name, false);
        let containers = case.pod["spec"]["containers"].as_array_mut().unwrap();
        containers.push(json!({"name": "app"}));
        assert_eq!(case.decided(), (Refuse, OptOutNotAllowed, vec![]), "{name}");
    }
}
