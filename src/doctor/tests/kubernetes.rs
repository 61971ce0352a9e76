use serde_json::json;

use super::{healthy::of, *};

/// The status of the container of Multus's pod.
fn of_multus(facts: &mut Facts, status: &serde_json::Value) {
    let pods = facts.multus_pods.as_mut().unwrap().as_mut().unwrap();
    let (mut status, other) = (status.clone(), json!({"name": "other", "restartCount": 99}));
    status["name"] = json!("kube-multus");
    pods[0].status.container_statuses = of(json!([other, status]));
}

#[test]
fn what_is_wrong_with_kubernetes_and_multus_is_named_with_its_remedy() {
    let agent_flag = |f: &mut Facts| {
        let agent = daemon_set(f, "mesh-optin-agent");
        let flag = "--cni-bin-dir=/var/lib/cni/bin".to_owned();
        agent.spec.template.spec.containers[0].args.push(flag);
    };
    each_is_named(&[
        (
            |f| f.version = "v1.30.9".into(),
            Check::KubernetesVersion,
            CheckOutcome::Error,
            "v1.30.9",
            "upgrade Kubernetes",
        ),
        (
            |f| f.here = f.now() + jiff::SignedDuration::from_secs(61),
            Check::ClockSkew,
            CheckOutcome::Warning,
            "61 s ahead",
            "NTP",
        ),
        (
            |f| {
                f.daemon_sets
                    .as_mut()
                    .unwrap()
                    .as_mut()
                    .unwrap()
                    .retain(|d| d.metadata.name != "kube-multus-ds");
                node(f).status.multus.mode.clear();
            },
            Check::MultusInstalled,
            CheckOutcome::Error,
            "none of them runs Multus",
            "install Multus 4",
        ),
        (
            |f| daemon_set(f, "kube-multus-ds").status.number_ready = 0,
            Check::MultusInstalled,
            CheckOutcome::Warning,
            "0 of 1 nodes",
            "rollout status daemonset/kube-multus-ds",
        ),
        (
            |f| {
                daemon_set(f, "kube-multus-ds")
                    .spec
                    .template
                    .spec
                    .containers[0]
                    .image = "x/multus-cni:v3.9.3".into()
            },
            Check::MultusVersion,
            CheckOutcome::Error,
            "older than 4.0",
            "upgrade Multus",
        ),
        (
            |f| {
                daemon_set(f, "kube-multus-ds")
                    .spec
                    .template
                    .spec
                    .containers[0]
                    .image = "x/multus-cni:v4.2.1-thick".into()
            },
            Check::MultusVersion,
            CheckOutcome::Warning,
            "older than 4.3",
            "upgrade Multus",
        ),
        (
            agent_flag,
            Check::MultusBinDir,
            CheckOutcome::Error,
            "agents use /var/lib/cni/bin",
            "platform or paths",
        ),
        (
            |f| multus_config(f, &json!({"binDir": "/usr/libexec/cni/"})),
            Check::MultusBinDir,
            CheckOutcome::Error,
            "Multus looks in /usr/libexec/cni,",
            "platform or paths",
        ),
        (
            |f| condition(f, "ProgramInstalled", "False", "it is another program"),
            Check::MultusBinDir,
            CheckOutcome::Error,
            "node n1: it is another program",
            "paths",
        ),
        (
            |f| condition(f, "PathsVerified", "False", "Multus looks elsewhere"),
            Check::MultusConfDir,
            CheckOutcome::Error,
            "node n1: Multus looks elsewhere",
            "paths",
        ),
        (
            |f| {
                daemon_set(f, "kube-multus-ds")
                    .spec
                    .template
                    .spec
                    .containers[0]
                    .volume_mounts
                    .clear()
            },
            Check::MultusConfDir,
            CheckOutcome::Warning,
            "does not mount /etc/cni/multus/net.d",
            "mount /etc/cni/multus/net.d",
        ),
        (
            |f| {
                multus_config(
                    f,
                    &json!({"namespaceIsolation": true, "globalNamespaces": "kube-system, infra"}),
                )
            },
            Check::NamespaceIsolation,
            CheckOutcome::Error,
            "may not name the shared attachment",
            "globalNamespaces",
        ),
        (
            |f| {
                let multus = daemon_set(f, "kube-multus-ds");
                let resources = &mut multus.spec.template.spec.containers[0].resources;
                resources.limits.insert("memory".into(), "100Mi".into());
                of_multus(
                    f,
                    &json!({"restartCount": 11, "lastState": {"terminated": {"reason": "OOMKilled"}}}),
                )
            },
            Check::MultusMemory,
            CheckOutcome::Warning,
            "DaemonSet kube-system/kube-multus-ds: the kernel has killed it for want of memory on nodes n1",
            "200Mi",
        ),
        (
            |f| {
                of_multus(
                    f,
                    &json!({"state": {"terminated": {"reason": "OOMKilled"}}}),
                )
            },
            Check::MultusMemory,
            CheckOutcome::Warning,
            "the kernel has killed it for want of memory on nodes n1",
            "its container has no limit",
        ),
        (
            |f| of_multus(f, &json!({"restartCount": 11})),
            Check::MultusMemory,
            CheckOutcome::Advice,
            "its pods kube-multus-ds-x were restarted more than 10 times, reboots of their nodes included",
            "kubectl -n kube-system logs --previous kube-multus-ds-x",
        ),
    ]);
}

