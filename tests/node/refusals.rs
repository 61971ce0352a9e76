//! What a user sees: the Pod's event names each Reason and what to do about it, in its first 1,024 bytes: no more is sure to be kept. Of
//! these thick Multus and its shim take 770 before our text, and four times the pod's name and namespace: so these are short here.

use std::net::TcpListener;

use mesh_optin::reason::Reason;
use serde_json::json;

use crate::{
    CONFIG, Scenario, alone, enrolled,
    support::{lab::inside, stack::Stack, stack_pod::Pod},
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    alone(
        "the event of every refused pod says the reason and the remedy",
        |s| {
            profiles(s);
            let pods = pods(s);
            pods.iter().for_each(|(_, pod)| s.create(pod));
            let wrong: Vec<_> = pods
                .iter()
                .filter_map(|(reason, pod)| wrong(*reason, &s.refused(pod)))
                .collect();
            for (_, pod) in &pods {
                s.mark_deleted(pod);
            }
            std::fs::remove_dir_all(s.path("/etc/mesh-optin/profiles")).unwrap();
            assert!(wrong.is_empty(), "{wrong:#?}");
        },
    ),
    alone(
        "for every fault of the node the event says the reason and the remedy",
        |s| {
            enrolled(s, "node");
            let (api, config) = ("/var/lib/mesh-optin/api", "/etc/mesh-optin/node.yaml");
            let (server, token) = (format!("{api}/server"), format!("{api}/token"));
            // accepts connections and says nothing
            let silent = inside(&s.cluster.netns, || {
                TcpListener::bind("127.0.0.1:0").unwrap()
            });
            let silent_server = format!("https://{}", silent.local_addr().unwrap());
            let good = std::fs::read_to_string(s.path(&token)).unwrap();
            let of_nobody = s.cluster.token("default", "default");
            let forged = format!("{}AAAA", good.trim().get(..good.trim().len() - 4).unwrap());
            let cases: [(_, &str, _); 8] = [
                (Reason::NodeConfigInvalid, config, Some("deadline: [")),
                (
                    Reason::WrongNode,
                    config,
                    Some("{sources: [api], nodeName: node2}"),
                ),
                (Reason::NoSource, api, None),
                (
                    Reason::AgentUnavailable,
                    config,
                    Some("{sources: [agent], deadline: 1s}"),
                ),
                (Reason::ApiUnreachable, &server, Some("https://127.0.0.1:1")),
                (Reason::DeadlineExceeded, &server, Some(&silent_server)),
                (Reason::ApiForbidden, &token, Some(&of_nobody)),
                (Reason::ApiUnauthorized, &token, Some(&forged)),
            ];
            let wrong: Vec<_> = cases
                .iter()
                .enumerate()
                .filter_map(|(at, (reason, file, text))| {
                    let pod = Pod::new("node", &format!("p{at}"), "mesh");
                    let message = s.while_changed(file, *text, || {
                        if *reason == Reason::AgentUnavailable {
                            s.write(INSTALLED, r#"{"version":"0.1.0"}"#); // without it there never was an agent
                        }
                        s.create(&pod);
                        let message = s.refused(&pod);
                        s.mark_deleted(&pod);
                        std::fs::remove_file(s.path(INSTALLED)).ok();
                        message
                    });
                    wrong(*reason, &message)
                })
                .collect();
            assert!(wrong.is_empty(), "{wrong:#?}");
        },
    ),
];

/// What an agent has written that was installed.
const INSTALLED: &str = "/var/lib/mesh-optin/installed.json";

/// The event, unless its first 1,024 bytes say the reason and its remedy.
fn wrong(reason: Reason, message: &str) -> Option<String> {
    let shown = message.get(..1024).unwrap_or(message);
    let says = shown.contains(&format!("{reason}: "))
        && shown.contains(reason.remedy().expect("every refusal has one"));
    (!says).then(|| format!("{reason}: {message}"))
}

/// MeshProfiles that govern some namespaces each.
fn profiles(s: &Stack) {
    let profile = |name: &str, spec: serde_json::Value| {
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": name}, "spec": spec});
        s.write(
            &format!("/etc/mesh-optin/profiles/{name}.yaml"),
            &object.to_string(),
        );
    };
    let governs = |label: &str| json!({"matchLabels": {label: "yes"}});
    profile("rest", json!({}));
    profile(
        "strict",
        json!({"namespaces": governs("strict"), "revisions": ["1-24-3"], "tenants": {"mayOverride": []}}),
    );
    profile("first", json!({"namespaces": governs("both")}));
    profile("second", json!({"namespaces": governs("both")}));
}

/// A pod for each Reason that its tenant can bring about.
fn pods(s: &Stack) -> Vec<(Reason, Pod)> {
    enrolled(s, "refused");
    for (name, labels) in [
        ("bare", json!({})),
        ("strict", json!({"strict": "yes", "istio.io/rev": "stable"})),
        ("both", json!({"both": "yes", "istio-injection": "enabled"})),
    ] {
        s.cluster.namespace(name, &labels);
        s.attachment(name, "mesh", Some(CONFIG));
    }
    for (name, mesh_optin) in [
        ("unknown-field", json!({"path": "/"})),
        ("of-nobody", json!({"profile": "nobody"})),
        ("of-others", json!({"profile": "strict"})),
        (
            "other",
            json!({"traffic": {"excludeOutboundPorts": "5432"}}),
        ),
        (
            "others",
            json!({"traffic": {"excludeOutboundPorts": "6432"}}),
        ),
    ] {
        let config = json!({"cniVersion": "1.1.0", "name": "m", "type": "mesh-optin", "meshOptin": mesh_optin});
        s.attachment("refused", name, Some(&config.to_string()));
    }
    let pod = |reason: Reason, namespace: &str, networks: &str| {
        Pod::new(namespace, &format!("p{}", reason.cni_code()), networks)
    };
    let refused = |reason, networks: &str| (reason, pod(reason, "refused", networks));
    let ports = "traffic.sidecar.istio.io/excludeOutboundPorts";
    let mesh = |reason, namespace: &str, change: &dyn Fn(Pod) -> Pod| {
        (reason, change(pod(reason, namespace, "mesh")))
    };
    vec![
        refused(Reason::InvalidAttachment, "unknown-field"),
        refused(Reason::UnknownProfile, "of-nobody"),
        refused(Reason::ProfileNotAllowed, "of-others"),
        refused(Reason::ConflictingAttachment, "others,other"),
        mesh(Reason::AmbiguousProfile, "both", &|pod| pod),
        mesh(Reason::SidecarMissing, "refused", &|pod| {
            pod.without_sidecar()
                .label("sidecar.istio.io/inject", "true")
        }),
        mesh(Reason::UnenrolledSidecar, "bare", &|pod| pod),
        mesh(Reason::RevisionMismatch, "strict", &|pod| {
            pod.annotation("istio.io/rev", "1-25-0")
        }),
        mesh(Reason::OverrideNotAllowed, "strict", &|pod| {
            pod.annotation(ports, "5432")
                .annotation("istio.io/rev", "1-24-3")
        }),
        mesh(Reason::InvalidAnnotation, "refused", &|pod| {
            pod.annotation(ports, "http")
        }),
        mesh(Reason::NoPrimaryInterface, "refused", &|pod| {
            let pod = pod.annotation("v1.multus-cni.io/default-network", "refused/mesh");
            Pod {
                networks: String::new(),
                ..pod
            }
        }),
    ]
}
