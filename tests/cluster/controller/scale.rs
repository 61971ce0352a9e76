//! Many namespaces, two replicas that are killed while they fill them, and what that costs. `LONG=1` has 10,000 namespaces.

use std::{collections::BTreeMap, time::Instant};

use super::*;

struct Size {
    namespaces: usize,
    nodes: usize,
    kills: usize,
    /// Between two kills: the shortest and the longest time, in milliseconds.
    gap: (u64, u64),
    /// For how long nothing may be written.
    rest: Duration,
    /// Events, and how many of them a second.
    churn: (usize, u32),
}

const SMALL: Size = Size {
    namespaces: 300,
    nodes: 0,
    kills: 5,
    gap: (200, 3000),
    rest: Duration::from_secs(5),
    churn: (30, 10),
};

const LARGE: Size = Size {
    namespaces: 10_000,
    nodes: 5000,
    kills: 50,
    gap: (1000, 18_000),
    rest: Duration::from_secs(60),
    churn: (400, 10),
};

const FOREIGN: [(&str, &str); 3] = [
    ("n0", "{}"),
    ("n1", ""),
    ("n2", r#"{ "type":"mesh-optin" }"#),
];

#[test]
fn replicas_that_are_killed_at_random_fill_many_namespaces() {
    #[allow(clippy::disallowed_methods, reason = "tests/run long sets them")]
    let is_set = |name| std::env::var_os(name).is_some();
    // not with each version of Kubernetes again
    let size = if is_set("LONG") && !is_set("KUBERNETES") {
        LARGE
    } else {
        SMALL
    };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start_with_crds();
    let foreign = objects(&cluster, &size);
    let filling = Instant::now();
    let start = |replica: usize| {
        let (name, port) = [("a", 8131), ("b", 8132)][replica];
        Controller::start(&cluster, name, port, &[])
    };
    let mut replicas = vec![start(0), start(1)];
    let kill = |replicas: &mut Vec<_>, victim: usize| {
        let running: Controller = replicas.remove(victim);
        running.end(Signal::SIGKILL);
        replicas.insert(victim, start(victim));
    };
    for _ in 0..size.kills {
        std::thread::sleep(Duration::from_millis(random.u64(size.gap.0..size.gap.1)));
        kill(&mut replicas, random.usize(0..2));
    }
    let killed = (filling.elapsed(), count(&cluster));
    within(size.longest(), "all attachments are there", || {
        count(&cluster) == size.attachments()
    });
    let filled = filling.elapsed();
    println!(
        "{} attachments from empty in {filled:.1?}; killed {} times in {:.1?}, when {} were there",
        size.attachments(),
        size.kills,
        killed.0,
        killed.1
    );
    for attempt in 1.. {
        until("one leads", || replicas.iter().any(Controller::leads));
        let (at, changes) = (
            usize::from(replicas[1].leads()),
            changes_of_leader(&cluster),
        );
        kill(&mut replicas, 1 - at); // then this one has never led
        let (leader, follower) = (&replicas[at], &replicas[1 - at]);
        until("the other one is ready", || {
            follower.get("/readyz") == "ready\n"
        });
        assert_settled(&cluster, &size);
        assert_at_rest(&cluster, size.rest);
        assert_exactly_these(&cluster, &size, &foreign);
        for (replica, what) in [(leader, "leads"), (follower, "follows")] {
            let [now, most] = replica.memory();
            println!("the one that {what}: {now:.0} MB resident, at most {most:.0} MB");
            assert!(most < 200.0, "deploy/ allows 256 MB");
        }
        churn(&cluster, &size, [leader, follower]);
        if size.nodes > 0 && attempt == 1 {
            many_nodes(&cluster, &size, follower);
        }
        if changes_of_leader(&cluster) == changes {
            assert_eq!(follower.writes(), [""; 0], "the other one writes nothing");
            break;
        }
        assert!(attempt < 3, "the Lease does not stay with one replica");
    }
    let pods = cluster.requests_with("/pods", |event| {
        event["user"]["username"] == crate::support::controller::USER
    });
    assert_eq!(pods, [""; 0], "pods are listed before a removal only");
    if size.nodes > 0 {
        away(&cluster, &size, &replicas);
    }
    assert_exactly_these(&cluster, &size, &foreign);
}

impl Size {
    /// With those of default.
    fn attachments(&self) -> usize {
        self.namespaces + 2
    }

    fn longest(&self) -> Duration {
        Duration::from_secs(120 + self.namespaces as u64 / 5)
    }
}

/// What is there before the controller; the foreign attachments as they are.
fn objects(cluster: &Cluster, size: &Size) -> BTreeMap<&'static str, String> {
    let namespaces = (0..size.namespaces).map(|n| {
        let labels = json!({"team": format!("t{}", n % 4)});
        let object = json!({"metadata": {"name": format!("n{n}"), "labels": labels}});
        ("POST", "/api/v1/namespaces".to_owned(), object)
    });
    cluster.batch(None, &namespaces.collect::<Vec<_>>());
    for (namespace, config) in FOREIGN {
        cluster.create(&attachment_path(namespace, ""), &json!({"apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition", "metadata": {"name": "istio-cni"}, "spec": {"config": config}}));
    }
    for team in 0..3 {
        cluster.profile(&format!("p{team}"), &of_team(&format!("t{team}")));
    }
    cluster.profile("other-name", &json!({"namespaces": {"matchLabels": {"team": "t3"}}, "attachment": {"placement": "PerNamespace", "name": "mesh"}}));
    cluster.profile("rest", &json!({}));
    foreign(cluster)
}

