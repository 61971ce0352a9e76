//! A node that reboots: its pods get new sandboxes, and policy has changed meanwhile.

use crate::{
    Scenario,
    agent::with_agent,
    alone, enrolled,
    support::{
        cluster::script,
        lab::CONFIG,
        stack::Stack,
        stack_pod::{Pod, Sidecar},
    },
};
use serde_json::{Value, json};

pub(crate) const SCENARIOS: &[Scenario] = &[alone(
    "after a reboot every pod that ran is redirected or left alone as before, whatever the policy says now",
    |s| {
        with_agent(s, |agent| {
            s.cluster
                .apply(include_str!("../../crds/meshoptin.dev_meshprofiles.yaml"));
            let changes = changes();
            let ready = |profile: &Value| s.cluster.request("POST", PROFILES, profile).ok();
            let first = profile("others", &json!({}));
            assert!(s.wait_for(|| ready(&first)).is_some());
            for change in &changes {
                enrolled(s, change.namespace());
                if let Some((before, _)) = &change.profile {
                    s.cluster
                        .create(PROFILES, &profile(change.namespace(), before));
                    s.attachment(
                        change.namespace(),
                        "named",
                        Some(&naming(change.namespace())),
                    );
                }
            }
            let known = |name: &str| {
                s.path(&format!("/var/lib/mesh-optin/profiles/{name}.yaml"))
                    .exists()
                    .then_some(())
            };
            assert!(s.wait_for(|| known("profile-moved")).is_some());
            for change in &changes {
                s.create(&change.pod);
            }
            for change in &changes {
                s.running(&change.pod);
                assert!(
                    change.landed(s).starts_with(change.lands),
                    "{}",
                    change.namespace()
                );
            }
            for change in &changes {
                (change.after)(s, &change.pod);
                if let Some((_, after)) = &change.profile {
                    let path = format!("{PROFILES}/{}", change.namespace());
                    s.cluster.patch(&path, &json!({"spec": after}));
                }
            }
            // all of it is known before: it is policy, not a race, that is tried here
            let counts = changes.iter().filter(|change| change.is_counted).count() as f64;
            let counted = || agent.metric(r#"mesh_optin_policy_changed_pods"#);
            let all = s.wait_for(|| (counted() == counts).then_some(()));
            assert!(all.is_some(), "{} of {counts}", counted());
            s.cluster.enter(&[&script("runtime"), "/mnt", "reboot"]);
            for change in &changes {
                let again = s.wait_for(|| has_restarted(&s.get(&change.pod)?).then_some(()));
                assert!(
                    again.is_some(),
                    "{}: {:?}",
                    change.namespace(),
                    s.events(&change.pod)
                );
                let landed = change.landed(s);
                assert!(
                    landed.starts_with(change.lands),
                    "{}: {landed}",
                    change.namespace()
                );
                if let Some(reason) = change.reason {
                    let told = || {
                        s.events(&change.pod)
                            .into_iter()
                            .find(|(of, _)| of == reason)
                    };
                    assert!(
                        s.wait_for(told).is_some(),
                        "{}: {:?}",
                        change.namespace(),
                        s.events(&change.pod)
                    );
                }
            }
            agent.ready();
            let pods: Vec<_> = changes.iter().map(|change| change.pod.clone()).collect();
            s.delete_all(&pods);
            let profiles = changes
                .iter()
                .filter(|c| c.profile.is_some())
                .map(Change::namespace);
            for name in profiles.chain(["others"]) {
                let path = format!("{PROFILES}/{name}");
                s.cluster.request("DELETE", &path, &Value::Null).unwrap();
            }
        });
    },
)];

const PROFILES: &str = "/apis/meshoptin.dev/v1alpha1/meshprofiles";

/// A pod in a namespace of its own, and what changes of its policy.
struct Change {
    pod: Pod,
    /// The specs of the namespace's own profile, before and after.
    profile: Option<(Value, Value)>,
    /// What else is done.
    after: fn(&Stack, &Pod),
    /// Where the application's connections land, before and after.
    lands: &'static str,
    /// What the pod is warned of afterwards.
    reason: Option<&'static str>,
    /// The audit counts it as one whose policy has changed.
    is_counted: bool,
}

impl Change {
    fn redirected(name: &str, reason: &'static str) -> Self {
        Self {
            pod: Pod::new(name, "web", "mesh"),
            profile: None,
            after: |_, _| {},
            lands: "15001 203.0.113.7:80 ",
            reason: Some(reason),
            is_counted: true,
        }
    }

    fn namespace(&self) -> &str {
        &self.pod.namespace
    }

    fn landed(&self, s: &Stack) -> String {
        s.answered(&self.pod)
    }
}

fn changes() -> Vec<Change> {
    let own = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let spec = |name: &str, with: Value| {
        let mut spec = json!({"namespaces": own(name)});
        for (key, value) in with.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    // as Istio's injector makes it
    let built_to_redirect = Sidecar::Container(json!({
        "image": "stack.test/app:1", "imagePullPolicy": "Never", "args": ["serve", "15001", "15006"],
        "env": [{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "REDIRECT"}],
        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337},
    }));
    let nothing = json!({});
    let mut unchanged = Change::redirected("unchanged", "");
    (unchanged.reason, unchanged.is_counted) = (None, false);
    let mut unlabeled = Change::redirected("unlabeled", "UnenrolledSidecar");
    unlabeled.after = |s, pod| {
        let path = format!("/api/v1/namespaces/{}", pod.namespace);
        s.cluster.patch(
            &path,
            &json!({"metadata": {"labels": {"istio-injection": null}}}),
        );
    };
    unlabeled.is_counted = false; // for the audit a namespace is read again every hour or so
    let mut opted_out = Change::redirected("opted-out-after-injection", "OptOutAfterInjection");
    opted_out.pod = opted_out.pod.with(built_to_redirect);
    opted_out.after = |s, pod| {
        s.cluster.patch(
            &pod.path(),
            &json!({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}}),
        );
    };
    let mut revisions = Change::redirected("revisions", "RevisionMismatch");
    revisions.profile = Some((
        spec("revisions", nothing.clone()),
        json!({"revisions": ["next"]}),
    ));
    let mut overrides = Change::redirected("overrides", "OverrideNotAllowed");
    overrides.pod = overrides
        .pod
        .annotation("traffic.sidecar.istio.io/excludeOutboundPorts", "22");
    overrides.profile = Some((
        spec("overrides", nothing.clone()),
        json!({"tenants": {"mayOverride": []}}),
    ));
    let mut moved = Change::redirected("profile-moved", "ProfileNotAllowed");
    moved.pod.networks = "named".into();
    moved.profile = Some((
        spec("profile-moved", nothing.clone()),
        json!({"namespaces": own("elsewhere")}),
    ));
    // the audit does not know which profile an attachment names
    moved.is_counted = false;
    let mut skipped = Change::redirected("opted-out", "OptOutNotAllowed");
    skipped.pod = skipped
        .pod
        .without_sidecar()
        .label("sidecar.istio.io/inject", "false");
    skipped.profile = Some((
        spec("opted-out", nothing),
        json!({"tenants": {"mayOptOut": false}}),
    ));
    (skipped.lands, skipped.is_counted) = ("80 203.0.113.7:80 ", false);
    vec![
        unchanged, unlabeled, opted_out, revisions, overrides, moved, skipped,
    ]
}

fn profile(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": name}, "spec": spec})
}

/// A configuration that names a profile.
fn naming(profile: &str) -> String {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["meshOptin"] = json!({"profile": profile});
    config.to_string()
}

fn has_restarted(pod: &Value) -> bool {
    let all = pod["status"]["containerStatuses"].as_array();
    all.is_some_and(|all| {
        let again =
            |c: &Value| c["restartCount"].as_u64() > Some(0) && c["state"]["running"].is_object();
        all.iter().all(again)
    })
}
