//! Values: which there are, what each does, and what is said of wrong ones.

use std::collections::BTreeMap;

use super::*;

/// Values whose manifests are looked at and installed: each platform, and each option in one of them.
pub(super) const MATRIX: [&str; 15] = [
    "platform=kubernetes",
    "platform=openshift,podMonitor.enabled=true,podMonitor.labels.a=b,prometheusRule.enabled=true",
    "platform=k3s,hostCredential=true,takeOver={istio-cni},extraAttachments={v2-6-istio-cni}",
    "platform=rke2,paths.cniBin=/var/cni/bin,paths.multusConf=/etc/multus,paths.multusCache=/var/cache/multus,paths.runtimeConf=/etc/cni",
    "platform=k0s,iptables=true,deadline=20s,events=none,extraArgs={--audit-period=30}",
    "platform=microk8s,admission.enabled=false,flowControl.enabled=false",
    "platform=gke,resourceQuota.pods=20,image.pullPolicy=Always,image.pullSecrets={mine}",
    "platform=eks,updateStrategy.type=OnDelete,updateStrategy.rollingUpdate=null,nodeSelector.mesh=yes,podAnnotations.a=b",
    "platform=aks,image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef,attachment.create=false,meshProfile.create=false",
    "platform=talos,meshProfile.spec.drift=Repair,meshProfile.name=mesh,attachment.name=mesh",
    "platform=openshift,iptables=true,uninstall=true",
    "platform=kubernetes,controller.enabled=true,controller.replicas=3,podMonitor.enabled=true,prometheusRule.enabled=true,networkPolicy.enabled=true,podDisruptionBudget.enabled=true",
    "platform=kubernetes,resourceScope=namespace,logLevel=debug",
    "platform=kubernetes,resourceScope=cluster,defaultProfile=Required,resources.requests.cpu=1m",
    NETWORKS,
];
/// The row that an API server before Kubernetes 1.36 refuses.
pub(super) const NETWORKS: &str = "platform=kubernetes,admission.networks=true";

#[test]
fn a_wrong_value_is_refused_with_its_name_and_the_allowed_values() {
    for (values, said) in [
        (
            "platform=openshfit",
            "'/platform': value must be one of 'kubernetes', 'openshift', ",
        ),
        (
            "defaultProfil=Auto",
            "additional properties 'defaultProfil' not allowed",
        ),
        (
            "defaultProfile=None",
            "'/defaultProfile': value must be one of 'Auto', 'BuiltIn', 'Required'",
        ),
        (
            "hostCredential=yes",
            "'/hostCredential': got string, want boolean",
        ),
        (
            "resourceScope=none",
            "'/resourceScope': value must be one of 'all', 'cluster', 'namespace'",
        ),
        (
            "image.digest=sha256:1",
            "'/image/digest': 'sha256:1' does not match pattern",
        ),
        (
            "paths.cniBin=opt/cni/bin",
            "'/paths/cniBin': 'opt/cni/bin' does not match pattern",
        ),
        (
            "attachment.name=istio.cni",
            "'/attachment/name': 'istio.cni' does not match pattern",
        ),
        (
            "logLevel=trace",
            "'/logLevel': value must be one of 'error', 'warn', 'info', 'debug'",
        ),
        ("deadline=15", "'/deadline': got number, want string"),
        (
            "takeOver={Istio}",
            "'/takeOver/0': 'Istio' does not match pattern",
        ),
        (
            "updateStrategy.rollingUpdate.maxSurg=1",
            "additional properties 'maxSurg' not allowed",
        ),
        (
            "controller.replicas=0",
            "'/controller/replicas': minimum: got 0, want 1",
        ),
        (
            "podMonitor.labels.a=1",
            "'/podMonitor/labels/a': got number, want string",
        ),
    ] {
        let refused = try_template(&["--set", values]).expect_err(values);
        assert!(refused.contains(said), "{values}: {refused}");
    }
}

/// Each value of values.yaml by its path, with its default as JSON and the comment above it.
fn documented() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(format!("{CHART}/values.yaml")).unwrap();
    let defaults: Value = serde_yaml::from_str(&text).unwrap();
    let (mut found, mut parent, mut comment) = (BTreeMap::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(text) = line.trim_start().strip_prefix("# ") {
            text.clone_into(&mut comment);
            continue;
        }
        let Some((key, _)) = line
            .split_once(':')
            .filter(|_| !comment.is_empty() || line.ends_with(':'))
        else {
            continue;
        };
        let is_nested = key.starts_with(' ');
        if !is_nested {
            key.clone_into(&mut parent);
        }
        if comment.is_empty() {
            continue;
        }
        let path = if is_nested {
            format!("{parent}.{}", key.trim())
        } else {
            key.to_owned()
        };
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = defaults.pointer(&pointer).unwrap_or(&Value::Null);
        // what has values of its own is documented by them
        let default = if key == "paths" && !is_nested {
            String::new()
        } else {
            default.to_string()
        };
        found.insert(path, (default, std::mem::take(&mut comment)));
    }
    found
}