/// The foreign attachments, byte by byte.
fn foreign(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    let text = |namespace| cluster.request_or_nothing(&attachment_path(namespace, "istio-cni"));
    FOREIGN
        .map(|(namespace, _)| (namespace, text(namespace).unwrap()))
        .into()
}

/// How many attachments there are.
fn count(cluster: &Cluster) -> usize {
    let path = format!("{}?limit=1", crate::support::controller::ALL_ATTACHMENTS);
    let list = cluster.request("GET", &path, &Value::Null).unwrap();
    let more = list["metadata"]["remainingItemCount"].as_u64();
    list["items"].as_array().unwrap().len() + more.unwrap_or_default() as usize
}

/// Waits until the profiles say what is there.
fn assert_settled(cluster: &Cluster, size: &Size) {
    let of_team = size.namespaces / 4;
    for (name, (attached, conflicting)) in [
        ("p0", (of_team - 1, 1)),
        ("p1", (of_team, 0)),
        ("p2", (of_team, 0)),
        ("other-name", (of_team, 0)),
    ] {
        let expected =
            json!({"governed": of_team, "attached": attached, "conflicting": conflicting});
        let wanted = if conflicting > 0 { "False" } else { "True" };
        until("the profiles say so", || {
            let path = format!("{PROFILES}/{name}");
            let object = cluster.request("GET", &path, &Value::Null).unwrap();
            object["status"]["namespaces"] == expected
                && cluster.condition(name, "Ready").0 == wanted
        });
    }
    until("the rest is ready", || {
        cluster.condition("rest", "Ready").0 == "True"
    });
    cluster.wait_for_last_write();
}

/// How often the Lease has got another holder.
fn changes_of_leader(cluster: &Cluster) -> Value {
    lease(cluster)["leaseTransitions"].clone()
}

/// Waits, and nothing is written meanwhile.
fn assert_at_rest(cluster: &Cluster, rest: Duration) {
    let before = cluster.writes().len();
    std::thread::sleep(rest);
    let written = cluster.writes();
    println!("{} writes in {rest:?} at rest", written.len() - before);
    assert_eq!(written[before..], [""; 0]);
}

/// Exactly what is wanted is there, and the foreign ones are as they were.
fn assert_exactly_these(cluster: &Cluster, size: &Size, before: &BTreeMap<&'static str, String>) {
    let name = |n: usize| if n % 4 == 3 { "mesh" } else { "istio-cni" };
    let own = (0..size.namespaces).map(|n| (format!("n{n}"), name(n).to_owned()));
    let shared = ["istio-cni", "mesh"].map(|name| ("default".to_owned(), name.to_owned()));
    let mut expected: Vec<_> = own.chain(shared).collect();
    expected.sort();
    let there = cluster.attachments().into_iter();
    let mut names: Vec<_> = there
        .map(|[namespace, name, _]| (namespace, name))
        .collect();
    names.sort();
    assert!(names == expected, "{} are there", names.len());
    assert_eq!(&foreign(cluster), before);
}

