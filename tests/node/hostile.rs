//! What a tenant can write into a NAD.

use serde_json::json;

use crate::{Scenario, alone, lands_at_the_sidecar, support::stack_pod::Pod};

pub(crate) const SCENARIOS: &[Scenario] = &[alone(
    "hostile NADs are named in the event and change nothing on the node",
    |s| {
        s.cluster
            .namespace("hostile", &json!({"istio-injection": "enabled"}));
        let before = s.own_files();
        let nest = |open: &str, close: &str, depth| {
            format!("{}1{}", open.repeat(depth), close.repeat(depth))
        };
        let mesh_optin = |text: &str| format!(r#""meshOptin":{text}"#);
        let nad = |text: &str| {
            format!(r#"{{"cniVersion":"1.1.0","name":"m","type":"mesh-optin",{text}}}"#)
        };
        // a name, what the NAD says, what the event says
        let cases = [
            (
                "path",
                mesh_optin(r#"{"credential":"/etc/shadow"}"#),
                "InvalidAttachment: meshOptin: unknown field `credential`",
            ),
            (
                "path-as-name",
                mesh_optin(r#"{"profile":"../../../../etc/shadow"}"#),
                "UnknownProfile: ",
            ),
            (
                "type-of-value",
                mesh_optin(r#"{"traffic":{"excludeOutboundPorts":80}}"#),
                "InvalidAttachment: meshOptin: ",
            ),
            (
                "type-of-object",
                mesh_optin(r#"{"traffic":"*"}"#),
                "InvalidAttachment: meshOptin: ",
            ),
            (
                "text",
                mesh_optin(r#"{"traffic":{"excludeInterfaces":"x; reboot"}}"#),
                "InvalidAttachment: meshOptin: ",
            ),
            (
                "a-text",
                mesh_optin(r#""/bin/sh""#),
                "InvalidAttachment: meshOptin is not an object",
            ),
            (
                "a-list",
                mesh_optin(r#"["default",{}]"#),
                "InvalidAttachment: meshOptin is not an object",
            ),
            (
                "a-number",
                mesh_optin("7"),
                "InvalidAttachment: meshOptin is not an object",
            ),
            (
                "long",
                mesh_optin(&format!(r#"{{"profile":"{}"}}"#, "x".repeat(60_000))),
                "InvalidAttachment: meshOptin.profile: ",
            ),
            (
                "huge",
                mesh_optin(&format!(r#"{{"profile":"{}"}}"#, "x".repeat(1_000_000))),
                "InvalidAttachment: the network configuration is larger than ",
            ),
            (
                "longer",
                mesh_optin(&format!(r#"{{"profile":"{}"}}"#, "x".repeat(100_000))),
                "InvalidAttachment: meshOptin is larger than ",
            ),
            (
                "deep",
                mesh_optin(&nest(r#"{"traffic":"#, "}", 5_000)),
                "InvalidAttachment: meshOptin: ",
            ),
        ];
        // what is not ours is none of our business
        s.attachment(
            "hostile",
            "elsewhere",
            Some(&nad(&format!(r#""other":{}"#, nest("[", "]", 5_000)))),
        );
        let elsewhere = Pod::new("hostile", "elsewhere", "elsewhere");
        s.create(&elsewhere);
        let pods: Vec<_> = cases
            .iter()
            .map(|(name, _, _)| Pod::new("hostile", name, name))
            .collect();
        for ((name, text, _), pod) in cases.iter().zip(&pods) {
            s.attachment("hostile", name, Some(&nad(text)));
            s.create(pod);
        }
        let wrong: Vec<_> = cases
            .iter()
            .zip(&pods)
            .map(|((_, _, part), pod)| (part, s.refused(pod)))
            .filter(|(part, message)| !message.get(..1024).unwrap_or(message).contains(**part))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        lands_at_the_sidecar(s, &elsewhere);
        s.delete_all(&pods);
        assert_eq!(s.own_files(), before);
    },
)];
