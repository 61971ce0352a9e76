//! The node agent, as deploy/ has it, in a pod that kubelet runs.

pub(crate) mod daemonset;
mod footprint;
pub(crate) mod helm;
mod hollow;
mod manifests;
mod removals;
mod rollout;
pub(crate) mod tenant;
mod upgrades;

use crate::{
    Scenario, alone, enrolled, lands_at_the_sidecar,
    support::{lab::inside, run, stack_pod::Pod},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) use self::daemonset::{Agent, import_image, with_agent};

const USER: &str = "system:serviceaccount:mesh-optin:agent";

pub(crate) const SCENARIOS: &[Scenario] = &[
    hollow::SCENARIO,
    rollout::SCENARIO,
    helm::SCENARIO,
    tenant::SCENARIO,
    upgrades::SCENARIO,
    removals::SCENARIO,
    manifests::SCENARIO,
    alone(
        "with the agent a crowd of pods starts at once, and only their namespace is read",
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
                // it has read their namespace when they appeared; those that came meanwhile shared a read
                let of_crowd = "get /api/v1/namespaces/crowd";
                let requests = s.cluster.requests_of(USER);
                let gets: Vec<_> = requests
                    .iter()
                    .filter(|r| r.starts_with(of_crowd))
                    .collect();
                // one for each pod at most, and one for each ADD that had to be tried again
                let adds = ["cache", "watch", "api"]
                    .map(|from| {
                        agent.metric(&format!("mesh_optin_look_ups_total{{source=\"{from}\"}}"))
                    })
                    .iter()
                    .sum::<f64>();
                assert!(
                    gets.iter().all(|get| *get == of_crowd) && gets.len() as f64 <= adds,
                    "{adds} ADDs: {gets:#?}"
                );
                let redirected = agent.metric(r#"mesh_optin_adds_total{outcome="redirected",reason="Redirected",source="agent"}"#);
                assert!(redirected >= count as f64, "{redirected}");
                s.note(format!(
                    "{count} pods with the agent ran after {:.1} s; it read their namespace {} times, and was at {:.1} MB",
                    took.as_secs_f32(),
                    gets.len(),
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
                // a directory that it has mounted is removed on the node: it mounts the one that is created there next
                let restarts = || {
                    let pod = s.get(&agent.pod)?;
                    pod["status"]["containerStatuses"][0]["restartCount"].as_u64()
                };
                let before = restarts();
                s.cluster.enter(&["rm", "-rf", "/run/mesh-optin"]);
                let started = s.wait_for(|| (restarts() > before).then_some(()));
                assert!(started.is_some(), "{:?}", s.log(&agent.pod, "agent"));
                agent.ready();
                let after = Pod::new("stream", "after-a-removal", "mesh");
                s.create(&after);
                lands_at_the_sidecar(s, &after);
                pods.push(after);
                agent.delete();
                let took = s.delete_at_first_attempt(&pods);
                s.note(format!(
                    "without the agent {} pods were gone {:.1} s after their deletion",
                    pods.len(),
                    took.as_secs_f32()
                ));
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
                // the commands of a node find it in the agent's container
                let in_container = |command: &[&str]| {
                    let exec = [
                        "kubectl",
                        "exec",
                        "-n",
                        "mesh-optin",
                        "agent",
                        "--",
                        "/mesh-optin",
                    ];
                    s.cluster.enter(&[&exec[..], command].concat())
                };
                let verified = in_container(&["verify", "--all"]);
                assert!(
                    verified.contains("Pod told/web is redirected as it should be"),
                    "{verified}"
                );
                let explained = in_container(&["explain", "web", "-n", "told"]);
                assert!(
                    explained.contains("Pod told/web was redirected.")
                        && explained.contains("On this node: redirected at "),
                    "{explained}"
                );
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
