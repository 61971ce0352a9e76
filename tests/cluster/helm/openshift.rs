//! OpenShift's manifests: a real API server takes them by the CRD that OpenShift has, and the SecurityContextConstraints allow what our pods
//! ask for, and no more. OpenShift's own admission is not here: what it compares is compared by [`forbidden`].

use serde_json::{Value, json};

use super::{
    installing::{apply_kind, cluster_with_multus, get},
    *,
};

const SCC: &str = "/apis/security.openshift.io/v1/securitycontextconstraints/mesh-optin-agent";

fn cluster_of_openshift() -> Cluster {
    let cluster = cluster_with_multus();
    let kind = std::fs::read_to_string(program("openshift-scc.yaml")).unwrap();
    apply_kind(&cluster, &kind);
    cluster
}

/// Applies manifests by the API server's strictest reading; the error is what it said.
fn apply_strictly(cluster: &Cluster, manifests: &str) -> Result<String, String> {
    std::fs::write(cluster.directory.join("openshift.yaml"), manifests).unwrap();
    let apply = [
        "kubectl",
        "apply",
        "--server-side",
        "--validate=strict",
        "-f",
        "/mnt/openshift.yaml",
    ];
    cluster.try_enter(&apply)
}

/// What the chart renders for OpenShift, with further values.
fn rendered(values: &str) -> String {
    // what hooks make is made while Helm installs
    let values =
        format!("--set=platform=openshift,createNamespace=true,meshProfile.create=false{values}");
    try_template(&["--no-hooks", &values]).unwrap()
}

#[test]
fn an_api_server_with_openshifts_kinds_takes_its_manifests_strictly_and_keeps_every_field() {
    let cluster = cluster_of_openshift();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/openshift");
    let of_the_folder = run(&program("kubectl"), &["kustomize", folder], "");
    for manifests in [
        rendered(""),
        rendered(",iptables=true,hostCredential=true,controller.enabled=true"),
        rendered(",uninstall=true"),
        of_the_folder,
    ] {
        apply_strictly(&cluster, &manifests).unwrap();
        let written = of_kind(&manifests, "SecurityContextConstraints").remove(0);
        let kept = get(&cluster, SCC).unwrap();
        for (field, value) in written.as_object().unwrap() {
            if field != "metadata" {
                assert_eq!(&kept[field], value, "{field}");
            }
        }
        let unknown = manifests.replace("allowHostPID: false", "allowHostPid: false");
        let refused = apply_strictly(&cluster, &unknown).unwrap_err();
        assert!(refused.contains("allowHostPid"), "{refused}");
    }
}

#[test]
fn the_scc_allows_what_the_pods_of_openshift_ask_for_and_nothing_else() {
    let cluster = cluster_of_openshift();
    for values in ["", ",iptables=true"] {
        let agent = rendered(values);
        let uninstall = rendered(&format!("{values},uninstall=true"));
        apply_strictly(&cluster, &agent).unwrap();
        let scc = get(&cluster, SCC).unwrap();
        let pods: Vec<_> = [agent, uninstall]
            .iter()
            .flat_map(|manifests| of_kind(manifests, "DaemonSet"))
            .map(|daemonset| admitted(&cluster, &daemonset))
            .collect();
        assert_eq!(pods.len(), 2);
        for pod in &pods {
            assert_eq!(forbidden(&scc, pod), Vec::<String>::new(), "{values}");
            let asked = &pod["metadata"]["annotations"]["openshift.io/required-scc"];
            assert_eq!(asked, &scc["metadata"]["name"]);
        }
        // each of its permissions is one that a pod would be refused without
        for (without, scc) in weaker(&scc) {
            assert!(
                pods.iter().any(|pod| !forbidden(&scc, pod).is_empty()),
                "{values}: no pod needs {without}"
            );
        }
        // and what none of them asks for is not there
        for (field, value) in [
            ("allowHostIPC", json!(false)),
            ("allowHostPID", json!(false)),
            ("allowHostPorts", json!(false)),
            ("allowPrivilegedContainer", json!(false)),
            ("defaultAddCapabilities", json!([])),
            ("requiredDropCapabilities", json!(["ALL"])),
            ("groups", json!([])),
            ("users", json!(["system:serviceaccount:mesh-optin:agent"])),
        ] {
            assert_eq!(scc[field], value, "{field}");
        }
    }
}

fn of_kind(manifests: &str, kind: &str) -> Vec<Value> {
    let objects = objects(manifests).into_iter();
    objects.filter(|object| object["kind"] == kind).collect()
}

