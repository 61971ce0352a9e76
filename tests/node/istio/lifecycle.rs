//! How pods of the mesh start and end.

use serde_json::{Value, json};

use super::{
    Row,
    injection::is_in_the_mesh,
    mesh::{PORT, Plain, container},
    traffic::CLIENT,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an init container behind a native sidecar reaches the mesh, and so does a Job, which completes",
        run: |mesh| {
            let once = ["once", mesh.strict.url.as_str()];
            let pod = mesh.client("native", &[&mesh.strict.url]);
            let pod = pod.spec("initContainers", json!([container("first", &once)]));
            let path = "/apis/batch/v1/namespaces/client/jobs";
            let spec = json!({"restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [container("app", &once)]});
            let job = json!({"metadata": {"name": "job"}, "spec": {"template": {"spec": spec}}});
            mesh.s.cluster.create(path, &job);
            mesh.create(&pod);
            is_in_the_mesh(mesh, &pod);
            let found = mesh.ready(&pod);
            assert!(is_native(&found), "{found:#}");
            let first = mesh.s.log(&pod.pod, "first");
            assert!(first.contains(CLIENT), "{first}");
            let job = format!("{path}/job");
            let complete = || {
                let job = mesh.s.cluster.request("GET", &job, &Value::Null).ok()?;
                (job["status"]["succeeded"] == 1).then_some(())
            };
            assert!(mesh.s.wait_for(complete).is_some(), "the Job completes");
            mesh.s
                .cluster
                .request("DELETE", &job, &json!({"propagationPolicy": "Background"}))
                .unwrap();
            mesh.delete(&[pod]);
        },
    },
    Row {
        name: "a classic sidecar is waited for, and an init container as its user goes past it",
        run: |mesh| {
            let at_pod = mesh.permissive.url_of_pod(mesh);
            let mut first = container("first", &["once", &at_pod]);
            first["securityContext"]["runAsUser"] = json!(1337);
            let config = json!({"holdApplicationUntilProxyStarts": true});
            let pod = mesh
                .client("classic", &[&mesh.strict.url])
                .annotation("sidecar.istio.io/nativeSidecar", "false")
                .annotation("proxy.istio.io/config", &config.to_string())
                .spec("initContainers", json!([first]));
            mesh.create(&pod);
            is_in_the_mesh(mesh, &pod);
            assert!(!is_native(&mesh.ready(&pod)));
            let first = mesh.s.log(&pod.pod, "first");
            assert!(
                first.contains(" 200 ") && !first.contains("spiffe:"),
                "{first}"
            );
            mesh.says(&pod, &[" 200 ", CLIENT]);
            let log = mesh.s.log(&pod.pod, "app");
            assert!(log.lines().next().unwrap().contains(" 200 "), "{log}");
            mesh.delete(&[pod]);
        },
    },
    Row {
        name: "kubelet's probes pass, over HTTP and TCP, where only mTLS is let in",
        run: |mesh| {
            let mut app = container("app", &["http", &PORT.to_string()]);
            // kubelet waits for both: how soon the application listens does not matter
            app["startupProbe"] =
                json!({"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 100});
            app["readinessProbe"] =
                json!({"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1});
            let pod = Plain::server("mtls", "probed").spec("containers", json!([app]));
            mesh.create(&pod);
            is_in_the_mesh(mesh, &pod);
            let found = mesh.ready(&pod);
            // Istio's injector has both ask the sidecar's agent, past mTLS
            let app = &found["spec"]["containers"][0];
            for probe in ["startupProbe", "readinessProbe"] {
                assert_eq!(app[probe]["httpGet"]["port"], 15020, "{app:#}");
            }
            assert_eq!(found["status"]["containerStatuses"][0]["restartCount"], 0);
            mesh.delete(&[pod]);
        },
    },
];

/// Whether the sidecar is an init container that stays.
fn is_native(pod: &Value) -> bool {
    let mut containers = pod["spec"]["initContainers"].as_array().unwrap().iter();
    containers.any(|c| c["name"] == "istio-proxy" && c["restartPolicy"] == "Always")
}