/// The paths of values, down to lists, empty maps, and maps that are a value as a whole.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    const WHOLE: [&str; 3] = ["updateStrategy", "resources", "controller.resources"];
    match value {
        Value::Object(fields) if !fields.is_empty() && !WHOLE.contains(&path) => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(value, &path, found);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            found.push(path.to_owned());
        }
    }
}

#[test]
fn every_value_is_documented_once_and_the_readme_has_it() {
    let documented = documented();
    let text = std::fs::read_to_string(format!("{CHART}/values.yaml")).unwrap();
    let mut all = vec![];
    leaves(&serde_yaml::from_str(&text).unwrap(), "", &mut all);
    for path in &all {
        assert!(
            documented.contains_key(path),
            "values.yaml says nothing of {path}"
        );
    }
    assert!(all.len() > 30, "{all:?}");
    let rows = documented
        .iter()
        .filter(|(_, (default, _))| !default.is_empty())
        .map(|(path, (default, comment))| {
            let default = default.trim_matches('"').replace('|', "\\|");
            let default = if default.is_empty() {
                String::new()
            } else {
                format!("`{default}`")
            };
            format!("| `{path}` | {default} | {comment} |\n")
        });
    let table = format!(
        "| value | default | what it is |\n|---|---|---|\n{}",
        rows.collect::<String>()
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- values -->\n", "<!-- end of values -->");
    let (before, rest) = readme.split_once(begin).expect("the table's beginning");
    let (inside, after) = rest.split_once(end).expect("the table's end");
    if is_update() {
        std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(inside, table, "write it with UPDATE=1 tests/run cluster");
    }
}

/// What of an object differs between platforms and options: its name, and for the agent all that the values reach.
fn what_matters(object: &Value) -> String {
    let name = format!(
        "{} {}",
        object["kind"].as_str().unwrap(),
        object["metadata"]["name"].as_str().unwrap()
    );
    let lines = match object["kind"].as_str().unwrap() {
        "DaemonSet" => {
            let pod = &object["spec"]["template"]["spec"];
            let container = pod["initContainers"]
                .get(0)
                .unwrap_or(&pod["containers"][0]);
            let mounts = container["volumeMounts"].as_array().unwrap().iter();
            let mounts = mounts.map(|mount| {
                let is_it = |volume: &&Value| volume["name"] == mount["name"];
                let volume = pod["volumes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(is_it)
                    .unwrap();
                let source = volume["hostPath"]["path"].as_str().unwrap_or("its own");
                let writable = if mount["readOnly"] == true {
                    "read-only"
                } else {
                    "writable"
                };
                format!(
                    "mount {} of {source}, {writable}",
                    mount["mountPath"].as_str().unwrap()
                )
            });
            let security = &container["securityContext"];
            [
                format!("update {}", object["spec"]["updateStrategy"]),
                format!(
                    "annotations {}",
                    object["spec"]["template"]["metadata"]["annotations"]
                ),
                format!(
                    "image {} {}",
                    container["image"], container["imagePullPolicy"]
                ),
                format!("args {}", container["args"]),
                format!("resources {}", container["resources"]),
                format!("nodes {} {}", pod["nodeSelector"], pod["tolerations"]),
                format!(
                    "capabilities {} escalation {}",
                    security["capabilities"]["add"], security["allowPrivilegeEscalation"]
                ),
            ]
            .into_iter()
            .chain(mounts)
            .collect()
        }
        "SecurityContextConstraints" => vec![format!(
            "capabilities {} escalation {} users {}",
            object["allowedCapabilities"], object["allowPrivilegeEscalation"], object["users"]
        )],
        "MeshProfile" | "NetworkAttachmentDefinition" | "ResourceQuota" | "PodMonitor" => {
            vec![object["spec"].to_string()]
        }
        "ServiceAccount" if !object["imagePullSecrets"].is_null() => {
            vec![object["imagePullSecrets"].to_string()]
        }
        _ => vec![],
    };
    let hook = &object["metadata"]["annotations"]["helm.sh/hook"];
    let hook = hook
        .as_str()
        .map_or(String::new(), |hook| format!(" ({hook})"));
    lines.iter().fold(format!("{name}{hook}\n"), |text, line| {
        text + "  " + line + "\n"
    })
}

#[test]
fn what_platforms_and_options_change() {
    let mut text = String::new();
    let usual: Vec<String> = template(MATRIX[0]).iter().map(what_matters).collect();
    for values in MATRIX {
        let here: Vec<String> = template(values).iter().map(what_matters).collect();
        text += &format!("== {values}\n");
        for object in &here {
            if values == MATRIX[0] || !usual.contains(object) {
                text += object;
            }
        }
        let first = |object: &String| object.lines().next().unwrap().to_owned();
        let names: Vec<String> = here.iter().map(first).collect();
        for name in usual.iter().map(first).filter(|name| !names.contains(name)) {
            text += &format!("not {name}\n");
        }
    }
    insta::assert_snapshot!(text);
}
