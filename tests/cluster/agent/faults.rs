//! An API server that fails: how often the agent asks again, what it logs, and that it recovers by itself.

use super::*;
use crate::support::{lab::inside, proxy::Proxy, run};

/// What happens to requests for pods, and for how many seconds; the least time to the first retry; which requests are retried.
const FAULTS: [(&str, u64, f64, &str); 8] = [
    ("answer watch 429", 15, 0.0, "watch"),
    ("answer list 429", 15, 0.0, "list"),
    ("answer list 429 6", 15, 6.0, "list"),
    ("answer list 403", 15, 0.0, "list"),
    ("answer list 404", 15, 0.0, "list"),
    ("answer list 500", 15, 0.0, "list"),
    // as the API server answers what takes too long
    ("answer list 504", 15, 0.0, "list"),
    // an answer that never begins is given up after 75 s
    ("stall list", 90, 75.0, "list"),
];

#[test]
fn failures_are_retried_after_growing_pauses_and_logged_once() {
    std::thread::scope(|scope| {
        for (n, fault) in FAULTS.into_iter().enumerate() {
            scope.spawn(move || {
                on_node_with_agent(|node| breaks_and_recovers(node, n, fault));
            });
        }
    });
}

fn breaks_and_recovers(node: &Node, n: usize, fault: (&str, u64, f64, &str)) {
    let (fault, seconds, wait, tried) = fault;
    let (name, port) = (format!("fault-{n}"), (7460 + n).to_string());
    let mut proxy = Proxy::start(cluster(), "faults", &[&port]);
    let agent = Agent::start_at(node, cluster(), &name, &port, &[]).ready();
    proxy.tell(fault);
    std::thread::sleep(Duration::from_secs(seconds));
    proxy.tell("pass");
    let pod = cluster().create_pod_on(&name, "defaults", &name);
    let lab = node.pod("a", V4);
    until(
        || add(node, cluster(), &lab.netns, &cni_args(&pod)).logged_reason() == "Redirected",
        || format!("{fault}: {}", agent.get("/readyz")),
    );
    // a watch or a list brings it, after the last pause
    let is_heard =
        || agent.metric("mesh_optin_cached_pods") == 1.0 && agent.get("/readyz") == "ready\n";
    until_within(90, is_heard, || {
        format!("{fault}: {}", agent.get("/readyz"))
    });

    let log = agent.end(Signal::SIGTERM);
    let told: Vec<_> = log
        .lines()
        .filter(|l| l.contains("watching pods"))
        .collect();
    assert!(
        (1..=3).contains(&told.len()),
        "{fault}: it begins, changes, ends: {told:#?}"
    );
    let requests = proxy.end();
    let during: Vec<f64> = requests
        .iter()
        .filter_map(|line| {
            line.strip_prefix("1 ")?
                .strip_suffix(tried)?
                .trim()
                .parse()
                .ok()
        })
        .collect();
    println!("{fault}: {tried} at {during:?} s");
    // half a second doubled until it is over 15 s is five times, of which each pause is any part
    assert!((2..=14).contains(&during.len()), "{fault}: {requests:?}");
    // the agent measures it, and its first request may reach the proxy late
    let waited = during[1] - during[0];
    assert!(waited >= wait * 0.9, "{fault}: {during:?}");
}

#[test]
fn a_connection_that_died_silently_is_replaced() {
    on_node_with_agent(|node| {
        let port = "7470";
        let mut proxy = Proxy::start(cluster(), "faults", &[port]);
        proxy.tell("pass");
        let agent = Agent::start_at(node, cluster(), "half-open", port, &[]).ready();
        // what is open says no more; what is opened from now on works
        let nft = |script: String| inside(&cluster().netns, || run("nft", &["-f", "-"], &script));
        nft(format!(
            "add table ip half-open
             add chain ip half-open output {{ type filter hook output priority mangle; }}
             add rule ip half-open output tcp dport {port} tcp flags & (syn | ack) == syn ct mark set 1
             add rule ip half-open output tcp dport {port} ct mark != 1 drop
             add rule ip half-open output tcp sport {port} ct mark != 1 drop"
        ));
        let pod = cluster().create_pod_on("half-open", "defaults", "half-open");
        let started = Instant::now();
        until_within(
            90,
            || agent.metric("mesh_optin_cached_pods") == 1.0,
            || agent.get("/metrics"),
        );
        println!("it was noticed after {} s", started.elapsed().as_secs());
        nft("delete table ip half-open".into());
        let lab = node.pod("a", V4);
        let call = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        let log = agent.end(Signal::SIGTERM);
        let told: Vec<_> = log
            .lines()
            .filter(|l| l.contains("watching pods"))
            .collect();
        assert!(told.len() <= 2, "{told:#?}");
    });
}

#[test]
fn an_agent_is_ready_again_once_its_watches_resume() {
    let cluster = Cluster::start_with_team_a();
    cluster.apply_crds();
    cluster.create(
        "/apis/meshoptin.dev/v1alpha1/meshprofiles",
        &profile(&json!({})),
    );
    on_node_with_agent(|node| {
        let port = "7471";
        let start_proxy = |fault: &str| {
            let mut proxy = Proxy::start(&cluster, "faults", &[port]);
            proxy.tell(fault);
            proxy
        };
        let proxy = start_proxy("pass");
        let agent = Agent::start_at(node, &cluster, "resumes", port, &[]).ready();
        drop(proxy);
        let proxy = start_proxy("pass");
        // a watch that resumes sends nothing until something changes
        std::thread::sleep(Duration::from_secs(75));
        assert_eq!(agent.get("/readyz"), "ready\n");
        drop(proxy);
        let mut proxy = start_proxy("answer watch 403");
        let readyz = || agent.get("/readyz");
        let lost = || readyz().contains("the node's pods could not be followed");
        until_within(120, lost, readyz);
        assert!(!readyz().contains("MeshProfiles"), "{}", readyz());
        proxy.tell("pass");
        until_within(90, || readyz() == "ready\n", readyz);
    });
}
