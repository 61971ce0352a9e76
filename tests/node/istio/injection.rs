//! Which pods Istio injects, and that those are redirected.

use serde_json::{Value, json};

use super::{
    Row,
    mesh::{Mesh, Plain},
};

pub(super) const ROWS: &[Row] = &[Row {
    name: "pods are injected by namespace, workload, revision and tag, and redirected",
    run: |mesh| {
        let namespaces = [
            (
                "injected-by-namespace",
                json!({"istio-injection": "enabled"}),
            ),
            ("injected-by-revision", json!({"istio.io/rev": "stable"})),
            ("injected-by-tag", json!({"istio.io/rev": "prod"})),
            ("injected-by-workload", json!({})),
        ];
        for (name, labels) in &namespaces {
            mesh.s.cluster.namespace(name, labels);
        }
        let workload = |name: &str, key: &str, value: &str| {
            Plain::server("injected-by-workload", name).label(key, value)
        };
        let pods = [
            Plain::server("injected-by-namespace", "web"),
            Plain::server("injected-by-revision", "web"),
            Plain::server("injected-by-tag", "web"),
            workload("inject", "sidecar.istio.io/inject", "true"),
            workload("revision", "istio.io/rev", "stable"),
            workload("tag", "istio.io/rev", "prod"),
        ];
        let out = [
            Plain::server("injected-by-workload", "none"),
            Plain::server("injected-by-namespace", "out").label("sidecar.istio.io/inject", "false"),
        ];
        pods.iter().chain(&out).for_each(|pod| mesh.create(pod));
        for pod in &pods {
            is_in_the_mesh(mesh, pod);
        }
        for pod in &out {
            let found = mesh.ready(pod);
            assert_eq!(found["spec"]["initContainers"], Value::Null);
            assert!(mesh.s.records(&pod.pod).is_empty());
        }
        mesh.delete(&[&pods[..], &out].concat());
    },
}];

/// It is injected and redirected, and the injector's own check of that has passed.
pub(super) fn is_in_the_mesh(mesh: &Mesh<'_>, plain: &Plain) {
    let found = mesh.ready(plain);
    let networks = &found["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
    assert!(
        networks.as_str().unwrap().contains("default/istio-cni"),
        "{networks}"
    );
    let statuses = found["status"]["initContainerStatuses"].as_array();
    let mut statuses = statuses.unwrap().iter();
    let validation = statuses.find(|c| c["name"] == "istio-validation").unwrap();
    let ended = &validation["state"]["terminated"]["exitCode"];
    assert_eq!((ended, &validation["restartCount"]), (&json!(0), &json!(0)));
    assert_eq!(mesh.s.records(&plain.pod).len(), 1, "{}", plain.pod.name);
}