/// A DaemonSet's pod as the API server completes it, with the volume of its account.
fn admitted(cluster: &Cluster, daemonset: &Value) -> Value {
    let mut pod = daemonset["spec"]["template"].clone();
    pod["metadata"]["name"] = json!("one");
    cluster
        .request(
            "POST",
            "/api/v1/namespaces/mesh-optin/pods?dryRun=All&fieldValidation=Strict",
            &pod,
        )
        .unwrap()
}

/// What of a pod's fields OpenShift would not admit with these constraints alone.
fn forbidden(scc: &Value, pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |allowed: bool, what: &str, of: &Value| {
        if !allowed {
            found.push(format!("{what} {of}"));
        }
    };
    let has = |field: &str, value: &str| {
        let mut list = scc[field].as_array().into_iter().flatten();
        list.any(|v| v == value)
    };
    let spec = &pod["spec"];
    let account = format!(
        "system:serviceaccount:mesh-optin:{}",
        spec["serviceAccountName"].as_str().unwrap()
    );
    check(has("users", &account), "the account", &json!(account));
    for (field, allowed) in [
        ("hostNetwork", "allowHostNetwork"),
        ("hostPID", "allowHostPID"),
        ("hostIPC", "allowHostIPC"),
    ] {
        check(
            spec[field] != true || scc[allowed] == true,
            field,
            &spec[field],
        );
    }
    for volume in spec["volumes"].as_array().unwrap() {
        let mut kinds = volume.as_object().unwrap().keys();
        let kind = kinds.find(|key| *key != "name").unwrap();
        let is_allowed =
            has("volumes", kind) && (kind != "hostPath" || scc["allowHostDirVolumePlugin"] == true);
        check(is_allowed, "the volume", volume);
    }
    let containers = ["initContainers", "containers"].map(|list| spec[list].as_array());
    for container in containers.into_iter().flatten().flatten() {
        let context = &container["securityContext"];
        let list = |field: &str| {
            let capabilities = context["capabilities"][field].as_array();
            capabilities.cloned().unwrap_or_default()
        };
        for capability in list("add") {
            let is_allowed = has("allowedCapabilities", capability.as_str().unwrap());
            check(is_allowed, "the capability", &capability);
        }
        for dropped in scc["requiredDropCapabilities"].as_array().unwrap() {
            check(list("drop").contains(dropped), "not dropped:", dropped);
        }
        let is_allowed = context["privileged"] != true || scc["allowPrivilegedContainer"] == true;
        check(is_allowed, "privileged", context);
        // where a container does not say, it may
        let is_allowed =
            context["allowPrivilegeEscalation"] == false || scc["allowPrivilegeEscalation"] == true;
        check(is_allowed, "escalation", context);
        let is_allowed =
            context["readOnlyRootFilesystem"] == true || scc["readOnlyRootFilesystem"] == false;
        check(is_allowed, "a root that is written", context);
        let profile = match context["seccompProfile"]["type"].as_str() {
            Some("RuntimeDefault") => "runtime/default",
            Some(_) => "*",
            None => "none",
        };
        check(has("seccompProfiles", profile), "seccomp", context);
        let is_allowed = context["runAsUser"] != 0 || scc["runAsUser"]["type"] == "RunAsAny";
        check(is_allowed, "root", context);
        let is_allowed =
            context["seLinuxOptions"].is_null() || scc["seLinuxContext"]["type"] == "RunAsAny";
        check(is_allowed, "SELinux", context);
        let ports = container["ports"].as_array().into_iter().flatten();
        for port in ports {
            let is_allowed = port["hostPort"].is_null() || scc["allowHostPorts"] == true;
            check(is_allowed, "the port", port);
        }
    }
    found
}

/// The constraints without one of their permissions, for each.
fn weaker(scc: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (field, value) in scc.as_object().unwrap() {
        if value == true && field.starts_with("allow") {
            let mut less = scc.clone();
            less[field] = json!(false);
            all.push((field.clone(), less));
        }
    }
    for field in ["allowedCapabilities", "volumes", "seccompProfiles", "users"] {
        for at in 0..scc[field].as_array().unwrap().len() {
            let mut less = scc.clone();
            let one = less[field].as_array_mut().unwrap().remove(at);
            all.push((format!("{field} {one}"), less));
        }
    }
    for (field, strategy) in [
        ("runAsUser", "MustRunAsNonRoot"),
        ("seLinuxContext", "MustRunAs"),
    ] {
        let mut less = scc.clone();
        less[field] = json!({"type": strategy});
        all.push((field.into(), less));
    }
    all
}
