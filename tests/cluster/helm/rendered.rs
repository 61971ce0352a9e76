//! What the chart renders.

use serde_json::json;

use super::*;

/// Each file of deploy/ that is rendered from the chart: its template, and the values besides those of its folder.
const RENDERED: [(&str, &str, &str); 11] = [
    (
        "base/accounts.yaml",
        "templates/namespace.yaml,templates/accounts.yaml",
        "createNamespace=true",
    ),
    (
        "kubernetes/agent.yaml",
        "templates/agent.yaml",
        "platform=kubernetes",
    ),
    (
        "kubernetes/rbac.yaml",
        "templates/rbac.yaml",
        "platform=kubernetes",
    ),
    (
        "kubernetes/flow-control.yaml",
        "templates/flow-control.yaml",
        "platform=kubernetes",
    ),
    (
        "openshift/accounts.yaml",
        "templates/namespace.yaml,templates/accounts.yaml",
        "platform=openshift,createNamespace=true",
    ),
    (
        "openshift/agent.yaml",
        "templates/agent.yaml",
        "platform=openshift",
    ),
    (
        "openshift/rbac.yaml",
        "templates/rbac.yaml",
        "platform=openshift",
    ),
    (
        "openshift/flow-control.yaml",
        "templates/flow-control.yaml",
        "platform=openshift",
    ),
    (
        "openshift/scc.yaml",
        "templates/openshift.yaml",
        "platform=openshift,iptables=true",
    ),
    (
        "host-credential/rbac.yaml",
        "templates/host-credential.yaml",
        "hostCredential=true",
    ),
    (
        "uninstall/uninstall.yaml",
        "templates/uninstall.yaml",
        "uninstall=true",
    ),
];

/// A folder of deploy/ by kustomize, with components, as the objects that the API server gets.
fn kustomized(folder: &str, components: &[&str]) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    run("cp", &["-r", deploy, &path("deploy")], "");
    std::fs::create_dir(path("overlay")).unwrap();
    let components: Vec<_> = components
        .iter()
        .map(|name| format!("../deploy/{name}"))
        .collect();
    let resources = [folder, "admission/bindings"].map(|name| format!("../deploy/{name}"));
    let overlay = json!({"resources": resources, "components": components});
    std::fs::write(path("overlay/kustomization.yaml"), overlay.to_string()).unwrap();
    objects(&run(
        &program("kubectl"),
        &["kustomize", &path("overlay")],
        "",
    ))
}

/// Lines of folded texts, which the two fold in different ways, are one.
fn fold(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Array(items) => items.iter_mut().for_each(fold),
        Value::Object(map) => map.values_mut().for_each(fold),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Labels that every object of the chart has.
const OURS: [&str; 2] = ["app.kubernetes.io/part-of", "app.kubernetes.io/version"];

#[test]
fn folders_and_components_of_deploy_install_what_the_chart_does() {
    let fixed = "createNamespace=true,defaultProfile=BuiltIn,attachment.create=false,meshProfile.create=false,crds.install=false";
    for (folder, components, values) in [
        ("kubernetes", &[][..], "platform=kubernetes"),
        (
            "kubernetes",
            &["host-credential", "iptables"],
            "hostCredential=true,iptables=true",
        ),
        // its SCC has what the component would need
        (
            "openshift",
            &["iptables"],
            "platform=openshift,iptables=true",
        ),
    ] {
        let order = |objects: Vec<Value>| {
            let key = |o: &Value| format!("{} {}", o["kind"], o["metadata"]["name"]);
            let mut objects: Vec<_> = objects
                .into_iter()
                .filter(|o| o["metadata"]["annotations"]["helm.sh/hook"] != "pre-delete")
                .map(|mut o| {
                    // kustomize takes deploy/admission as it is, without our labels
                    let metadata = o["metadata"].as_object_mut().unwrap();
                    if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
                        labels.retain(|name, _| !OURS.contains(&name.as_str()));
                        if labels.is_empty() {
                            metadata.remove("labels");
                        }
                    }
                    if o["kind"].as_str().unwrap().ends_with("PolicyBinding") {
                        o["metadata"] = json!({"name": o["metadata"]["name"]}); // hooks
                    }
                    fold(&mut o);
                    (key(&o), o)
                })
                .collect();
            objects.sort_by(|a, b| a.0.cmp(&b.0));
            objects
        };
        let (by_kustomize, by_chart) = (
            order(kustomized(folder, components)),
            order(template(&format!("{fixed},{values}"))),
        );
        assert_eq!(
            by_kustomize.len(),
            by_chart.len(),
            "{folder} {components:?}"
        );
        for (kustomize, chart) in by_kustomize.iter().zip(&by_chart) {
            assert_eq!(kustomize, chart, "{folder} {components:?}");
        }
    }
}

