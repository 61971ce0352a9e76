//! What an ADD refuses, and how it says so.

use mesh_optin::reason::Reason;
use serde_json::json;

use crate::support::{
    data::data,
    lab::{CONFIG, PodNet, V4, on_node},
    pods::{cni_args, given},
};

#[test]
fn anything_but_a_pod_namespace_is_refused_before_anything_is_written() {
    on_node(|node| {
        let args = given(node, "defaults");
        node.write("run/file", "");
        for (netns, reason) in [
            ("/proc/self/ns/net", "HostNetns"),
            ("/proc/self/ns/mnt", "NetnsInvalid"),
            ("/run/file", "NetnsInvalid"),
            ("/run/gone", "NetnsInvalid"),
            ("/run", "NetnsInvalid"),
        ] {
            let (message, code) = node.call("ADD", netns, &args, CONFIG).error();
            assert!(
                message.starts_with(reason) && code == 8,
                "{netns}: {message}"
            );
        }
        assert!(!node.path("run/mesh-optin").exists());
    });
}

#[test]
fn eth0_must_be_there_and_have_an_address() {
    on_node(|node| {
        let args = given(node, "defaults");
        node.new_netns("empty");
        let (message, _) = node.call("ADD", "/run/netns/empty", &args, CONFIG).error();
        assert!(
            message.starts_with("NoPrimaryInterface: there is no interface eth0 yet"),
            "{message}"
        );
        let lab = node.pod("bare", PodNet::default());
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("NoPrimaryInterface: eth0 has no global address"),
            "{message}"
        );
    });
}

#[test]
fn each_refusal_begins_with_its_reason_and_says_what_to_do() {
    on_node(|node| {
        let (mut pod, namespace) = data("defaults");
        let args = cni_args(&pod);
        let lab = node.pod("a", V4);
        let before = lab.state();
        let config = |mesh_optin: &str| {
            format!(r#"{{"cniVersion":"1.1.0","name":"m","meshOptin":{mesh_optin}}}"#)
        };
        let refused = |reason: &str, code: u64, args: &str, config: &str| {
            let (message, found) = node.call("ADD", &lab.netns, args, config).error();
            // of a pod that is gone nothing remains to be done
            let has_remedy = reason.parse::<Reason>().unwrap().remedy().is_some();
            assert!(
                message.starts_with(&format!("{reason}: "))
                    && (message.contains("; ") || !has_remedy),
                "{reason}: {message}"
            );
            assert_eq!(found, code, "{message}");
            assert_eq!(lab.state(), before, "{reason}");
        };
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("InvalidRequest", 6, &args, "not json");
        refused("InvalidRequest", 4, "K8S_POD_NAME=a;K8S_POD_NAME=b", CONFIG);
        refused(
            "InvalidAttachment",
            7,
            &args,
            &config(r#"{"kubeconfig":"/x"}"#),
        );
        refused(
            "InvalidAttachment",
            7,
            &args,
            &config(r#"{"traffic":{"excludeOutboundPorts":"0x50"}}"#),
        );
        refused(
            "UnknownProfile",
            104,
            &args,
            &config(r#"{"profile":"gold"}"#),
        );
        refused(
            "PodNotFound",
            11,
            &args.replace("=defaults", "=other"),
            CONFIG,
        );
        refused(
            "PodUidMismatch",
            11,
            &args.replace("K8S_POD_UID=", "K8S_POD_UID=0"),
            CONFIG,
        );
        pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"] =
            json!("http");
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("InvalidAnnotation", 121, &args, CONFIG);
        node.manifests(&[
            pod.clone(),
            json!({"kind": "Namespace", "metadata": {"name": "team-a"}}),
        ]);
        refused("UnenrolledSidecar", 117, &args, CONFIG);
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .retain(|c| c["name"] != "istio-proxy");
        pod["metadata"]["annotations"] = json!({});
        pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("true");
        node.manifests(&[pod.clone(), namespace.clone()]);
        refused("SidecarMissing", 114, &args, CONFIG);
        for (file, yaml) in [
            ("node.yaml", "sources: [api]\nmanifest: x"),
            ("profiles/p.yaml", "kind: Pod"),
            (
                "profiles/p.yaml",
                "{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {name: q}}",
            ),
        ] {
            let path = format!("etc/mesh-optin/{file}");
            let old = std::fs::read_to_string(node.path(&path)).ok();
            node.write(&path, yaml);
            refused("NodeConfigInvalid", 101, &args, CONFIG);
            old.map_or_else(
                || std::fs::remove_file(node.path(&path)).unwrap(),
                |text| node.write(&path, &text),
            );
        }
        node.write(
            "etc/mesh-optin/node.yaml",
            "nodeName: n2\nsources: [manifests]\nmanifests: /manifests",
        );
        refused("WrongNode", 103, &args, CONFIG);
        std::fs::remove_file(node.path("etc/mesh-optin/node.yaml")).unwrap();
        refused("NoSource", 102, &args, CONFIG);
    });
}
