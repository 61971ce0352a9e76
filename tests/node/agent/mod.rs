//! The node agent, as deploy/ has it, in a pod that kubelet runs.

mod daemonset;

use crate::{
    Scenario, alone, enrolled, lands_at_the_sidecar,
    support::{lab::inside, run, stack_pod::Pod},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use self::daemonset::with_agent;

const USER: &str = "system:serviceaccount:mesh-optin:agent";

pub(crate) const SCENARIOS: &[Scenario] = &[
    alone(
        "with the agent a crowd of pods starts at once, and none of them asks the API server anything",
        |s| {
            with_agent(s, |agent| {
                let count = if s.thick { 110 } else { 30 };
                enrolled(s, "crowd");
                let pods: Vec<_> = (0..count)
                    .map(|n| Pod::new("crowd", &format!("p{n}"), "mesh"))
                    .collect();
                let (by_node, started) = (
                    s.cluster
                        .requests_of("system:serviceaccount:mesh-optin:node")
                        .len(),
                    Instant::now(),
                );
                pods.iter().for_each(|pod| s.create(pod));
                pods.iter().for_each(|pod| lands_at_the_sidecar(s, pod));
                let took = started.elapsed();
                assert_eq!(
                    s.cluster
                        .requests_of("system:serviceaccount:mesh-optin:node")
                        .len(),
                    by_node
                );
                let gets: Vec<_> = s
                    .cluster
                    .requests_of(USER)
                    .into_iter()
                    .filter(|r| r.starts_with("get /api/v1/namespaces/crowd"))
                    .collect();
                assert!(gets.is_empty(), "{gets:#?}");
                let redirected = agent.metric(r#"mesh_optin_decisions_total{reason="Redirected"}"#);
                assert!(redirected >= count as f64, "{redirected}");
                s.note(format!(
                    "{count} pods with the agent ran after {:.1} s; it was at {:.1} MB",
                    took.as_secs_f32(),
                    agent.memory()
                ));
                s.delete_all(&pods);
            });
        },
    ),
    alone(
        "no pod is lost or left out while the agent is killed, stopped and recreated",
        |s| {
            with_agent(s, |agent| {
                enrolled(s, "stream");
                let mut pods = Vec::new();
                for round in 0..3 {
                    let more: Vec<_> = (0..6)
                        .map(|n| Pod::new("stream", &format!("p{round}-{n}"), "mesh"))
                        .collect();
                    match round {
                        0 => agent.kill(),
                        1 => agent.delete(),
                        _ => {}
                    }
                    more.iter().for_each(|pod| s.create(pod));
                    if round == 1 {
                        std::thread::sleep(Duration::from_secs(2));
                        agent.create();
                    }
                    more.iter().for_each(|pod| lands_at_the_sidecar(s, pod));
                    agent.ready();
                    pods.extend(more);
                }
                agent.delete();
                let took = s.delete_all(&pods);
                s.note(format!(
                    "without the agent {} pods were gone {:.1} s after their deletion",
                    pods.len(),
                    took.as_secs_f32()
                ));
                assert!(took < Duration::from_secs(30), "{took:?}");
                agent.create();
                agent.ready();
            });
        },
    ),
    alone(
        "the agent tells on the pod that it was redirected and that it drifted, and repairs it",
        |s| {
            with_agent(s, |_agent| {
                s.cluster.apply(
                    &std::fs::read_to_string(concat!(
                        env!("CARGO_MANIFEST_DIR"),
                        "/crds/meshoptin.dev_meshprofiles.yaml"
                    ))
                    .unwrap(),
                );
                let profile = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "default"}, "spec": {"drift": "Repair"}});
                assert!(
                    s.wait_for(|| s
                        .cluster
                        .request(
                            "POST",
                            "/apis/meshoptin.dev/v1alpha1/meshprofiles",
                            &profile
                        )
                        .ok())
                        .is_some()
                );
                let kept = s.path("/var/lib/mesh-optin/profiles/default.yaml");
                assert!(
                    s.wait_for(|| kept.exists().then_some(())).is_some(),
                    "the profile is not taken"
                );
                enrolled(s, "told");
                let pod = Pod::new("told", "web", "mesh");
                s.create(&pod);
                lands_at_the_sidecar(s, &pod);
                let told = |reason: &str| {
                    let event = || s.events(&pod).into_iter().find(|(of, _)| of == reason);
                    s.wait_for(event)
                        .unwrap_or_else(|| panic!("no {reason}: {:?}", s.events(&pod)))
                };
                told("Redirected");
                let netns = mesh_optin::kernel::Netns::open(&s.path(&s.netns(&pod))).unwrap();
                inside(&netns, || {
                    run("nft", &["flush", "table", "inet", "mesh-optin"], "")
                });
                let (_, message) = told("Drifted");
                assert!(message.ends_with("; none: it was repaired"), "{message}");
                assert!(
                    s.wait_for(|| s.answered(&pod).starts_with("15001 ").then_some(()))
                        .is_some(),
                    "{}",
                    s.answered(&pod)
                );
                assert!(
                    inside(&netns, || run("nft", &["list", "ruleset"], ""))
                        .contains("redirect to :15001")
                );
                s.cluster
                    .request(
                        "DELETE",
                        "/apis/meshoptin.dev/v1alpha1/meshprofiles/default",
                        &Value::Null,
                    )
                    .unwrap();
                s.delete(&pod);
            });
        },
    ),
];