/// What changes of namespaces and profiles cost the leader and the other one.
fn churn(cluster: &Cluster, size: &Size, replicas: [&Controller; 2]) {
    let before = replicas.map(Controller::cpu);
    let written = cluster.writes().len();
    let (events, rate) = size.churn;
    let requests = (0..events).map(|n| {
        let namespace = format!("/api/v1/namespaces/n{}", n * 7 % size.namespaces);
        let drift = if n % 20 == 0 { "Repair" } else { "Report" };
        match n % 10 {
            0 => (
                "PATCH",
                format!("{PROFILES}/p1"),
                json!({"spec": {"drift": drift}}),
            ),
            1 => (
                "POST",
                "/api/v1/namespaces".into(),
                json!({"metadata": {"generateName": "x"}}),
            ),
            _ => (
                "PATCH",
                namespace,
                json!({"metadata": {"labels": {"churn": n.to_string()}}}),
            ),
        }
    });
    cluster.batch(Some(rate), &requests.collect::<Vec<_>>());
    let path = format!("{PROFILES}/p1");
    until("the last change of a profile is seen", || {
        let object = cluster.request("GET", &path, &Value::Null).unwrap();
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
    });
    std::thread::sleep(Duration::from_secs(1));
    let cost = [0, 1].map(|n| (replicas[n].cpu() - before[n]) / events as u32);
    println!(
        "{events} changes of namespaces and profiles, {rate} a second: {:.1?} of CPU each where it leads, {:.1?} where it follows; {} writes",
        cost[0],
        cost[1],
        cluster.writes().len() - written
    );
    assert!(cost.iter().all(|cost| *cost < Duration::from_secs(1)));
}

/// What many MeshNodes cost, with as much in each as an agent writes.
fn many_nodes(cluster: &Cluster, size: &Size, follower: &Controller) {
    let [before, _] = follower.memory();
    let at = jiff::Timestamp::now().to_string();
    let kinds = [
        "Ready",
        "ProgramInstalled",
        "PathsVerified",
        "SelfTestPassed",
        "ProfilesKnown",
        "HostCredential",
    ];
    let conditions = kinds.map(|kind| json!({"type": kind, "status": "True", "reason": "AsExpected", "message": "", "lastTransitionTime": at}));
    let problem = |n: usize| json!({"namespace": format!("n{n}"), "pod": format!("a-pod-of-a-deployment-{n}"), "reason": "Drifted", "since": at});
    let problems: Vec<_> = (0..32).map(problem).collect();
    let status = json!({"version": "0.3.0", "lastReport": at, "conditions": conditions, "problems": problems});
    let requests = (0..size.nodes).flat_map(|n| {
        let name = format!("node-{n}");
        let object = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": name}});
        let report = json!({"status": status});
        [("POST", NODES.to_owned(), object), ("PATCH", format!("{NODES}/{name}/status"), report)]
    });
    cluster.batch(None, &requests.collect::<Vec<_>>());
    std::thread::sleep(Duration::from_secs(2));
    let [now, most] = follower.memory();
    println!(
        "{} MeshNodes with 32 problems each: {:.0} MB more, {now:.0} MB resident, at most {most:.0} MB",
        size.nodes,
        now - before
    );
}

/// Without an API server for a minute they neither end nor forget, and afterwards there is nothing to write.
fn away(cluster: &Cluster, size: &Size, replicas: &[Controller]) {
    let attached = || {
        let metric = r#"mesh_optin_attachments{state="attached"}"#;
        replicas
            .iter()
            .map(|of| of.metric(metric))
            .collect::<Vec<_>>()
    };
    let expected = vec![Some((size.attachments() - FOREIGN.len()) as f64); 2];
    assert_eq!(attached(), expected);
    let written = cluster.writes().len();
    cluster.restart(Duration::from_secs(60));
    for replica in replicas {
        assert!(replica.is_running() && replica.get("/readyz") == "ready\n");
    }
    assert_eq!(attached(), expected);
    until("the API server is back", || {
        cluster.request_or_nothing("/readyz").is_some()
    });
    within(Duration::from_secs(120), "one leads again", || {
        replicas.iter().any(Controller::leads)
    });
    std::thread::sleep(Duration::from_secs(60));
    let written = &cluster.writes()[written..];
    println!("{} writes after 60 s without an API server", written.len());
    assert_eq!(written, [""; 0]);
    assert_eq!(attached(), expected);
}
