use serde_json::json;

use super::{healthy::of, *};

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
            |f| first_injector(f).ready = Ok(Some(0)),
            Check::InjectorHealthy,
            CheckOutcome::Error,
            "service istio-system/istiod: the injector of revision default has no endpoint",
            "kubectl -n istio-system get endpointslices -l kubernetes.io/service-name=istiod",
        ),
        (
            |f| {
                first_injector(f)
                    .fail_open
                    .push("istio-sidecar-injector".into())
            },
            Check::InjectorHealthy,
            CheckOutcome::Warning,
            "MutatingWebhookConfiguration istio-sidecar-injector: failurePolicy is Ignore",
            "Fail",
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
