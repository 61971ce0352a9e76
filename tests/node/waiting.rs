//! What is missing or broken on the node: pods wait, and start when it is back.

use crate::{Scenario, alone, enrolled, lands_at_the_sidecar, support::stack_pod::Pod};

pub(crate) const SCENARIOS: &[Scenario] = &[
    alone(
        "a pod waits while the credential is missing, and starts when it is back",
        |s| {
            enrolled(s, "credential");
            let pod = Pod::new("credential", "web", "mesh");
            let message = s.while_changed("/var/lib/mesh-optin/api/token", None, || {
                s.create(&pod);
                s.refused(&pod)
            });
            assert!(
                message.contains("NoSource: ") || message.contains("NodeConfigInvalid: "),
                "{message}"
            );
            lands_at_the_sidecar(s, &pod);
        },
    ),
    alone(
        "a pod waits while the node's configuration is broken, and starts when it is repaired; one that is deleted meanwhile goes away",
        |s| {
            enrolled(s, "broken");
            let (stays, goes) = (
                Pod::new("broken", "stays", "mesh"),
                Pod::new("broken", "goes", "mesh"),
            );
            s.while_changed("/etc/mesh-optin/node.yaml", Some("deadlin: 5s"), || {
                for pod in [&stays, &goes] {
                    s.create(pod);
                    let message = s.refused(pod);
                    assert!(
                        message.contains("NodeConfigInvalid: ") && message.contains("deadlin"),
                        "{message}"
                    );
                }
                s.delete_at_first_attempt(std::slice::from_ref(&goes));
            });
            lands_at_the_sidecar(s, &stays);
        },
    ),
    alone(
        "a pod waits while the program is missing, and starts when it is back",
        |s| {
            enrolled(s, "program");
            let pod = Pod::new("program", "web", "mesh");
            let message = s.while_changed("/mnt/cni/bin/mesh-optin", None, || {
                s.create(&pod);
                s.refused(&pod)
            });
            assert!(message.contains("mesh-optin"), "{message}");
            lands_at_the_sidecar(s, &pod);
        },
    ),
];
