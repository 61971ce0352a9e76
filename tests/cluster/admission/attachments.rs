//! NADs of our types, and of our name.

use serde_json::{Value, json};

use super::{bind, eventually, guarded, judge, nad, nad_of, patch, request, start};

const SHAPE: &str = "may hold cniVersion (0.1.0 to 1.1.0), name, type and meshOptin";

fn with(traffic: &str) -> String {
    format!(r#"{{"type":"mesh-optin","meshOptin":{{"traffic":{{{traffic}}}}}}}"#)
}

#[test]
fn a_nad_of_ours_holds_what_the_plugin_reads_and_nothing_else() {
    let list = |entry: &str, n: usize| vec![entry; n].join(",");
    let ports = |n| with(&format!(r#""excludeOutboundPorts":"{}""#, list("1", n)));
    let long = format!(
        r#"{{"type":"mesh-optin","meshOptin":{{"profile":"{}"}}}}"#,
        "a".repeat(254)
    );
    let padded = |n: usize| format!(r#"{{"type":"mesh-optin"{}}}"#, " ".repeat(n));
    let cases: Vec<(&str, String, Option<&str>)> = vec![
        ("all that is known", "{\"cniVersion\": \"1.1.0\", \"name\": \"mesh\", \"type\": \"mesh-optin\",\n\t\"meshOptin\": {\"profile\": \"default\", \"traffic\": {\"excludeOutboundPorts\": \"5432\", \"excludeInterfaces\": \"net1\"}}}".into(), None),
        ("type alone", r#"{"type":"mesh-optin"}"#.into(), None),
        ("empty meshOptin", r#"{"type":"mesh-optin","meshOptin":{}}"#.into(), None),
        ("empty traffic", with(""), None),
        ("another type", r#"{"cniVersion":"0.3.1","type":"macvlan","master":"eth1","ipam":{"type":"host-local"}}"#.into(), None),
        ("another type whose name is ours", r#"{"type":"bridge","name":"istio-cni"}"#.into(), None),
        ("another type that only mentions ours", r#"{"type":"bridge","comment":"not mesh-optin"}"#.into(), None),
        ("another type with escapes as Go writes them", r#"{"type":"bridge","x":"a \u0026 b \u003c c"}"#.into(), None),
        ("256 ports", ports(256), None),
        ("all inbound ports", with(r#""includeInboundPorts":"*""#), None),
        ("all networks", with(r#""includeOutboundIPRanges":"*""#), None),
        ("networks of both families", with(r#""excludeOutboundIPRanges":"10.0.0.0/8,fd00::/8""#), None),
        ("no port", with(r#""excludeInboundPorts":"""#), None),
        ("spaces around ports", with(r#""excludeInboundPorts":" 80 , 443 ""#), None),
        ("prevResult", r#"{"type":"mesh-optin","prevResult":{}}"#.into(), Some(SHAPE)),
        ("runtimeConfig", r#"{"type":"mesh-optin","runtimeConfig":{"mac":"x"}}"#.into(), Some(SHAPE)),
        ("ipam", r#"{"type":"mesh-optin","ipam":{"type":"host-local"}}"#.into(), Some(SHAPE)),
        ("two types", r#"{"type":"mesh-optin","type":"bridge"}"#.into(), Some(SHAPE)),
        ("the type twice", r#"{"type":"mesh-optin","type":"mesh-optin"}"#.into(), Some("twice")),
        ("profile twice", r#"{"type":"mesh-optin","meshOptin":{"profile":"a","profile":"b"}}"#.into(), Some("twice")),
        ("meshOptin twice", r#"{"type":"mesh-optin","meshOptin":{},"meshOptin" :{}}"#.into(), Some("twice")),
        ("a setting twice", with(r#""excludeInboundPorts":"1","excludeInboundPorts":"2""#), Some("twice")),
        ("a setting under both its names", with(r#""kubevirtInterfaces":"a","rerouteVirtualInterfaces":"b""#), Some("are the same")),
        ("a list of plugins", r#"{"name":"x","plugins":[{"type":"bridge"},{"type":"mesh-optin"}]}"#.into(), Some(SHAPE)),
        ("as IPAM of another", r#"{"type":"macvlan","ipam":{"type":"mesh-optin"}}"#.into(), Some(SHAPE)),
        ("as a delegate of another", r#"{"type":"multus","delegates":[{"type" : "istio-cni"}]}"#.into(), Some(SHAPE)),
        ("an escaped -", r#"{"type":"mesh\u002doptin","prevResult":{}}"#.into(), Some("its type cannot be told")),
        ("an escaped letter of the key", r#"{"\u0074ype":"mesh-optin","x":1}"#.into(), Some("its type cannot be told")),
        ("an escaped letter in capitals", r#"{"type":"mes\U0068-optin","t":"\u0068"}"#.into(), Some("its type cannot be told")),
        ("an escaped digit", r#"{"type":"v\u0032-6-istio-cni","x":1}"#.into(), Some("its type cannot be told")),
        ("the key in capitals", r#"{"TYPE":"mesh-optin","x":1}"#.into(), Some(SHAPE)),
        ("the key in capitals alone", r#"{"Type":"mesh-optin"}"#.into(), Some(SHAPE)),
        ("meshOptin in capitals", r#"{"type":"mesh-optin","MeshOptin":{}}"#.into(), Some(SHAPE)),
        ("a newline before the colon", "{\"type\"\n:\r\n\"mesh-optin\",\"x\":1}".into(), Some(SHAPE)),
        ("an unknown setting", with(r#""foo":"1""#), Some(SHAPE)),
        ("a number", with(r#""excludeOutboundPorts":5432"#), Some(SHAPE)),
        ("null", r#"{"type":"mesh-optin","meshOptin":null}"#.into(), Some(SHAPE)),
        ("a list for meshOptin", r#"{"type":"mesh-optin","meshOptin":[]}"#.into(), Some(SHAPE)),
        ("a version from the future", r#"{"type":"mesh-optin","cniVersion":"2.0.0"}"#.into(), Some(SHAPE)),
        ("text behind it", r#"{"type":"mesh-optin"} x"#.into(), Some(SHAPE)),
        ("a comma too many", r#"{"type":"mesh-optin",}"#.into(), Some(SHAPE)),
        ("an old istio-cni", r#"{"cniVersion":"0.3.1","name":"istio-cni","type":"istio-cni","kubernetes":{"kubeconfig":"/x"}}"#.into(), Some(SHAPE)),
        ("a version of istio-cni", r#"{"type":"v2-6-istio-cni"}"#.into(), None),
        ("a version of istio-cni that says more", r#"{"type":"v2-6-istio-cni","kubernetes":{"kubeconfig":"/x"}}"#.into(), Some(SHAPE)),
        ("another type that ends so", r#"{"type":"my-istio-cni","x":1}"#.into(), None),
        ("a profile of no name", r#"{"type":"mesh-optin","meshOptin":{"profile":"../x"}}"#.into(), Some(SHAPE)),
        ("a profile of 254 letters", long, Some("longer than 253")),
        ("257 ports", ports(257), Some("more than 256")),
        ("17 interfaces", with(&format!(r#""excludeInterfaces":"{}""#, list("a", 17))), Some("more than 16")),
        ("17 interfaces by their old key", with(&format!(r#""kubevirtInterfaces":"{}""#, list("a", 17))), Some("more than 16")),
        ("the port 65536", with(r#""excludeOutboundPorts":"80,65536""#), Some("no number from 0 to 65535")),
        ("a port's name", with(r#""includeOutboundPorts":"http""#), Some("no number from 0 to 65535")),
        ("a range of ports", with(r#""includeOutboundPorts":"80-90""#), Some("no number from 0 to 65535")),
        ("all where only ports are", with(r#""excludeInboundPorts":"*""#), Some("no number from 0 to 65535")),
        ("all among ports", with(r#""includeInboundPorts":"*,80""#), Some("no number from 0 to 65535")),
        ("no port after a comma", with(r#""includeInboundPorts":"80,""#), Some("no number from 0 to 65535")),
        ("a network without length", with(r#""excludeOutboundIPRanges":"10.0.0.1""#), Some("address/length")),
        ("a space between networks", with(r#""excludeOutboundIPRanges":"10.0.0.0/8, 11.0.0.0/8""#), Some("address/length")),
        ("octets with zeros", with(r#""excludeOutboundIPRanges":"010.0.0.0/8""#), Some("address/length")),
        ("all but these", with(r#""excludeOutboundIPRanges":"*""#), Some("address/length")),
        ("an interface of 16", with(r#""excludeInterfaces":"abcdefghijklmnop""#), Some("no interface name")),
        ("an interface with a digit first", with(r#""excludeInterfaces":"1net""#), Some("no interface name")),
        ("within 16000 bytes", padded(15_000), None),
        ("beyond 16000 bytes", padded(16_000), Some("larger than 16000 bytes")),
    ];
    let cases: Vec<_> = cases
        .into_iter()
        .map(|(what, config, words)| (what, nad("x", &json!({"config": config})), words))
        .collect();
    judge(guarded(), "team-b", &cases);
    judge(
        guarded(),
        "team-b",
        &[("empty spec", nad("x", &json!({})), None)],
    );
    let large = format!(
        r#"{{"type":"bridge","x":"{}"}}"#,
        r#""type":"#.repeat(60_000)
    );
    let (result, _) = nad_of(
        guarded(),
        "team-b",
        "x",
        &large.replace(r#""type":"#, "mesh "),
    );
    assert!(result.is_ok(), "a large one of another type: {result:?}");
}

#[test]
fn a_nad_of_the_reserved_name_has_the_content_of_ours_whoever_writes_it() {
    let ours = r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"mesh-optin"}"#;
    let is_taken = "is the one that pods of the mesh name";
    let config = |text: &str| json!({"config": text});
    let labeled = |label: &str| {
        let mut nad = nad("x", &config(r#"{"type":"bridge"}"#));
        nad["metadata"]["labels"] = json!({label: ""});
        nad
    };
    let case = |what, spec: Value, words| (what, nad("istio-cni", &spec), words);
    let cases = [
        case("empty, as Istio's chart has it", json!({}), None),
        case("an empty configuration", config(""), None),
        case("ours", config(ours), None),
        case(
            "ours in another order, with spaces",
            config(
                "{ \"type\": \"mesh-optin\",\n\"name\": \"istio-cni\", \"cniVersion\": \"1.1.0\" }",
            ),
            None,
        ),
        case(
            "a bridge",
            config(r#"{"cniVersion":"1.1.0","type":"bridge"}"#),
            Some(is_taken),
        ),
        case(
            "one that speaks",
            config(
                r#"{"type":"mesh-optin","meshOptin":{"traffic":{"excludeOutboundIPRanges":"0.0.0.0/0"}}}"#,
            ),
            Some(is_taken),
        ),
        case(
            "of another name within",
            config(r#"{"cniVersion":"1.1.0","name":"x","type":"mesh-optin"}"#),
            Some(is_taken),
        ),
        case(
            "a key in place of one",
            config(r#"{"cniVersion":"1.1.0","name":"istio-cni","kind":"mesh-optin"}"#),
            Some(is_taken),
        ),
        case(
            "ours with a fourth key",
            config(
                r#"{"cniVersion":"1.1.0","name":"istio-cni","type":"mesh-optin","meshOptin":{}}"#,
            ),
            Some(is_taken),
        ),
        (
            "labeled as shared",
            labeled("meshoptin.dev/shared"),
            Some("the attachment x is"),
        ),
        (
            "labeled as a profile's",
            labeled("meshoptin.dev/profile"),
            Some("the attachment x is"),
        ),
    ];
    judge(guarded(), "team-b", &cases);
    // what is there can change all but its content, and be deleted
    let cluster = guarded();
    let nads = "/apis/k8s.cni.cncf.io/v1/namespaces/plain/network-attachment-definitions";
    let path = format!("{nads}/istio-cni");
    cluster.create(
        nads,
        &nad("istio-cni", &config(r#"{"type":"bridge","x":1}"#)),
    ); // by who may bypass
    let (labeled, _) = patch(
        cluster,
        &path,
        &json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["a.example/b"]}}),
    );
    assert!(labeled.is_ok(), "{labeled:?}");
    let (changed, _) = patch(
        cluster,
        &path,
        &json!({"spec": config(r#"{"type":"bridge"}"#)}),
    );
    assert!(changed.unwrap_err().contains(is_taken));
    let (mended, _) = patch(cluster, &path, &json!({"spec": config(ours)}));
    assert!(mended.is_ok(), "{mended:?}");
    let (changed, _) = patch(
        cluster,
        &path,
        &json!({"spec": config(r#"{"type":"mesh-optin","x":1}"#)}),
    );
    assert!(changed.unwrap_err().contains("denied request"));
    let delete = |path: &str| {
        request(
            cluster,
            "tenant",
            ("DELETE", path),
            "application/json",
            &Value::Null,
        )
    };
    assert!(delete(&path).0.is_ok());
    assert!(
        patch(cluster, &path, &json!({"metadata": {"finalizers": null}}))
            .0
            .is_ok()
    );
}

#[test]
fn an_admin_who_wants_warnings_alone_changes_what_the_binding_does() {
    let cluster = start();
    bind(&cluster);
    let binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/mesh-optin-attachments";
    cluster.patch(binding, &json!({"spec": {"validationActions": ["Warn"]}}));
    let wrong = r#"{"type":"mesh-optin","prevResult":{}}"#;
    eventually(|| {
        let (created, warnings) = nad_of(&cluster, "plain", "x", wrong);
        created.is_ok() && warnings.contains(SHAPE)
    });
    // the name that pods of the mesh use stays guarded
    let refused = nad_of(&cluster, "plain", "istio-cni", r#"{"type":"bridge"}"#).0;
    assert!(refused.unwrap_err().contains("give yours another name"));
}
