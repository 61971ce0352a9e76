//! The admission policies of deploy/admission and the roles for people, on a real API server.

mod agreement;
mod attachments;
mod budget;
mod cost;
mod crds;
mod enforced;
mod frozen;
mod governance;
mod networks;
mod pods;
mod roles;
mod status;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    cluster::{Cluster, SERVER},
    lab::inside,
    run,
};

/// Shared by the tests that leave its profiles as they are.
fn guarded() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = start();
        cluster.create(
            PROFILES,
            &profile(
                "strict",
                &json!({
                    "namespaces": {"matchLabels": {"team": "a"}},
                    "tenants": {"mayOptOut": false, "mayShareProxyIdentity": false},
                    "admission": {"unattachedPods": "Deny"},
                }),
            ),
        );
        bind(&cluster);
        eventually(|| pod_of(&cluster, "team-a", &json!({})).0.is_err());
        cluster
    })
}

const PROFILES: &str = "/apis/meshoptin.dev/v1alpha1/meshprofiles";
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// A control plane with all CRDs, the policies without their bindings, and a tenant who may write pods and NADs everywhere, and nothing else.
fn start() -> Cluster {
    let cluster = Cluster::start();
    install(&cluster);
    cluster
}

fn install(cluster: &Cluster) {
    apply_crds(cluster);
    apply_folder(cluster, "admission");
    for (name, labels) in [
        ("default", None),
        (
            "team-a",
            Some(json!({"team": "a", "istio-injection": "enabled"})),
        ),
        ("team-b", Some(json!({"istio-injection": "enabled"}))),
        // governed, and not enrolled
        ("plain", Some(json!({"team": "a"}))),
        ("mesh-optin", Some(json!({}))),
    ] {
        match labels {
            Some(labels) => cluster.namespace(name, &labels),
            None => cluster.service_account(name, "default"),
        }
    }
    let every = json!(["*"]);
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods", "pods/status", "pods/ephemeralcontainers"], "verbs": every},
        {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"], "verbs": every},
    ]);
    grant(cluster, "tenant", &rules);
}

/// Gives a user rights in the whole cluster.
fn grant(cluster: &Cluster, user: &str, rules: &Value) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    cluster.create(
        &format!("{rbac}/clusterroles"),
        &json!({"metadata": {"name": user}, "rules": rules}),
    );
    bind_role(cluster, user, user);
}

