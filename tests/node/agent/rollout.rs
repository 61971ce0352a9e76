//! The DaemonSet itself, rolled out and back by the cluster's own controllers while pods start.

use std::{
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::daemonset::{DAEMONSET, daemonset, roll_back, with_agent};
use crate::{
    Scenario, alone, enrolled, lands_at_the_sidecar,
    support::{
        beside,
        stack::{MULTUS_FAILURES, Stack},
        stack_pod::Pod,
    },
};

pub(super) const SCENARIO: Scenario = alone(
    "the DaemonSet is rolled out and back, past versions that do not get ready, and there is always an agent",
    |s| {
        with_agent(s, |agent| {
            agent.delete(); // the DaemonSet's own takes its place
            let mut object = daemonset(s);
            object["spec"]["minReadySeconds"] = json!(2);
            s.cluster
                .create(DAEMONSET.rsplit_once('/').unwrap().0, &object);
            rolled_out(s);
            enrolled(s, "rolling");
            let Meanwhile {
                pods,
                blocked,
                looks,
                away,
            } = meanwhile(s, "rolling", || {
                // another version that gets ready
                change(s, &json!({"metadata": {"annotations": {"version": "2"}}}));
                rolled_out(s);
                // one that cannot be pulled, one that never gets ready: the API server is elsewhere; and one that fails its self-test,
                // beside which the earlier one works for a minute, or for ten where tests may be long
                #[allow(clippy::disallowed_methods, reason = "tests/run says it")]
                let is_long = std::env::var_os("LONG").is_some();
                let beside = if is_long { 600 } else { 60 };
                let mut unable =
                    object["spec"]["template"]["spec"]["containers"][0]["securityContext"].clone();
                unable["capabilities"]["add"] = json!(["SYS_ADMIN", "DAC_OVERRIDE"]);
                for (bad, seconds) in [
                    (json!({"image": "stack.test/none:1"}), 10),
                    (json!({"args": with_arg(&object, "--api-port=1")}), 10),
                    (json!({"securityContext": unable}), beside),
                ] {
                    let mut container = object["spec"]["template"]["spec"]["containers"][0].clone();
                    for (key, value) in bad.as_object().unwrap() {
                        container[key] = value.clone();
                    }
                    change(s, &json!({"spec": {"containers": [container]}}));
                    std::thread::sleep(Duration::from_secs(seconds));
                    let status = status(s);
                    assert_eq!(
                        (&status["numberAvailable"], &status["numberReady"]),
                        (&json!(1), &json!(1)),
                        "the earlier one stays: {status}"
                    );
                    roll_back(s, "mesh-optin-agent");
                    rolled_out(s);
                }
            });
            assert_eq!(away, 0, "of {looks} looks, this number found no agent");
            s.note(format!(
                "the DaemonSet was rolled out four times, and back three times: {pods} pods redirected meanwhile, {blocked} of their connections failed as they must, an agent at each of {looks} looks"
            ));
            enrolled(s, "killing");
            let Meanwhile {
                pods,
                blocked,
                looks,
                away,
            } = meanwhile(s, "killing", || {
                std::thread::sleep(Duration::from_secs(2));
                agent.kill();
                std::thread::sleep(Duration::from_secs(10));
                rolled_out(s);
            });
            assert!(away > 0, "the agent was killed");
            s.note(format!(
                "the DaemonSet's agent was killed: {pods} pods redirected meanwhile, {blocked} of their connections failed as they must, no agent at {away} of {looks} looks"
            ));
            let deleted = json!({"propagationPolicy": "Foreground"});
            s.cluster.request("DELETE", DAEMONSET, &deleted).unwrap();
            let gone = s.wait_for(|| {
                s.cluster
                    .request("GET", DAEMONSET, &Value::Null)
                    .is_err()
                    .then_some(())
            });
            assert!(gone.is_some());
            agent.create();
            agent.ready();
        });
    },
);

fn status(s: &Stack) -> Value {
    s.cluster.request("GET", DAEMONSET, &Value::Null).unwrap()["status"].take()
}

fn change(s: &Stack, template: &Value) {
    s.cluster
        .patch(DAEMONSET, &json!({"spec": {"template": template}}));
}

fn with_arg(object: &Value, arg: &str) -> Value {
    let mut args = object["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    args.as_array_mut().unwrap().push(json!(arg));
    args
}

/// Waits until every node has the version that is asked for, as `kubectl rollout status` does. With the chart's `minReadySeconds` that takes
/// more than half a minute.
pub(super) fn rolled_out(s: &Stack) {
    let is_done = || {
        let object = s.cluster.request("GET", DAEMONSET, &Value::Null).ok()?;
        let status = &object["status"];
        let all = status["desiredNumberScheduled"] == 1
            && status["updatedNumberScheduled"] == 1
            && status["numberAvailable"] == 1;
        (all && status["observedGeneration"] == object["metadata"]["generation"]).then_some(())
    };
    assert!(s.wait_for(is_done).is_some(), "{}", status(s));
    // the one that was replaced ends
    let pods = || {
        let list = s
            .cluster
            .request("GET", "/api/v1/namespaces/mesh-optin/pods", &Value::Null);
        list.unwrap()["items"].as_array().unwrap().len()
    };
    assert!(s.wait_for(|| (pods() == 1).then_some(())).is_some());
}

/// What happened meanwhile.
pub(super) struct Meanwhile {
    /// Pods that were redirected: all that were created.
    pub(super) pods: u32,
    /// Their connections that the sidecar does not let through, each of which failed.
    pub(super) blocked: usize,
    /// How often an agent was looked for.
    pub(super) looks: u32,
    /// How often there was none.
    pub(super) away: u32,
}

/// Does `work` while pods of a namespace start and an agent is looked for.
pub(super) fn meanwhile(s: &Stack, namespace: &str, work: impl FnOnce()) -> Meanwhile {
    let churned = || beside(|stop| churn(s, namespace, stop), work);
    let ((looks, away), ((pods, blocked), ())) = beside(|stop| without_a_socket(s, stop), churned);
    Meanwhile {
        pods,
        blocked,
        looks,
        away,
    }
}

/// Looks for an agent every few milliseconds: how often, and how often there was none.
fn without_a_socket(s: &Stack, stop: &AtomicBool) -> (u32, u32) {
    let socket = s.path("/run/mesh-optin/agent.sock");
    let (mut looks, mut away) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        looks += 1;
        away += u32::from(UnixStream::connect(&socket).is_err());
        std::thread::sleep(Duration::from_millis(5));
    }
    (looks, away)
}

/// Starts pods of a namespace one after the other, each of which is redirected: how many, and how many of their connections had to fail and
/// did.
fn churn(s: &Stack, namespace: &str, stop: &AtomicBool) -> (u32, usize) {
    let (mut count, mut blocked) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let pod = Pod::new(namespace, &format!("p{count}"), "mesh");
        let started = Instant::now();
        s.create(&pod);
        lands_at_the_sidecar(s, &pod);
        let took_long = started.elapsed() > Duration::from_secs(60);
        only_multus_failed(&s.events(&pod), took_long);
        blocked += s.all_blocked(&pod);
        s.mark_deleted(&pod);
        count += 1;
    }
    (count, blocked)
}

/// Fails if an attempt at a sandbox that failed got further than Multus. Nothing else may make a pod take long.
fn only_multus_failed(events: &[(String, String)], took_long: bool) {
    let mut failures = events
        .iter()
        .filter(|(reason, _)| reason == "FailedCreatePodSandBox")
        .peekable();
    assert!(
        !took_long || failures.peek().is_some(),
        "it took long: {events:?}"
    );
    // an agent before 0.3.0 renames its program before it closes it: text file busy, says the kernel in that moment
    let all_known = [&MULTUS_FAILURES[..], &["exec: already started"]].concat();
    let is_known =
        |(_, message): &(String, String)| all_known.iter().any(|known| message.contains(known));
    assert!(failures.all(is_known), "it was tried again: {events:?}");
}
