use serde_json::json;

use super::{
    healthy::{of, webhooks},
    *,
};
use crate::doctor::{
    facts::{Injector, InjectorService},
    objects::Webhook,
};

/// Another control plane, in another namespace.
fn beside(facts: &mut Facts, webhooks: Vec<(String, Webhook)>) {
    let other = Injector {
        namespace: "mesh2".into(),
        webhooks,
        ..first_injector(facts).clone()
    };
    facts
        .injectors
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap()
        .push(other);
}

#[test]
fn control_planes_that_share_no_pods_are_no_finding() {
    // of two revisions, one of which has the tags default and prod
    let mut facts = healthy();
    let tagged = [
        webhooks("istio-sidecar-injector-1-27", "1-27"),
        webhooks("istio-revision-tag-default", "default"),
        webhooks("istio-revision-tag-prod", "prod"),
    ];
    first_injector(&mut facts).webhooks = tagged.concat();
    beside(&mut facts, webhooks("istio-sidecar-injector-1-28", "1-28"));
    assert_eq!(exit(&look(&facts)), Exit::Done);
    // of one whose webhooks istioctl has switched off, since a tag took over
    let mut facts = healthy();
    let mut off = webhooks("istio-sidecar-injector", "default");
    for (_, webhook) in &mut off {
        let never = json!({"matchLabels": {"istio.io/deactivated": "never-match"}});
        webhook.namespace_selector = of(never);
    }
    beside(&mut facts, off);
    assert_eq!(exit(&look(&facts)), Exit::Done);
}

#[test]
fn whether_control_planes_share_pods_may_be_unknown() {
    let mut facts = healthy();
    let mut conditional = webhooks("istio-sidecar-injector-mesh2", "default");
    for (_, webhook) in &mut conditional {
        webhook.match_conditions = vec![json!({"name": "a", "expression": "b"})];
    }
    beside(&mut facts, conditional);
    let looked = Check::InjectorHealthy.look(&facts);
    assert_eq!(looked.outcome(), CheckOutcome::Unknown, "{looked:?}");
    facts.namespaces = Err(Unseen::Right("list namespaces".into()));
    let looked = Check::InjectorHealthy.look(&facts);
    assert_eq!(looked.outcome(), CheckOutcome::Skipped, "{looked:?}");
}

#[test]
fn what_is_wrong_with_istio_is_named_with_its_remedy() {
    fn with_cni(facts: &mut Facts) {
        let cni = of(json!({"metadata": {"name": "istio-cni-node", "namespace": "istio-system"}}));
        facts
            .daemon_sets
            .as_mut()
            .unwrap()
            .as_mut()
            .unwrap()
            .push(cni);
    }
    fn ambient(facts: &mut Facts) {
        let namespaces = facts.namespaces.as_mut().unwrap().as_mut().unwrap();
        namespaces.push(of(
            json!({"metadata": {"name": "amb", "labels": {"istio.io/dataplane-mode": "ambient"}}}),
        ));
    }
    each_is_named(&[
        (
            with_cni,
            Check::OtherCniInstalled,
            CheckOutcome::Warning,
            "istio-system/istio-cni-node",
            "Coming from istio-cni",
        ),
        (
            |f| f.istio_cnis = Ok(Some(of(json!([{"metadata": {"name": "default"}}])))),
            Check::OtherCniInstalled,
            CheckOutcome::Warning,
            "IstioCNI default: the Sail operator installs Istio's own CNI plugin",
            "kubectl delete istiocnis.sailoperator.io default",
        ),
        (
            ambient,
            Check::AmbientInUse,
            CheckOutcome::Warning,
            "namespaces amb: ambient mode is in use without",
            "install Istio's CNI plugin again",
        ),
        (
            |f| {
                ambient(f);
                let ztunnel =
                    of(json!({"metadata": {"name": "ztunnel", "namespace": "istio-system"}}));
                f.daemon_sets
                    .as_mut()
                    .unwrap()
                    .as_mut()
                    .unwrap()
                    .push(ztunnel);
                with_cni(f);
            },
            Check::AmbientInUse,
            CheckOutcome::Advice,
            "needs DaemonSet istio-system/istio-cni-node",
            "do not remove",
        ),
        (
            |f| f.injectors = Ok(Some(vec![])),
            Check::InjectorProvider,
            CheckOutcome::Warning,
            "no sidecar injector",
            "install Istio",
        ),
        (
            |f| injector(f, &json!({"enabled": false, "provider": "multus"})),
            Check::InjectorProvider,
            CheckOutcome::Error,
            "pilot.cni.enabled is not set",
            "-n istio-system --reuse-values --set pilot.cni.enabled=true --set pilot.cni.provider=multus",
        ),
        (
            |f| injector(f, &json!({"enabled": true, "provider": "default"})),
            Check::InjectorProvider,
            CheckOutcome::Error,
            "pilot.cni.provider is not multus",
            "pilot.cni.provider=multus",
        ),
        (
            |f| first_injector(f).services[0].ready = Ok(Some(0)),
            Check::InjectorHealthy,
            CheckOutcome::Error,
            "service istio-system/istiod: the injector of revision default has no endpoint",
            "kubectl -n istio-system get endpointslices -l kubernetes.io/service-name=istiod",
        ),
        (
            |f| {
                let webhooks = &mut first_injector(f).webhooks;
                let ignores = |(_, w): &mut (String, Webhook)| w.failure_policy = "Ignore".into();
                webhooks.iter_mut().for_each(ignores);
            },
            Check::InjectorHealthy,
            CheckOutcome::Warning,
            "MutatingWebhookConfiguration istio-sidecar-injector: failurePolicy is Ignore",
            "Fail",
        ),
        (
            |f| {
                let services = &mut first_injector(f).services;
                services.push(InjectorService {
                    name: "istiod-revision-tag-x".into(),
                    ready: Ok(Some(0)),
                })
            },
            Check::InjectorHealthy,
            CheckOutcome::Error,
            "service istio-system/istiod-revision-tag-x: the injector of revision default",
            "kubernetes.io/service-name=istiod-revision-tag-x",
        ),
        (
            |f| beside(f, webhooks("istio-sidecar-injector-mesh2", "default")),
            Check::InjectorHealthy,
            CheckOutcome::Warning,
            "namespaces team-a: several control planes inject the same pods, by MutatingWebhookConfigurations istio-sidecar-injector, istio-sidecar-injector-mesh2:",
            "istio.io/rev of one revision",
        ),
    ]);
    let mut facts = healthy();
    injector(&mut facts, &json!({"enabled": true}));
    facts.networks_policy = Ok(Some(of(json!({}))));
    assert!(
        Check::InjectorProvider.look(&facts).findings.is_empty(),
        "our policy adds the attachment"
    );
}