/// Binds a ClusterRole to a user of the same cluster.
fn bind_role(cluster: &Cluster, user: &str, role: &str) {
    cluster.create(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        &json!({
            "metadata": {"name": format!("{user}-{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    );
}

/// The CRDs, Multus's as well; they are served when this returns.
fn apply_crds(cluster: &Cluster) {
    cluster.apply_crds();
    cluster.apply_attachments_crd();
}

/// `kubectl apply -k` of a folder of deploy/.
fn apply_folder(cluster: &Cluster, folder: &str) {
    cluster.enter(&["kubectl", "apply", "-k", &folder_of(folder)]);
}

fn folder_of(folder: &str) -> String {
    format!("{}/deploy/{folder}", env!("CARGO_MANIFEST_DIR"))
}

/// Installs the bindings; they hold when this returns: an API server that knows the last one knows those before it.
fn bind(cluster: &Cluster) {
    apply_folder(cluster, "admission/bindings");
    let group = "/apis/admissionregistration.k8s.io/v1";
    let name = json!({"name": "last"});
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"], "resourceNames": ["last"]});
    let policy = json!({"metadata": name, "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "false"}]}});
    cluster.create(&format!("{group}/validatingadmissionpolicies"), &policy);
    let binding =
        json!({"metadata": name, "spec": {"policyName": "last", "validationActions": ["Deny"]}});
    let bindings = format!("{group}/validatingadmissionpolicybindings");
    cluster.create(&bindings, &binding);
    let configmaps = "/api/v1/namespaces/plain/configmaps?dryRun=All";
    let object = json!({"metadata": name});
    eventually(|| {
        let answer = cluster.request("POST", configmaps, &object);
        answer.is_err_and(|why| why.to_string().contains("ValidatingAdmissionPolicy 'last'"))
    });
}

fn profile(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": name}, "spec": spec})
}

/// Policies and their parameters reach an API server's admission within moments.
#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed().as_secs() < 60, "it does not come to hold");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What came of a request: the object or why not, and the warnings.
type Answer = (Result<Value, String>, String);

/// A request in somebody's name.
fn request(
    cluster: &Cluster,
    user: &str,
    (method, path): (&str, &str),
    content: &str,
    body: &Value,
) -> Answer {
    let ca = cluster.directory.join("ca.crt");
    let url = format!("{SERVER}{path}");
    let content = format!("Content-Type: {content}");
    let name = format!("Impersonate-User: {user}");
    let mut args = vec!["-sS", "-i", "--cacert", ca.to_str().unwrap(), "-X", method];
    args.extend(["-H", "Authorization: Bearer admin", "-H", &content]);
    if user != "admin" {
        args.extend(["-H", &name]);
    }
    if !body.is_null() {
        args.extend(["-H", "Expect:", "-d", "@-"]);
    }
    args.push(&url);
    let answer = inside(&cluster.netns, || run("curl", &args, &body.to_string()));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let warnings = head
        .lines()
        .filter(|line| line.to_lowercase().starts_with("warning:"))
        .collect::<Vec<_>>()
        .join("\n");
    let object: Value = serde_json::from_str(body).unwrap();
    let result = if object["status"] == "Failure" {
        Err(object["message"].as_str().unwrap_or_default().to_owned())
    } else {
        Ok(object)
    };
    (result, warnings)
}

/// A dry run of creating a NAD, by the tenant.
fn nad_of(cluster: &Cluster, namespace: &str, name: &str, config: &str) -> Answer {
    let spec = json!({"config": config});
    create(cluster, namespace, &nad(name, &spec), true)
}

fn nad(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": spec})
}

/// Creates a pod or a NAD as the tenant.
fn create(cluster: &Cluster, namespace: &str, object: &Value, dry: bool) -> Answer {
    let path = format!(
        "{}{}",
        path_of(object, namespace),
        if dry { "?dryRun=All" } else { "" }
    );
    request(
        cluster,
        "tenant",
        ("POST", &path),
        "application/json",
        object,
    )
}

fn path_of(object: &Value, namespace: &str) -> String {
    match object["kind"].as_str().unwrap() {
        "Pod" => format!("/api/v1/namespaces/{namespace}/pods"),
        _ => format!(
            "/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions"
        ),
    }
}

/// A merge patch by the tenant, of a pod or one of its subresources.
fn patch(cluster: &Cluster, path: &str, change: &Value) -> Answer {
    request(
        cluster,
        "tenant",
        ("PATCH", path),
        "application/merge-patch+json",
        change,
    )
}

/// A dry run of creating an injected pod with these changes, by the tenant.
fn pod_of(cluster: &Cluster, namespace: &str, changes: &Value) -> Answer {
    create(cluster, namespace, &injected(changes), true)
}

/// A pod as Istio's injector leaves it, without networks, and with these changes merged into it.
fn injected(changes: &Value) -> Value {
    let mut pod = plain(&json!({}));
    pod["metadata"]["annotations"] = json!({"sidecar.istio.io/status": "{}"});
    pod["spec"]["initContainers"] = json!([proxy()]);
    merge(&mut pod, changes);
    pod
}

fn proxy() -> Value {
    json!({
        "name": "istio-proxy", "image": "x", "restartPolicy": "Always", "args": ["proxy", "sidecar"],
        "env": [{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "REDIRECT"}],
        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337},
    })
}

/// A pod without a sidecar, with changes.
fn plain(changes: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "app", "image": "x"}], "automountServiceAccountToken": false},
    });
    merge(&mut pod, changes);
    pod
}

/// The same in the words of a pod's metadata.
fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// An attached pod with changes.
fn attached(changes: &Value) -> Value {
    let mut pod = injected(&annotated(NETWORKS, "default/istio-cni"));
    merge(&mut pod, changes);
    pod
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), change);
                }
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// Creates all of these as dry runs, each allowed or refused with these words.
#[track_caller]
fn judge(cluster: &Cluster, namespace: &str, cases: &[(&str, Value, Option<&str>)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(what, object, words)| {
            let (result, _) = create(cluster, namespace, object, true);
            let is_right = match (&result, words) {
                (Ok(_), None) => true,
                (Err(said), Some(words)) => said.contains(words),
                (Ok(_), Some(_)) | (Err(_), None) => false,
            };
            (!is_right).then(|| format!("{what}: {result:?}, not {words:?}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    println!("{} cases in {namespace}", cases.len());
}