#[test]
fn isolation_that_lets_default_through_is_no_finding() {
    for config in [
        json!({"namespaceIsolation": true}),
        json!({"namespaceIsolation": true, "globalNamespaces": "x, default"}),
        json!({"globalNamespaces": "x"}),
    ] {
        let mut facts = healthy();
        multus_config(&mut facts, &config);
        assert!(
            Check::NamespaceIsolation.look(&facts).findings.is_empty(),
            "{config}"
        );
    }
}

#[test]
fn little_memory_for_many_pods_is_named() {
    fn limited(facts: &mut Facts, limit: &str, pods: usize) {
        let multus = daemon_set(facts, "kube-multus-ds");
        let limits = &mut multus.spec.template.spec.containers[0].resources.limits;
        limits.insert("memory".into(), limit.into());
        let all = facts.pods.as_mut().unwrap().as_mut().unwrap();
        *all = vec![all[0].clone(); pods];
    }
    let check = |limit, pods| {
        let mut facts = healthy();
        limited(&mut facts, limit, pods);
        Check::MultusMemory.look(&facts).findings
    };
    for limit in ["50Mi", "50M", "51200Ki", "52428800"] {
        let [found] = check(limit, 51).try_into().unwrap();
        assert_eq!(found.severity, CheckOutcome::Warning);
        assert_eq!(found.object, "DaemonSet kube-system/kube-multus-ds");
        assert!(found.message.ends_with("more than 50 pods on nodes n1"));
        assert!(found.remedy.contains("200Mi"));
        assert_eq!(check(limit, 50), [], "{limit}");
    }
    for limit in ["51Mi", "1Gi", "1G", "100000k", "52428801"] {
        assert_eq!(check(limit, 100), [], "{limit}");
    }
    let mut facts = healthy();
    limited(&mut facts, "50Mi", 100);
    // thin Multus is a process of the runtime
    let container = &mut daemon_set(&mut facts, "kube-multus-ds")
        .spec
        .template
        .spec
        .containers[0];
    container.command = vec!["/thin_entrypoint".into()];
    container.image = "x/multus-cni:v4.3.0".into();
    of_multus(
        &mut facts,
        &json!({"lastState": {"terminated": {"reason": "OOMKilled"}}}),
    );
    assert_eq!(Check::MultusMemory.look(&facts).findings, []);
    let unknown: [fn(&mut Facts); 2] = [
        |f| f.scope = Some("team-a".into()),
        |f| limited(f, "53687091200m", 100),
    ];
    for hides in unknown {
        let mut facts = healthy();
        limited(&mut facts, "50Mi", 100);
        hides(&mut facts);
        let outcome = Check::MultusMemory.look(&facts).outcome();
        assert_eq!(outcome, CheckOutcome::Unknown);
    }
}

#[test]
fn versions_that_live_nodes_report_count_and_the_tag_where_one_says_none() {
    let mut facts = healthy();
    let image = |facts: &mut Facts, tag: &str| {
        let template = &mut daemon_set(facts, "kube-multus-ds").spec.template;
        template.spec.containers[0].image = format!("x/multus-cni{tag}");
    };
    let nodes = |facts: &mut Facts, versions: &[&str]| {
        let template = node(facts).clone();
        let all = versions.iter().enumerate().map(|(n, version)| {
            let mut node = template.clone();
            node.metadata.name = format!("n{n}");
            node.status.multus.version = (*version).into();
            node
        });
        facts.mesh_nodes = Ok(Some(all.collect()));
    };
    let said = |facts: &Facts| {
        let looked = Check::MultusVersion.look(facts);
        let found = looked
            .findings
            .iter()
            .map(|f| format!("{}: {}", f.object, f.message));
        (looked.outcome(), found.collect::<Vec<_>>())
    };
    image(&mut facts, "@sha256:aa");
    nodes(&mut facts, &["v4.3.0", "4.4.1"]);
    assert_eq!(said(&facts), (CheckOutcome::Ok, vec![]));
    nodes(&mut facts, &["v4.3.0", "v4.2.1", "v3.9.3", "v4.2.2"]);
    let found = [
        "nodes n2: Multus 3.9 is older than 4.0",
        "nodes n1, n3: Multus 4.2 is older than 4.3",
    ];
    assert_eq!(
        said(&facts),
        (CheckOutcome::Error, found.map(Into::into).to_vec())
    );
    nodes(&mut facts, &["v4.3.0", ""]);
    assert_eq!(said(&facts).0, CheckOutcome::Unknown, "one does not say");
    image(&mut facts, ":v4.3.0-thick");
    assert_eq!(said(&facts), (CheckOutcome::Ok, vec![]));
    nodes(&mut facts, &["v4.2.1"]);
    node(&mut facts).status.last_report = Some("2020-01-01T00:00:00Z".into());
    assert_eq!(said(&facts), (CheckOutcome::Ok, vec![]), "it is silent");
}
