//! For any text at all: an error, or a plan of parsed values.

use std::cell::Cell;

use mesh_optin::{
    mesh::{Attachment, Decision, Namespace, annotation, decide},
    plan::{
        Plan, PodNetwork,
        ipt::{self, Match, Target},
        summary,
    },
    profile::Profile,
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::support::data::injected;

const ANNOTATIONS: [&str; 14] = [
    "sidecar.istio.io/inject",
    "sidecar.istio.io/interceptionMode",
    "status.sidecar.istio.io/port",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "istio.io/reroute-virtual-interfaces",
    "istio.io/rev",
    annotation::NETWORKS,
];
const VARIABLES: [&str; 5] = [
    "DISABLE_ENVOY",
    "ISTIO_META_DNS_CAPTURE",
    "ISTIO_DUAL_STACK",
    "INVALID_DROP",
    "ISTIO_META_INTERCEPTION_MODE",
];

/// Text of any kind, much of it nearly valid.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        3 => "[-0-9a-fA-F:./,* \t\n!+x]{0,40}",
        1 => "[0-9]{1,5}(,[0-9]{1,5}){0,4}(;| -j ACCEPT|\nCOMMIT\n|`id`|\\$\\(id\\)|\u{0}|\u{202e})?",
        1 => "(lo|eth0|net1)?[ ,\"'@%+*]{0,3}(return|accept|-j|ct|meta)?",
        1 => Just("TPROXY".to_owned()),
    ]
}

#[test]
fn arbitrary_text_is_an_error_or_a_plan_and_never_a_word_of_a_rule() {
    let annotations = proptest::collection::vec((0..ANNOTATIONS.len(), any_text()), 0..5);
    let env = proptest::collection::vec((0..VARIABLES.len(), any_text()), 0..3);
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(3000)
    });
    let plans = Cell::new(0);
    let tried = runner.run(
        &(annotations, env, any::<bool>()),
        |(annotations, env, v6)| {
            let annotations: Vec<_> = annotations
                .iter()
                .map(|(k, v)| (ANNOTATIONS[*k], v.as_str()))
                .collect();
            let env: Vec<_> = env
                .iter()
                .map(|(k, v)| (VARIABLES[*k], v.as_str()))
                .collect();
            let pod = injected(&annotations, &env);
            let decided = decide(
                &pod,
                &Namespace::default(),
                Ok(&Profile::built_in()),
                &Attachment::default(),
            );
            let Decision::Redirect(intent) = decided.decision else {
                return Ok(());
            };
            let network = PodNetwork::of_eth0(!v6, v6);
            let Ok(plan) = Plan::new(&intent, &network) else {
                return Ok(());
            };
            plans.set(plans.get() + 1);
            plan.captures();
            let printable = |text: &str| {
                text.chars()
                    .all(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n' | '\t'))
            };
            prop_assert!(printable(&plan.nftables().to_string()));
            for family in plan.families.captured() {
                let rules = plan.iptables(family);
                let text = rules.to_string();
                prop_assert!(printable(&text));
                // every word of it is one that a reader understands: as a dump it is the same rules again
                let line = |line: &str| match line.split_once(' ') {
                    Some(("-N", chain)) => format!(":{chain} -\n"),
                    _ if line.starts_with('*') => {
                        format!("{line}\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n")
                    }
                    _ => format!("{line}\n"),
                };
                let parsed = ipt::parse(family, &text.lines().map(line).collect::<String>());
                let all = parsed
                    .tables
                    .iter()
                    .flat_map(|t| &t.chains)
                    .flat_map(|c| &c.rules);
                for rule in all {
                    prop_assert!(
                        !rule.matches.iter().any(|m| matches!(m, Match::Other(_)))
                            && !matches!(rule.target, Target::Other(_)),
                        "{rule}"
                    );
                }
                prop_assert_eq!(summary(&ipt::compare(&rules, Some(&parsed))), None);
            }
            Ok(())
        },
    );
    tried.unwrap();
    assert!(
        (300..2700).contains(&plans.get()),
        "of 3000 texts {plans:?} gave a plan"
    );
}
