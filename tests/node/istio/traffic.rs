//! Who reaches whom, and what the other side knows of it.

use serde_json::{Value, json};

use super::{
    Row,
    injection::is_in_the_mesh,
    mesh::{PORT, Plain},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "STRICT lets in who has a sidecar, and nobody else",
        run: |mesh| {
            let both = [&mesh.strict, &mesh.permissive];
            let at_pods = both.map(|server| server.url_of_pod(mesh));
            let urls = both.map(|server| server.url.as_str());
            let client = mesh.client("web", &urls);
            let arguments = ["get", &at_pods[0], &at_pods[1]];
            let plain = Plain::new("client", "plain", &arguments);
            let plain = plain.label("sidecar.istio.io/inject", "false");
            mesh.create(&client);
            mesh.create(&plain);
            is_in_the_mesh(mesh, &client);
            for url in urls {
                mesh.says(&client, &[url, " 200 ", CLIENT]);
            }
            mesh.says(&plain, &[&at_pods[0], "connection reset by peer"]);
            let line = mesh.says(&plain, &[&at_pods[1], " 200 "]);
            assert!(!line.contains("spiffe:"), "{line}");
            let refused = mesh.outside(&at_pods[0]).unwrap_err();
            assert!(refused.contains("reset by peer"), "{refused}");
            let answer = mesh.outside(&at_pods[1]).unwrap();
            assert!(answer.starts_with("127.0.0.6:"), "{answer}");
            mesh.delete(&[client, plain]);
        },
    },
    Row {
        name: "the sidecar answers for names that no name server knows",
        run: |mesh| {
            let ip = mesh.s.ip(&mesh.permissive.plain.pod);
            let entry = json!({
                "hosts": ["db.example.test"], "addresses": ["240.240.0.1"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                "ports": [{"number": PORT, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": ip}],
            });
            mesh.configure(
                "networking",
                "client",
                ("ServiceEntry", "serviceentries"),
                &entry,
            );
            let service = format!("http://server.mtls.svc.cluster.local:{PORT}/");
            let entry = format!("http://db.example.test:{PORT}/");
            let config = json!({"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}});
            let client = mesh.client("dns", &[&service, &entry]);
            let client = client.annotation("proxy.istio.io/config", &config.to_string());
            let client = client.spec("dnsPolicy", json!("None"));
            let client = client.spec("dnsConfig", json!({"nameservers": ["192.0.2.53"]}));
            mesh.create(&client);
            is_in_the_mesh(mesh, &client);
            mesh.says(&client, &[&service, " 200 ", CLIENT]);
            mesh.says(&client, &[&entry, " 200 "]);
            mesh.delete(&[client]);
        },
    },
    Row {
        name: "in TPROXY mode the application sees its client's address",
        run: |mesh| {
            mesh.enrolled("tproxy");
            let server = Plain::server("tproxy", "server");
            let server = server.annotation("sidecar.istio.io/interceptionMode", "TPROXY");
            let url = mesh.service("tproxy", "server");
            mesh.create(&server);
            mesh.serves(&server);
            is_in_the_mesh(mesh, &server);
            let client = mesh.client("of-tproxy", &[&url]);
            mesh.create(&client);
            mesh.ready(&client);
            let seen = format!(" 200 {}:", mesh.s.ip(&client.pod));
            mesh.says(&client, &[&url, &seen, CLIENT]);
            mesh.delete(&[client, server]);
        },
    },
    Row {
        name: "a tenant's attachment with settings applies beside the injector's",
        run: |mesh| {
            mesh.enrolled("tenant-settings");
            let settings = json!({"traffic": {"excludeOutboundPorts": "5432"}});
            let config = json!({"cniVersion": "1.1.0", "name": "m", "type": "mesh-optin", "meshOptin": settings});
            mesh.s
                .attachment("tenant-settings", "settings", Some(&config.to_string()));
            let pod = Plain::new("tenant-settings", "web", &["get", &mesh.strict.url]);
            let pod = pod.annotation("k8s.v1.cni.cncf.io/networks", "settings");
            mesh.create(&pod);
            is_in_the_mesh(mesh, &pod);
            let excluded = &mesh.s.records(&pod.pod)[0]["intent"]["outbound"]["excludePorts"];
            assert_eq!(*excluded, json!([5432]));
            mesh.says(&pod, &[" 200 ", "/ns/tenant-settings/sa/default"]);
            mesh.delete(&[pod]);
        },
    },
    Row {
        name: "a gateway is injected, left alone, and brings the world's requests in",
        run: |mesh| {
            mesh.enrolled("edge");
            let gateway = json!({"selector": {"app": "gateway"},
                "servers": [{"port": {"number": PORT, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]});
            mesh.configure("networking", "edge", ("Gateway", "gateways"), &gateway);
            let to = json!({"host": "server.mtls.svc.cluster.local", "port": {"number": PORT}});
            let routes = json!({"hosts": ["*"], "gateways": ["test"], "http": [{"route": [{"destination": to}]}]});
            mesh.configure(
                "networking",
                "edge",
                ("VirtualService", "virtualservices"),
                &routes,
            );
            let pod = Plain::new("edge", "gateway", &[])
                .annotation("inject.istio.io/templates", "gateway")
                .spec(
                    "containers",
                    json!([{"name": "istio-proxy", "image": "auto", "imagePullPolicy": "Never"}]),
                );
            mesh.create(&pod);
            let found = mesh.ready(&pod);
            let networks = &found["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
            assert_eq!(*networks, Value::Null);
            assert!(mesh.s.records(&pod.pod).is_empty());
            let url = format!("http://{}:{PORT}/", mesh.s.ip(&pod.pod));
            let answer = mesh.s.wait_for(|| mesh.outside(&url).ok());
            let answer = answer.expect("the gateway answers");
            assert!(
                answer.contains("URI=spiffe://cluster.local/ns/edge/sa/default"),
                "{answer}"
            );
            let events = mesh.s.events(&pod.pod);
            assert!(
                events.iter().all(|(reason, _)| reason != "Bypassing"),
                "{events:?}"
            );
            mesh.delete(&[pod]);
        },
    },
];

/// Who a pod of namespace client is, as the other side's application hears.
pub(super) const CLIENT: &str = "URI=spiffe://cluster.local/ns/client/sa/default";
