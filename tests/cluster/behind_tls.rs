//! API servers as clusters have them: behind a load balancer that terminates TLS, with HTTP/2 switched off, and as FIPS has it.

use crate::{
    cluster,
    support::{
        agent::{Agent, add},
        lab::{APP, CONFIG, V4, inside, on_node},
        pods::cni_args,
        proxy::Proxy,
    },
};

/// The kinds of tests/stack/tls-proxy, with the version of TLS that each speaks.
const KINDS: [(&str, &str, u16); 3] = [
    ("load-balancer", "TLSv1.3", 7443),
    ("http1", "TLSv1.3", 7444),
    ("fips", "TLSv1.2", 7445),
];

#[test]
fn the_look_up_of_the_plugin_is_answered() {
    for (kind, version, port) in KINDS {
        let mut proxy = Proxy::start(cluster(), "tls-proxy", &[kind, &port.to_string()]);
        on_node(|node| {
            node.write("etc/mesh-optin/node.yaml", "{deadline: 10s}");
            let server = format!("https://127.0.0.1:{port}");
            node.credential(
                &server,
                &cluster().file("ca.crt"),
                &cluster().token("mesh-optin", "node"),
            );
            let pod = cluster().create_data_pod("defaults", &format!("behind-{kind}"));
            let lab = node.pod("a", V4);
            let call = inside(&cluster().netns, || {
                node.call("ADD", &lab.netns, &cni_args(&pod), CONFIG)
            });
            assert_eq!(call.logged_reason(), "Redirected", "{kind}: {call:?}");
            assert_eq!(lab.dial_out(APP, "10.96.0.10:80"), "pod:15001", "{kind}");
        });
        assert_eq!(proxy.line(), version, "{kind}");
    }
}

#[test]
fn the_agent_lists_watches_and_creates_events() {
    for (kind, _, port) in KINDS {
        let port = port + 10;
        let _proxy = Proxy::start(cluster(), "tls-proxy", &[kind, &port.to_string()]);
        on_node(|node| {
            node.write("etc/mesh-optin/node.yaml", "{deadline: 10s}");
            let name = format!("agent-{kind}");
            let agent = Agent::start_at(node, cluster(), &name, &port.to_string(), &[]).ready();
            // it comes by the watch
            let pod = cluster().create_pod_on(&name, "defaults", &name);
            agent.reaches("mesh_optin_cached_pods", 1.0);
            let lab = node.pod("a", V4);
            let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
            assert_eq!(call.logged_reason(), "Redirected", "{kind}: {call:?}");
            agent.reaches(r#"mesh_optin_events_total{result="sent"}"#, 1.0);
        });
    }
}
