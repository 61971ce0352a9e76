//! The iptables form is Istio's, also as a kernel dumps it.

use mesh_optin::{
    mesh::{Namespace, Pod},
    plan::{Plan, PodNetwork, packet::Family},
    profile::Profile,
};

use crate::support::{
    data::intent_in,
    in_new_netns, run,
    worked::{Dump, combinations::combinations, dump, examples::examples},
};

/// The rules in a kernel, loaded and dumped by iptables itself.
fn loaded(text: &str, family: Family, variant: &str) -> Dump {
    let prefix = match family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    in_new_netns(|| {
        run(&format!("{prefix}-{variant}-restore"), &[], text);
        dump(&run(&format!("{prefix}-{variant}-save"), &[], ""))
    })
}

#[test]
fn the_nine_worked_examples_load_into_the_rules_that_istio_programs() {
    let mut compared = 0;
    for example in examples() {
        let (pod, namespace) = example.pod();
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let has = |v6: bool| example.ips.iter().any(|ip| ip.contains(':') == v6);
        let network = PodNetwork::of_eth0(has(false), has(true));
        let intent = intent_in(&pod, &namespace, &Profile::built_in());
        let plan = Plan::new(&intent, &network).unwrap();
        for (family, expected) in example.expected() {
            let text = plan.iptables(family).to_string();
            for variant in ["nft", "legacy"] {
                let ours = example.uncorrected(loaded(&text, family, variant));
                assert_eq!(ours, expected, "{} {family:?} {variant}", example.name);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * 12);
}

#[test]
fn combinations_of_the_options_load_into_the_rules_of_istio() {
    let mut compared = 0;
    for case in combinations().iter().skip(6).step_by(7) {
        let loaded = loaded(&case.text, case.family, "nft");
        assert_eq!(loaded, case.expected, "{}", case.name);
        compared += 1;
    }
    assert_eq!(compared, 123);
}
