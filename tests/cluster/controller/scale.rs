//! Many namespaces, and a controller that is killed while it fills them.

use std::{collections::BTreeMap, time::Instant};

use super::*;

const NAMESPACES: usize = 300;

#[test]
fn three_hundred_namespaces_are_filled_by_a_controller_that_is_killed_a_dozen_times() {
    let cluster = Cluster::start_with_crds();
    let mut list = String::new();
    for n in 0..NAMESPACES {
        let team = n % 4;
        list.push_str(&format!("{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": \"n{n}\", \"labels\": {{\"team\": \"t{team}\"}}}}}}\n---\n"));
    }
    cluster.apply(&list);
    let mut foreign = BTreeMap::new();
    for (namespace, config) in [("n0", "{}"), ("n1", ""), ("n2", r#"{"type":"mesh-optin"}"#)] {
        let made = cluster.create(&attachment_path(namespace, ""), &json!({"apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition", "metadata": {"name": "istio-cni"}, "spec": {"config": config}}));
        foreign.insert(namespace, made);
    }
    for team in 0..3 {
        cluster.profile(&format!("p{team}"), &of_team(&format!("t{team}")));
    }
    cluster.profile("other-name", &json!({"namespaces": {"matchLabels": {"team": "t3"}}, "attachment": {"placement": "PerNamespace", "name": "mesh"}}));
    cluster.profile("rest", &json!({}));
    let started = Instant::now();
    let mut kills = 0_u64;
    while kills < 12 {
        let controller = Controller::start(&cluster, "a", 8131, &[]);
        std::thread::sleep(Duration::from_millis(400 + kills * 7919 % 1600));
        controller.end(Signal::SIGKILL);
        kills += 1;
    }
    let killed = started.elapsed();
    let before = cluster.attachments().len();
    let controller = Controller::start(&cluster, "a", 8131, &[]);
    for profile in ["p1", "p2", "other-name", "rest"] {
        cluster.enter(&[
            "kubectl",
            "wait",
            "--for=condition=Ready",
            &format!("meshprofile/{profile}"),
            "--timeout=120s",
        ]);
    }
    until("the conflict is reported", || {
        cluster.condition("p0", "Ready").1 == "ConflictingAttachment"
    });
    let memory = std::fs::read_to_string(format!("/proc/{}/status", controller.pid)).unwrap();
    let memory = memory
        .lines()
        .find(|l| l.starts_with("VmHWM"))
        .unwrap()
        .to_owned();
    println!(
        "killed {kills} times in {killed:?} with {before} attachments there, all right after {:?}; {memory}",
        started.elapsed()
    );
    // exactly these, and the foreign ones as they were
    let mut expected: Vec<_> = (0..NAMESPACES)
        .map(|n| {
            (
                format!("n{n}"),
                if n % 4 == 3 { "mesh" } else { "istio-cni" }.to_owned(),
            )
        })
        .collect();
    expected.extend(["istio-cni", "mesh"].map(|name| ("default".to_owned(), name.to_owned())));
    expected.sort();
    let there = cluster.attachments();
    let mut names: Vec<_> = there
        .iter()
        .map(|[namespace, name, _]| (namespace.clone(), name.clone()))
        .collect();
    names.sort();
    assert_eq!(names, expected);
    for (namespace, made) in &foreign {
        assert_eq!(
            cluster.attachment(namespace, "istio-cni").as_ref(),
            Some(made),
            "{namespace}"
        );
    }
    // at rest nothing is written
    std::thread::sleep(Duration::from_secs(6));
    let (writes, versions) = (cluster.writes().len(), cluster.attachments());
    std::thread::sleep(Duration::from_secs(20));
    let now = cluster.writes();
    assert_eq!(now.len(), writes, "{:?}", &now[writes..]);
    assert_eq!(cluster.attachments(), versions);
    let asked = crate::support::controller::USER;
    let pods = cluster
        .requests_of(asked)
        .into_iter()
        .filter(|r| r.contains("/pods"))
        .count();
    assert_eq!(pods, 0, "pods are listed at a removal only");
}
