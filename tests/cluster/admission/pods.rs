//! Pods with a sidecar name the attachment; no pod has it as its default network.

use serde_json::{Value, json};

use super::{NETWORKS, annotated, attached, guarded, injected, judge, patch, plain, proxy};
use crate::support::cluster::Cluster;

const ASKED: Option<&str> = Some("add default/istio-cni to it");

fn named(networks: &str) -> Value {
    injected(&annotated(NETWORKS, networks))
}

#[test]
fn a_pod_with_a_sidecar_names_the_attachment() {
    let pad = |n: usize, last: &str| {
        let mut all: Vec<_> = (0..n)
            .map(|i| {
                format!(
                    r#"{{"name":"n{i}","ips":["10.0.{}.{}/24"]}}"#,
                    i / 250,
                    i % 250
                )
            })
            .collect();
        all.push(last.to_owned());
        format!("[{}]", all.join(","))
    };
    let ours = r#"{"name":"istio-cni","namespace":"default"}"#;
    let mut gateway = injected(&json!({}));
    gateway["spec"]["initContainers"][0]["args"] = json!(["proxy", "router"]);
    let mut flag = injected(&json!({}));
    flag["spec"]["initContainers"][0]["args"] = json!(["sidecar", "router"]);
    let mut classic = injected(&json!({}));
    classic["spec"]["initContainers"] = Value::Null;
    let mut sidecar = proxy();
    sidecar["restartPolicy"] = Value::Null;
    classic["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(sidecar);
    let cases = [
        ("text", named("istio-cni"), None),
        ("text with default", named("default/istio-cni"), None),
        ("text of several", named("br-net, default/istio-cni"), None),
        ("text with its own namespace", named("team-a/istio-cni"), None),
        ("text with an interface", named("istio-cni@mesh0"), None),
        ("text with spaces and a comma", named("  default/istio-cni , x/y@eth5"), None),
        ("json", named(&format!("[{ours}]")), None),
        ("json as Istio appends it", named(r#"[{"name":"br-net","ips":["10.0.0.5/24"]}, {"name": "istio-cni", "namespace": "default"}]"#), None),
        ("json without namespace", named(r#"[{"name":"istio-cni"}]"#), None),
        ("json with its own namespace", named(r#"[{"namespace":"team-a","name":"istio-cni"}]"#), None),
        ("json with an interface", named(r#"[{"name":"istio-cni","namespace":"default","interface":"mesh0"}]"#), None),
        ("json with more keys around the name", named(r#"[{"mac":"02:00:00:00:00:01","name":"istio-cni","ips":["10.0.0.1/24"],"interface":"mesh0"}]"#), None),
        ("json with tabs and newlines", named("\n[\t{\r\n\"name\"\t:\n\"istio-cni\"\n,\"namespace\" :\t\"default\"\n}\n]\n"), None),
        ("json first of several", named(&format!(r#"[{ours},{{"name":"br"}}]"#)), None),
        ("json after nested ones", named(r#"[{"name":"x","cni-args":{"y":{"name":"istio-cni"}}},{"name":"istio-cni","namespace":"default"}]"#), None),
        ("json after all that Multus knows", named(&serde_json::to_string_pretty(&json!([
            {"name": "br", "portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}], "bandwidth": {"ingressRate": 1}, "cni-args": {"a": {"b": ["c"]}}},
            {"name": "istio-cni", "namespace": "default"}])).unwrap()), None),
        ("json after 45 others", named(&pad(45, ours)), None),
        ("json after 150 others", named(&pad(150, ours)), None),
        ("no sidecar", plain(&json!({})), None),
        ("nothing", injected(&json!({})), ASKED),
        ("nothing, sidecar among the containers", classic, ASKED),
        ("nothing, router as an argument of no proxy", flag, ASKED),
        ("an empty text", named(""), ASKED),
        ("an empty list", named("[]"), ASKED),
        ("another", named("br-net"), ASKED),
        ("of another namespace", named("team-b/istio-cni"), ASKED),
        ("a name that ends so", named("my-istio-cni"), ASKED),
        ("a name that begins so", named("istio-cni-2"), ASKED),
        ("two slashes", named("default/istio-cni/x"), ASKED),
        ("a newline for a comma", named("x\nistio-cni"), ASKED),
        ("an interface for a name", named("x@istio-cni"), ASKED),
        ("json of another namespace", named(r#"[{"name":"istio-cni","namespace":"team-b"}]"#), ASKED),
        ("json, namespace twice", named(r#"[{"name":"istio-cni","namespace":"default","namespace":"team-b"}]"#), ASKED),
        ("json, name twice", named(r#"[{"name":"istio-cni","name":"x"}]"#), ASKED),
        ("json, name twice in capitals", named(r#"[{"name":"istio-cni","Name":"x"}]"#), ASKED),
        ("json, namespace in capitals", named(r#"[{"name":"istio-cni","NAMESPACE":"team-b"}]"#), ASKED),
        ("json with an unknown key", named(r#"[{"name":"istio-cni","x":"y"}]"#), ASKED),
        ("json nested", named(r#"[{"name":"x","cni-args":{"y":{"name":"istio-cni","namespace":"default"}}}]"#), ASKED),
        ("json nested deeper", named(r#"[{"name":"x","cni-args":{"y":{"z":[{"name":"istio-cni"}]}}}]"#), ASKED),
        ("json in a text", named(r#"[{"name":"x","mac":"{\"name\":\"istio-cni\"}"}]"#), ASKED),
        ("json in a text without escapes", named(r#"[{"name":"x","mac":"},{"name":"istio-cni"}]"#), ASKED),
        ("json, a brace in a text", named(r#"[{"name":"x","mac":"}","cni-args":{"name":"istio-cni"}}]"#), ASKED),
        ("json, braces in two texts", named(r#"[{"name":"x","cni-args":{"b":"}","c":{"name":"istio-cni"}}}]"#), ASKED),
        ("json in a nested list", named(r#"[{"name":"x","ips":[{"name":"istio-cni"}]}]"#), ASKED),
        ("json in a list of lists", named(r#"[[{"name":"istio-cni"}]]"#), ASKED),
        ("json escaped", named(r#"[{"name":"istio\u002dcni"}]"#), ASKED),
        ("json that is not a list", named(r#"{"name":"istio-cni"}"#), ASKED),
        ("json that is cut off", named(r#"[{"name":"istio-cni"}"#), ASKED),
        ("json and then text", named(r#"[{"name":"x"}],istio-cni"#), ASKED),
        ("text that looks like json", named(r#"istio-cni,"x"#), ASKED),
        ("more than 8192 characters", named(&pad(200, &format!("{ours}{}", " ".repeat(8192)))), Some("has more than 8192 characters")),
    ];
    judge(guarded(), "team-a", &cases);
    let elsewhere = [("not governed", injected(&json!({})), None)];
    judge(guarded(), "team-b", &elsewhere);
    judge(guarded(), "mesh-optin", &elsewhere);
    judge(
        guarded(),
        "plain",
        &[
            ("a gateway", gateway, None),
            (
                "governed, not enrolled",
                injected(&json!({})),
                Some("MeshProfile strict, which governs namespace plain, asks"),
            ),
        ],
    );
}

/// A pod that stays, as admin.
fn living(cluster: &Cluster, namespace: &str, name: &str, changes: &Value) -> String {
    let mut pod = attached(changes);
    pod["metadata"]["name"] = json!(name);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    cluster.create(&path, &pod);
    format!("{path}/{name}")
}

#[test]
fn an_existing_pod_is_judged_only_when_its_networks_change() {
    let cluster = guarded();
    let path = living(cluster, "plain", "living", &json!({}));
    let networks = |value: Value| json!({"metadata": {"annotations": {NETWORKS: value}}});
    for removed in [json!(null), json!("br-net")] {
        let refused = patch(cluster, &path, &networks(removed)).0.unwrap_err();
        assert!(refused.contains("asks a pod with a sidecar"), "{refused}");
    }
    for kept in [
        networks(json!("x,default/istio-cni")),
        json!({"metadata": {"labels": {"a": "b"}}}),
    ] {
        let (result, _) = patch(cluster, &path, &kept);
        assert!(result.is_ok(), "{result:?}");
    }
    // one that never named it can be labeled, and given a finalizer, by anybody
    let path = living(cluster, "plain", "older", &networks(json!(null)));
    let (result, _) = patch(cluster, &path, &json!({"metadata": {"labels": {"a": "b"}}}));
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn no_pod_has_an_attachment_of_ours_as_its_default_network() {
    const REFUSED: Option<&str> =
        Some("name the attachment in k8s.v1.cni.cncf.io/networks instead");
    let network = |text: &str| plain(&annotated("v1.multus-cni.io/default-network", text));
    let cases = [
        ("another", network("default/ovn"), None),
        (
            "one whose name begins so",
            network("default/istio-cni-bridge"),
            None,
        ),
        (
            "json of another",
            network(r#"[{"name":"ovn","namespace":"default"}]"#),
            None,
        ),
        ("ours", network("istio-cni"), REFUSED),
        ("ours of default", network("default/istio-cni"), REFUSED),
        (
            "ours with an interface",
            network("default/istio-cni@eth0"),
            REFUSED,
        ),
        ("of the program's name", network("mesh-optin"), REFUSED),
        ("among others", network("x, istio-cni"), REFUSED),
        ("json", network(r#"[{"name":"istio-cni"}]"#), REFUSED),
        (
            "json escaped",
            network(r#"[{"name":"istio\u002dcni"}]"#),
            REFUSED,
        ),
        (
            "json with spaces",
            network("[{ \"name\" :\n\"istio-cni\" }]"),
            REFUSED,
        ),
        (
            "more than can be looked at",
            network(&"x".repeat(8193)),
            REFUSED,
        ),
    ];
    for namespace in ["plain", "team-b"] {
        judge(guarded(), namespace, &cases);
    }
    let path = living(guarded(), "team-b", "late", &json!({}));
    let change = annotated("v1.multus-cni.io/default-network", "default/istio-cni");
    let refused = patch(guarded(), &path, &change).0.unwrap_err();
    assert!(refused.contains(REFUSED.unwrap()), "{refused}");
}
