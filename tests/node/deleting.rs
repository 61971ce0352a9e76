//! DEL: whatever is down or broken, pods go within seconds.

use std::time::{Duration, Instant};

use crate::{
    Scenario, alone, are_redirected, enrolled, is_redirected, support::stack_pod::Pod, together,
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    together(
        "a pod whose network namespace is gone already is deleted, and so is its record",
        |s| {
            enrolled(s, "netns-gone");
            let pod = Pod::new("netns-gone", "web", "mesh");
            is_redirected(s, &pod);
            let path = s.netns(&pod);
            s.cluster.enter(&["umount", "--lazy", &path]);
            s.cluster.enter(&["rm", &path]);
            s.delete_at_first_attempt(std::slice::from_ref(&pod));
            s.has_no_record(&pod);
        },
    ),
    alone(
        "pods are deleted while the API credential and the node's configuration are broken",
        |s| {
            enrolled(s, "del");
            let pods: Vec<_> = (0..10)
                .map(|n| Pod::new("del", &format!("p{n}"), "mesh"))
                .collect();
            are_redirected(s, &pods);
            s.while_changed("/etc/mesh-optin/node.yaml", Some("["), || {
                s.while_changed("/var/lib/mesh-optin/api/token", Some("nonsense"), || {
                    s.delete_at_first_attempt(&pods)
                })
            });
        },
    ),
    alone(
        "without an API server a deleted pod's sandbox ends within seconds, and the pod when it is back",
        |s| {
            enrolled(s, "no-api");
            let pod = Pod::new("no-api", "web", "mesh").ends_after(3);
            is_redirected(s, &pod);
            let netns = s.path(&s.netns(&pod));
            s.mark_deleted(&pod);
            let is_killing = || s.events(&pod).iter().any(|(reason, _)| reason == "Killing");
            let knows = s.wait_for(|| is_killing().then_some(()));
            assert!(
                knows.is_some(),
                "kubelet has not heard: {:?}",
                s.events(&pod)
            );
            let took = s.without_api_server(|| {
                let started = Instant::now();
                // the runtime removes it once DEL has succeeded
                assert!(
                    s.wait_for(|| (!netns.exists()).then_some(())).is_some(),
                    "the network namespace is still there"
                );
                started.elapsed()
            });
            let started = Instant::now();
            assert!(
                s.wait_for(|| s.get(&pod).is_none().then_some(())).is_some(),
                "the pod is not gone"
            );
            s.note(format!(
            "without the API server a sandbox ended after {:.1} s (3 s of them its application's), the pod {:.1} s after it was back",
            took.as_secs_f32(),
            started.elapsed().as_secs_f32()
        ));
            assert!(took < Duration::from_secs(40), "{took:?}");
        },
    ),
    alone("50 pods at once are redirected, and deleted at once", |s| {
        enrolled(s, "fifty");
        let pods: Vec<_> = (0..50)
            .map(|n| Pod::new("fifty", &format!("p{n}"), "mesh"))
            .collect();
        let started = Instant::now();
        are_redirected(s, &pods);
        let up = started.elapsed();
        let took = s.delete_at_first_attempt(&pods);
        s.note(format!(
            "50 pods ran after {:.1} s, and were gone {:.1} s after their deletion",
            up.as_secs_f32(),
            took.as_secs_f32()
        ));
        // a record goes with its network namespace's end, whenever a later call looks
        let last = Pod::new("fifty", "last", "mesh");
        is_redirected(s, &last);
        s.delete(&last);
        pods.iter().for_each(|pod| s.has_no_record(pod));
    }),
];
