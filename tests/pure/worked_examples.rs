//! The iptables form is Istio's: its nine worked examples, and every combination of their options.

use mesh_optin::plan::packet::Family;

use crate::{
    cli::mesh_optin,
    support::worked::{combinations::combinations, dump, examples::examples},
};

#[test]
fn the_nine_worked_examples_are_the_rules_that_istio_programs() {
    let mut compared = 0;
    for example in examples() {
        let (pod, namespace) = example.pod();
        let directory = tempfile::tempdir().unwrap();
        for (name, object) in [("pod", pod), ("namespace", namespace)] {
            let path = directory.path().join(format!("{name}.json"));
            std::fs::write(path, object.to_string()).unwrap();
        }
        for (family, expected) in example.expected() {
            let word = if family == Family::Ipv4 { "v4" } else { "v6" };
            let (code, text, error) = mesh_optin(&[
                "rules",
                "-f",
                directory.path().to_str().unwrap(),
                "--format",
                "iptables",
                "--family",
                word,
            ]);
            assert_eq!(code, 0, "{}: {error}", example.name);
            let ours = example.uncorrected(dump(&text));
            assert_eq!(ours, expected, "{} {word}", example.name);
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
}

#[test]
fn every_combination_of_the_options_gives_the_rules_of_istio() {
    for case in combinations() {
        assert_eq!(dump(&case.text), case.expected, "{}", case.name);
    }
}
