//! With Envoy as the sidecar: sockets of a real proxy, in both interception modes.

use serde_json::{Value, json};

use crate::{
    Scenario, enrolled,
    support::{
        stack::Stack,
        stack_pod::{Pod, Sidecar},
    },
    together,
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    together("Envoy passes on what REDIRECT sends it, out and in", |s| {
        let security =
            json!({"runAsUser": 1337, "runAsGroup": 1337, "capabilities": {"drop": ["ALL"]}});
        let proxy = envoy(
            &security,
            &json!([]),
            &listener("inbound", 15006, &json!({}), &[]),
        );
        let pod = passes_through(s, Pod::new("envoy-redirect", "web", "mesh").with(proxy));
        assert!(
            s.answered_inside(&pod).contains(" 127.0.0.6:"),
            "the application sees the sidecar"
        );
    }),
    together(
        "Envoy passes on what TPROXY gives it, and the application sees who connects",
        |s| {
            // as Istio injects it: root, told by its group
            let security = json!({"runAsUser": 0, "runAsGroup": 1337, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}});
            let original_source = json!({
                "name": "envoy.filters.listener.original_src",
                "typed_config": {"@type": extension("filters.listener.original_src.v3.OriginalSrc"), "mark": 1337},
            });
            let env = json!([{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "TPROXY"}]);
            let proxy = envoy(
                &security,
                &env,
                &listener(
                    "inbound",
                    15006,
                    &json!({"transparent": true}),
                    &[original_source],
                ),
            );
            let pod = Pod::new("envoy-tproxy", "web", "mesh")
                .with(proxy)
                .annotation("sidecar.istio.io/interceptionMode", "TPROXY");
            let pod = passes_through(s, pod);
            assert!(
                s.answered_inside(&pod).contains(" 10.244.0.1:"),
                "the application sees the node"
            );
        },
    ),
];

/// The application's connections end at the world, and the node's at the application, both through Envoy.
fn passes_through(s: &Stack, pod: Pod) -> Pod {
    enrolled(s, &pod.namespace);
    s.import("istio-proxy.tar");
    s.create(&pod);
    s.running(&pod);
    let (out, inside, ip) = (s.answered(&pod), s.answered_inside(&pod), s.ip(&pod));
    assert!(out.starts_with("80 203.0.113.7:80 "), "{out}");
    assert!(inside.starts_with(&format!("8080 {ip}:8080 ")), "{inside}");
    for line in [
        "outbound 203.0.113.7:80 to 203.0.113.7:80".to_owned(),
        format!("inbound {ip}:8080 to {ip}:8080"),
    ] {
        let logged = || s.log(&pod, "istio-proxy").contains(&line).then_some(());
        assert!(
            s.wait_for(logged).is_some(),
            "no {line:?}: {}",
            s.log(&pod, "istio-proxy")
        );
    }
    pod
}

/// The container: Envoy with these listeners' connections going where they were to go, each with a line in its log.
fn envoy(security: &Value, env: &Value, inbound: &Value) -> Sidecar {
    // inbound as Istio does it: the sidecar's own connections to the application come from 127.0.0.6, if not from the peer
    let from = if inbound["transparent"] == true {
        json!({})
    } else {
        json!({"source_address": {"address": "127.0.0.6", "port_value": 0}})
    };
    let cluster = |name: &str, bind: Value| json!({"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s", "upstream_bind_config": bind});
    let outbound = listener("outbound", 15001, &json!({}), &[]);
    let config = json!({"static_resources": {
        "listeners": [outbound, inbound],
        "clusters": [cluster("outbound", json!({})), cluster("inbound", from)],
    }});
    Sidecar::Container(json!({
        "image": "stack.test/istio-proxy:1", "command": ["envoy"], "imagePullPolicy": "Never", "securityContext": security, "env": env,
        "args": ["--config-yaml", config.to_string(), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
    }))
}

fn listener(name: &str, port: u16, settings: &Value, filters: &[Value]) -> Value {
    let original_destination = json!({"name": "envoy.filters.listener.original_dst", "typed_config": {"@type": extension("filters.listener.original_dst.v3.OriginalDst")}});
    let text = format!("{name} %DOWNSTREAM_LOCAL_ADDRESS% to %UPSTREAM_REMOTE_ADDRESS%\n");
    let log = json!({"name": "envoy.access_loggers.stdout", "typed_config": {
        "@type": extension("access_loggers.stream.v3.StdoutAccessLog"),
        "log_format": {"text_format_source": {"inline_string": text}},
    }});
    let tcp_proxy = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": extension("filters.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": name, "cluster": name, "access_log": [log],
    }});
    let mut listener = settings.clone();
    listener["name"] = json!(name);
    listener["address"] = json!({"socket_address": {"address": "0.0.0.0", "port_value": port}});
    listener["listener_filters"] = json!([&[original_destination], filters].concat());
    listener["filter_chains"] = json!([{"filters": [tcp_proxy]}]);
    listener
}

fn extension(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}
