use serde_json::json;

use super::{
    healthy::{of, profile},
    *,
};
use crate::{mesh::Pod, multus::AttachmentDefinition};

fn annotated(pod: &mut Pod, key: &str, value: &str) {
    let annotations = &mut pod.metadata.annotations;
    annotations.insert(key.into(), value.into());
}

/// How a pod opts out, what is said of it, and of the remedy.
type OptOut = (fn(&mut Pod), &'static str, &'static str);

#[test]
fn whoever_opts_out_is_named() {
    let opts_out: [OptOut; 4] = [
        (
            |pod| pod.spec.host_network = true,
            "1 of enrolled namespaces: the pod uses the host's network",
            "tenants.mayOptOut: false",
        ),
        (
            |pod| {
                let may = json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}});
                pod.spec.init_containers =
                    of(json!([{"name": "istio-init", "securityContext": may}]));
            },
            "istio-init sets the redirection up itself",
            "pilot.cni.provider=multus",
        ),
        (
            |pod| annotated(pod, "sidecar.istio.io/interceptionMode", "NONE"),
            "interceptionMode: NONE",
            "tenants.mayOptOut: false",
        ),
        (
            |pod| {
                annotated(
                    pod,
                    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                    "10.0.0.0/8,0.0.0.0/0",
                )
            },
            "all outbound destinations of a family are excluded",
            "leave excludeOutboundIPRanges out of tenants.mayOverride",
        ),
    ];
    for (changes, message, remedy) in opts_out {
        let mut facts = healthy();
        changes(pod(&mut facts));
        let looked = Check::OptOuts.look(&facts);
        let [found] = looked.findings.as_slice() else {
            panic!("{message}: {looked:?}");
        };
        assert_eq!(found.severity, CheckOutcome::Advice, "{found:?}");
        assert_eq!(found.object, "pods team-a/web");
        assert!(found.message.contains(message), "{found:?}");
        assert!(found.remedy.contains(remedy), "{found:?}");
        // where nobody is expected in the mesh nobody opts out of it
        let mut excluded = facts.clone();
        let spec = json!({"excludedNamespaces": ["team-a"]});
        excluded.profiles = Ok(Some(vec![profile("default", &spec, &json!({}))]));
        let namespaces = facts.namespaces.as_mut().unwrap().as_mut().unwrap();
        namespaces[2].metadata.labels.clear();
        for facts in [facts, excluded] {
            assert!(Check::OptOuts.look(&facts).findings.is_empty(), "{message}");
        }
    }
}

fn attachment(facts: &mut Facts, name: &str, config: Option<&str>) {
    let attachments = facts.attachments.as_mut().unwrap().as_mut().unwrap();
    attachments.push(AttachmentDefinition {
        namespace: "team-a".into(),
        name: name.into(),
        config: config.map(str::to_owned),
    });
}

#[test]
fn attachments_of_another_installation_are_left_over() {
    const BY_LIST: &str =
        r#"{"name": "x", "plugins": [{"type": "tuning"}, {"type": "istio-cni"}]}"#;
    each_is_named(&[
        (
            |f| attachment(f, "v2-5-istio-cni", None),
            Check::Leftovers,
            CheckOutcome::Advice,
            "NetworkAttachmentDefinition team-a/v2-5-istio-cni: it is for istio-cni",
            "kubectl -n team-a delete network-attachment-definition v2-5-istio-cni",
        ),
        (
            |f| attachment(f, "mesh", Some(BY_LIST)),
            Check::Leftovers,
            CheckOutcome::Advice,
            "no running pod names it",
            "delete network-attachment-definition mesh",
        ),
    ]);
    let kept: [fn(&mut Facts); 4] = [
        |f| attachment(f, "macvlan", None),
        |f| attachment(f, "macvlan", Some(r#"{"type": "macvlan"}"#)),
        |f| {
            attachment(f, "v2-6-istio-cni", None);
            let agents = daemon_set(f, "mesh-optin-agent");
            let container = &mut agents.spec.template.spec.containers[0];
            container.args.push("--attachment=istio-cni".into());
            let more = ["--attachment", "v2-6-istio-cni"].map(str::to_owned);
            container.args.extend(more);
        },
        |f| {
            attachment(f, "v2-6-istio-cni", None);
            let networks = "default/istio-cni, v2-6-istio-cni";
            annotated(pod(f), "k8s.v1.cni.cncf.io/networks", networks);
        },
    ];
    for keeps in kept {
        let mut facts = healthy();
        keeps(&mut facts);
        assert_eq!(Check::Leftovers.look(&facts), Default::default());
    }
    let needed: [fn(&mut Facts); 2] = [
        |f| f.scope = Some("team-a".into()), // others may name it
        |f| {
            let cni = json!({"metadata": {"name": "istio-cni-node-v2-5", "namespace": "openshift-operators"}});
            let all = f.daemon_sets.as_mut().unwrap().as_mut().unwrap();
            all.push(of(cni));
        },
    ];
    for may_need in needed {
        let mut facts = healthy();
        attachment(&mut facts, "v2-5-istio-cni", None);
        may_need(&mut facts);
        let looked = Check::Leftovers.look(&facts);
        assert_eq!(looked.outcome(), CheckOutcome::Unknown, "{looked:?}");
    }
}