#[test]
fn the_chart_installs_the_controller_of_its_folder_and_keeps_owning_the_attachment() {
    let all = "--set=platform=openshift,controller.enabled=true,controller.replicas=3,image.pullSecrets={mine},networkPolicy.enabled=true,podDisruptionBudget.enabled=true";
    let objects = objects(&try_template(&["--namespace=elsewhere", all]).unwrap());
    let find = |kind: &str, name: &str| {
        let is_it = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == name;
        objects.iter().find(is_it).cloned().unwrap_or(Value::Null)
    };
    let deployment = find("Deployment", "mesh-optin-controller");
    assert_eq!(
        (
            &deployment["metadata"]["namespace"],
            &deployment["spec"]["replicas"]
        ),
        (&json!("elsewhere"), &json!(3))
    );
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["image"],
        format!(
            "registry.example.com/mesh-optin:{}",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(container["securityContext"]["runAsNonRoot"], true);
    assert!(
        container["securityContext"]["runAsUser"].is_null(),
        "OpenShift gives the uid"
    );
    assert_eq!(
        find("ServiceAccount", "controller")["imagePullSecrets"],
        json!([{"name": "mine"}])
    );
    assert_eq!(
        find("ClusterRoleBinding", "mesh-optin-controller")["subjects"][0]["namespace"],
        "elsewhere"
    );
    for (kind, name) in [
        ("NetworkPolicy", "mesh-optin-controller"),
        ("PodDisruptionBudget", "mesh-optin-controller"),
    ] {
        assert!(!find(kind, name).is_null(), "{kind}");
    }
    // pods name it while the first controller starts
    assert!(!find("NetworkAttachmentDefinition", "istio-cni").is_null());
    assert_eq!(
        find("PodDisruptionBudget", "mesh-optin-controller")["spec"]["maxUnavailable"],
        1
    );
}

#[test]
fn in_another_namespace_nothing_references_the_default_one() {
    let args = [
        "--namespace=elsewhere",
        "--set=hostCredential=true,platform=openshift,createNamespace=true,admission.networks=true",
    ];
    let category = "categories:\n    - mesh-optin\n";
    let text = try_template(&args).unwrap().replace(category, "");
    for part in [
        "namespace: mesh-optin\n",
        "namespace: mesh-optin}",
        "serviceaccount:mesh-optin:",
        "=mesh-optin/",
        "- mesh-optin\n",
    ] {
        assert!(!text.contains(part), "{part}");
    }
    assert!(
        text.contains("system:serviceaccount:elsewhere:agent")
            && text.contains("--host-account=elsewhere/node")
    );
}

#[test]
fn each_alert_fires_exactly_when_it_should() {
    let alerts = format!("{CHART}/alerts.yaml");
    let promtool = program("promtool");
    run(
        &promtool,
        &["check", "rules", "--lint=all", "--lint-fatal", &alerts],
        "",
    );
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/alerts.yaml");
    run(&promtool, &["test", "rules", tests], "");
    // each is among the tests, and asks for metrics that there are
    let tests = std::fs::read_to_string(tests).unwrap();
    let rules: Value = serde_yaml::from_str(&std::fs::read_to_string(&alerts).unwrap()).unwrap();
    let metrics = concat!(env!("CARGO_MANIFEST_DIR"), "/src/agent/metrics/families.rs");
    let metrics = std::fs::read_to_string(metrics).unwrap();
    let metrics: String = metrics.split_whitespace().collect();
    for group in rules["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let (name, expression) = (
                rule["alert"].as_str().unwrap(),
                rule["expr"].as_str().unwrap(),
            );
            assert!(
                tests.contains(&format!("alertname=\"{name}\"")),
                "{name} is not tested"
            );
            if group["name"] == "mesh-optin" {
                for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                    let Some(metric) = word.strip_prefix("mesh_optin_") else {
                        continue;
                    };
                    let registered = format!("register!({},", metric.trim_end_matches("_total"));
                    assert!(metrics.contains(&registered), "{name}: there is no {word}");
                }
            }
        }
    }
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let said = run(&program("helm"), &["lint", "--strict", CHART], "");
    assert!(
        said.contains("1 chart(s) linted, 0 chart(s) failed"),
        "{said}"
    );
}

#[test]
fn the_manifests_of_deploy_are_what_the_chart_renders() {
    for (file, templates, values) in RENDERED {
        let shown = templates
            .split(',')
            .map(|template| format!("--show-only={template}"));
        // kustomize sets the image; without a hook that makes a profile, BuiltIn is what works at once
        let values = format!("{values},image.repository=mesh-optin,defaultProfile=BuiltIn");
        let mut args = vec!["--set".to_owned(), values];
        args.extend(shown);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let text = try_template(&args).unwrap_or_else(|e| panic!("{file}: {e}"));
        let text = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with("# Source: "));
        let text: String = text.map(|line| format!("{}\n", line.trim_end())).collect();
        let text = text.trim_start_matches("---\n").replace(
            concat!("image: mesh-optin:", env!("CARGO_PKG_VERSION")),
            "image: mesh-optin",
        );
        let text = format!(
            "# Rendered from deploy/helm by UPDATE=1 tests/run cluster\n{}\n",
            text.trim_end()
        );
        let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        if is_update() {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "{path} is not what the chart renders: write it with UPDATE=1 tests/run cluster"
        );
    }
}
