//! With the agent away, and with istiod and its webhooks away.

use mesh_optin::{
    mesh::{Attachment, decide},
    profile::Profile,
    reason::Reason,
};
use serde_json::{Value, json};

use super::{
    Row,
    injection::is_in_the_mesh,
    mesh::{Mesh, Plain, WEBHOOKS},
    traffic::CLIENT,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "without the agent a new pod waits, and starts when it is back",
        run: without_agent,
    },
    Row {
        name: "without istiod running pods keep their mesh; new ones are denied or, if webhooks may be ignored, reported as SidecarMissing",
        run: without_istiod,
    },
    Row {
        name: "istiod's switch decides between istio-init and the attachment, and both ways go on",
        run: switched,
    },
];

/// What istiod injects by.
const INJECTOR: &str = "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector-stable";

fn without_agent(mesh: &Mesh<'_>) {
    mesh.agent.delete();
    let pod = mesh.client("waits", &[&mesh.strict.url]);
    mesh.create(&pod);
    let refusal = mesh.s.refused(&pod.pod);
    assert!(refusal.contains("AgentUnavailable: "), "{refusal}");
    mesh.agent.create();
    mesh.agent.ready();
    is_in_the_mesh(mesh, &pod);
    mesh.says(&pod, &[" 200 ", CLIENT]);
    mesh.delete(&[pod]);
}

fn without_istiod(mesh: &Mesh<'_>) {
    let client = mesh.client("lasts", &[&mesh.strict.url]);
    mesh.create(&client);
    mesh.says(&client, &[" 200 ", CLIENT]);
    mesh.stop_istiod();
    let missed = mesh.client("missed", &[&mesh.strict.url]);
    let path = "/api/v1/namespaces/client/pods";
    let denied = mesh.s.cluster.request("POST", path, &missed.manifest);
    let denied = denied.unwrap_err().to_string();
    assert!(denied.contains("failed calling webhook"), "{denied}");
    fail_open(mesh);
    mesh.s
        .cluster
        .namespace("unserved", &json!({"istio.io/rev": "gone"}));
    let unserved = Plain::server("unserved", "web");
    // an API server hears a moment later that the webhook may be ignored
    let dry = format!("{path}?dryRun=All");
    let is_open = || mesh.s.cluster.request("POST", &dry, &missed.manifest).ok();
    assert!(mesh.s.wait_for(is_open).is_some());
    for pod in [&missed, &unserved] {
        mesh.create(pod);
        let found = mesh.ready(pod);
        assert_eq!(found["spec"]["initContainers"], Value::Null);
    }
    for pod in [&missed, &unserved] {
        let is_reported = || {
            let events = mesh.s.events(&pod.pod);
            let mut reasons = events.iter().map(|(reason, _)| reason);
            reasons
                .any(|reason| reason == "SidecarMissing")
                .then_some(())
        };
        let events = || mesh.s.events(&pod.pod);
        assert!(mesh.s.wait_for(is_reported).is_some(), "{:?}", events());
    }
    let node = "/apis/meshoptin.dev/v1alpha1/meshnodes/node1";
    let counted = || {
        let node = mesh.s.cluster.request("GET", node, &Value::Null).ok()?;
        (node["status"]["pods"]["sidecarMissing"] == 2).then_some(())
    };
    assert!(mesh.s.wait_for(counted).is_some(), "MeshNode counts two");
    let answers = |client: &Plain| {
        let log = mesh.s.log(&client.pod, "app");
        let answers = log.lines().filter(|line| line.contains(CLIENT));
        answers.count()
    };
    let before = answers(&client);
    let more = mesh
        .s
        .wait_for(|| (answers(&client) > before + 3).then_some(()));
    assert!(more.is_some(), "{}", mesh.s.log(&client.pod, "app"));
    mesh.start_istiod();
    mesh.delete(std::slice::from_ref(&missed));
    mesh.create(&missed);
    is_in_the_mesh(mesh, &missed);
    mesh.says(&missed, &[" 200 ", CLIENT]);
    mesh.delete(&[client, missed, unserved]);
}

/// Istio's value pilot.cni.enabled, off and on again, as whoever comes from istio-init or goes back throws it.
fn switched(mesh: &Mesh<'_>) {
    let stays = mesh.client("stays", &[&mesh.strict.url]);
    mesh.create(&stays);
    mesh.says(&stays, &[" 200 ", CLIENT]);
    let tried = mesh.client("tried", &[&mesh.strict.url]);
    let injects = |is_enabled: bool| {
        let map = mesh
            .s
            .cluster
            .request("GET", INJECTOR, &Value::Null)
            .unwrap();
        let mut values: Value =
            serde_json::from_str(map["data"]["values"].as_str().unwrap()).unwrap();
        values["pilot"]["cni"]["enabled"] = json!(is_enabled);
        let data = json!({"data": {"values": values.to_string()}});
        mesh.s.cluster.patch(INJECTOR, &data);
        let (init, names) = (!is_enabled, is_enabled);
        let injected = || {
            let path = "/api/v1/namespaces/client/pods?dryRun=All";
            let pod = mesh.s.cluster.request("POST", path, &tried.manifest).ok()?;
            let containers = pod["spec"]["initContainers"].as_array()?;
            let has_init = containers.iter().any(|c| c["name"] == "istio-init");
            let networks = &pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
            let has_name = networks.as_str().is_some_and(|n| n.contains("istio-cni"));
            (has_init == init && has_name == names).then_some(pod)
        };
        let injected = mesh.s.wait_for(injected);
        injected.unwrap_or_else(|| panic!("istiod does not follow pilot.cni.enabled={is_enabled}"))
    };
    let pod = serde_json::from_value(injects(false)).unwrap();
    let namespace =
        json!({"metadata": {"name": "client", "labels": {"istio-injection": "enabled"}}});
    let namespace = serde_json::from_value(namespace).unwrap();
    let decided = decide(
        &pod,
        &namespace,
        Ok(&Profile::built_in()),
        &Attachment::default(),
    );
    assert_eq!(decided.decision.reason(), Reason::InitContainerRedirects);
    injects(true);
    mesh.create(&tried);
    is_in_the_mesh(mesh, &tried);
    mesh.says(&tried, &[" 200 ", CLIENT]);
    mesh.delete(&[stays, tried]);
}

/// The webhooks may be ignored from now on.
fn fail_open(mesh: &Mesh<'_>) {
    let cluster = &mesh.s.cluster;
    let list = cluster.request("GET", WEBHOOKS, &Value::Null).unwrap();
    for configuration in list["items"].as_array().unwrap() {
        let mut webhooks = configuration["webhooks"].clone();
        for webhook in webhooks.as_array_mut().unwrap() {
            webhook["failurePolicy"] = json!("Ignore");
        }
        let name = configuration["metadata"]["name"].as_str().unwrap();
        let path = WEBHOOKS.split('?').next().unwrap();
        cluster.patch(&format!("{path}/{name}"), &json!({"webhooks": webhooks}));
    }
}
