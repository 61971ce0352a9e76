//! Pods to put on a node.

use serde_json::{Value, json};

use super::{data::data, lab::Node};

/// Puts a pod of tests/data/pods on the node; its CNI_ARGS.
pub fn given(node: &Node, name: &str) -> String {
    given_with(node, name, &[], &[])
}

/// The same with other annotations and proxy variables.
pub fn given_with(
    node: &Node,
    name: &str,
    annotations: &[(&str, &str)],
    env: &[(&str, &str)],
) -> String {
    let (mut pod, namespace) = data(name);
    for (key, value) in annotations {
        pod["metadata"]["annotations"][*key] = json!(value);
    }
    let proxy = pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|c| c["name"] == "istio-proxy");
    if let Some(proxy) = proxy {
        let variables = env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}));
        proxy["env"].as_array_mut().unwrap().extend(variables);
    }
    let args = cni_args(&pod);
    node.manifests(&[pod, namespace]);
    args
}

/// CNI_ARGS as a runtime sends them for a pod.
pub fn cni_args(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID={}",
        text("namespace"),
        text("name"),
        text("uid")
    )
}
